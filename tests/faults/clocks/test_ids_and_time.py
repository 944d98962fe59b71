"""Ids ascend within a process and never repeat, while the wall clock steps under threads and across forks."""

from __future__ import annotations

import threading
import time
from itertools import chain, pairwise

import pytest

from taquba_workflow_sync.ids import UlidFactory
from tests.storage.embedded.raw import Child
from tests.support import in_thread

HOUR_NS = 3_600 * 10**9


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How far ahead the wall clock is, in nanoseconds: the item that the test may set."""
    offset = [0]
    real = time.time_ns
    monkeypatch.setattr("taquba_workflow_sync.ids.time.time_ns", lambda: real() + offset[0])
    return offset


def test_ids_ascend_in_each_thread_and_are_unique_over_all_while_the_clock_steps(ahead: list[int]) -> None:
    factory = UlidFactory()
    is_over = threading.Event()

    def make() -> list[str]:
        made = []
        while not is_over.is_set() and len(made) < 20_000:
            made.append(factory())
        return made

    joins = [in_thread(make) for _ in range(4)]
    for jump in (HOUR_NS, -HOUR_NS, 10**9, -(10**9), 0, -HOUR_NS):
        ahead[0] = jump
        time.sleep(0.01)  # some ids under each; nothing is decided by how many
    is_over.set()
    series = [join() for join in joins]
    assert all(earlier < later for made in series for earlier, later in pairwise(made))
    everything = list(chain(*series))
    assert len(everything) > 100
    assert len(set(everything)) == len(everything)
    assert all(len(each) == 26 for each in everything)


def test_ids_made_before_and_after_each_step_ascend(ahead: list[int]) -> None:
    factory = UlidFactory()
    made = []
    for jump in (0, HOUR_NS, 0, -HOUR_NS, HOUR_NS - 10**9, HOUR_NS + 10**9, -HOUR_NS):
        ahead[0] = jump
        made += [factory() for _ in range(50)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)


FORK = """
import os, time
real, offset = time.time_ns, [3_600 * 10**9]
time.time_ns = lambda: real() + offset[0]
from taquba_workflow_sync.ids import UlidFactory
factory = UlidFactory()
before = [factory() for _ in range(50)]
offset[0] = -offset[0]
child = os.fork()
mine = before * bool(child) + [factory() for _ in range(500)]
if child:
    assert os.waitpid(child, 0)[1] == 0
print(*mine, flush=True)
"""


def test_a_forked_child_repeats_no_id_of_its_parent_whatever_the_clock_says() -> None:
    """In an interpreter of its own: one with other threads must not fork."""
    with Child(FORK) as process:
        forked, parent = (process.read().split() for _ in range(2))
        assert process.wait() == 0
    assert (len(forked), len(parent)) == (500, 550)
    assert forked == sorted(forked) and parent == sorted(parent)
    assert len({*forked, *parent}) == 1_050
