"""Runners that do what no runner should: each comes to a clear end, the others go on, and nothing is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from taquba_workflow_sync.storage.relational.sql.names import ATTEMPT, JOB
from tests.faults.checker import looking_at
from tests.faults.figures import Figures
from tests.faults.journal import Journal
from tests.faults.load.misbehaviour import BAD, BROOD, GOOD, MISDEEDS
from tests.faults.storm import settle
from tests.processes.harness import FORK_WITH_THREADS, Child, Stage, staged

_THROUGH = "succeeded 0 1 2"


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    yield from staged(tmp_path)


@pytest.fixture
def journal(stage: Stage) -> Iterator[Journal]:
    journal = Journal(stage.directory / "log")
    yield journal
    journal.close()


def start(stage: Stage, journal: Journal, scenario: str, *warnings: str) -> Child:
    errors = stage.directory / f"stderr-{len(stage.children)}"
    module = "tests.faults.load.misbehaviour"
    child = Child(module, [stage.store, journal.path, scenario], errors=errors, warnings=warnings)
    stage.children.append(child)
    return child


def see_to_the_end(stage: Stage, journal: Journal) -> Figures:
    """Do what is left, as the next process that starts would, and look at every invariant."""
    return settle(stage.store, journal, part="runners")


def said(child: Child, word: str) -> list[str]:
    """Return what followed the word in each line that begins with it."""
    return [" ".join(words) for words in child.said(word)]


def attempts_of(root: Path, run: str) -> list[tuple[int, int, str]]:
    """Return step, attempt and outcome of each settled claim of a run."""
    with looking_at(root) as connection:
        return [
            tuple(row)
            for row in connection.execute(
                f"""SELECT a.step, a.attempt, a.outcome FROM {ATTEMPT} AS a JOIN {JOB} AS j ON a.job = j.seq
                   WHERE j.run_id = ? ORDER BY a.ordinal""",
                (run,),
            )
        ]


#: Of what the attempts of the bad run died, by the beginning of the text.
_ERRORS = {
    "raises_one_thing_after_another": [
        "KeyboardInterrupt", "SystemExit: enough", "GeneratorExit", "Odd: very", "StopIteration", "Unspeakable: (its",
        "ValueError: signal only works", "RecursionError: maximum",
    ],
    "lowers_the_recursion_limit": ["RecursionError: maximum"],
    "leaks_memory": ["MemoryError", "MemoryError"],
}  # fmt: skip


@pytest.mark.parametrize("misdeed", sorted(MISDEEDS))
def test_a_runner_that_misbehaves_ends_as_told_and_the_others_go_on(
    stage: Stage, journal: Journal, misdeed: str
) -> None:
    child = start(stage, journal, misdeed)
    child.ends_well()

    assert said(child, "bad") == [_THROUGH]
    errors = said(child, "error")
    wanted = _ERRORS.get(misdeed, [])
    assert len(errors) == len(wanted), errors
    assert [error[: len(start)] for error, start in zip(errors, wanted, strict=True)] == wanted
    figures = see_to_the_end(stage, journal)
    figures.assert_clean()
    assert figures.acknowledged == 1 + len(GOOD) + {"submits_many_and_waits": BROOD, "starts_another_runtime": 1}.get(
        misdeed, 0
    )
    if misdeed == "raises_as_it_is_collected":
        assert child.said("gone-off") and said(child, "unraisable") == ["RuntimeError"]


def test_a_process_without_descriptors_goes_on_and_its_callers_are_told(stage: Stage, journal: Journal) -> None:
    child = start(stage, journal, "leaks_descriptors")
    child.ends_well()

    assert said(child, "bad") == [_THROUGH]
    assert [error[:18] for error in said(child, "error")] == ["OSError: [Errno 24", "OSError: [Errno 24"]
    assert child.said("found") or child.said("refused")
    see_to_the_end(stage, journal).assert_clean()


def test_a_runner_that_changes_the_directory_of_a_relative_store_writes_to_the_same_one(
    stage: Stage, journal: Journal
) -> None:
    child = start(stage, journal, "changes_directory")
    child.ends_well()

    assert said(child, "bad") == [_THROUGH]
    see_to_the_end(stage, journal).assert_clean()


def test_a_runner_that_exits_its_process_is_repeated_by_the_next_one(stage: Stage, journal: Journal) -> None:
    child = start(stage, journal, "exits_at_once")
    assert child.ended() == 7

    see_to_the_end(stage, journal).assert_clean()
    assert attempts_of(stage.store, BAD)[:2] == [(0, 1, "reaped"), (0, 2, "continued")]


def test_a_runner_that_closes_the_queue_is_settled_and_what_waits_is_left_to_the_next(
    stage: Stage, journal: Journal
) -> None:
    child = start(stage, journal, "closes_the_queue")
    child.ends_well()

    assert child.said("closed")
    see_to_the_end(stage, journal).assert_clean()
    assert [attempt for _, attempt, _ in attempts_of(stage.store, BAD)] == [1, 1, 1], "its end was stored"


def test_a_runner_that_blocks_for_ever_costs_its_thread_and_its_process_can_end(stage: Stage, journal: Journal) -> None:
    child = start(stage, journal, "blocks_for_ever")
    assert child.ended() == 0

    assert said(child, "stopped") == ["False"]
    see_to_the_end(stage, journal).assert_clean()
    assert [attempt for _, attempt, _ in attempts_of(stage.store, BAD)] == [1, 2, 1, 1]


def test_a_child_that_comes_out_of_the_runner_does_not_settle_the_claim_of_its_parent(
    stage: Stage, journal: Journal
) -> None:
    parent = start(stage, journal, "forks_and_lets_both_go_on", FORK_WITH_THREADS)
    child = int(parent.hear("child")[0])
    parent.hear("through")
    try:
        assert said(parent, "bad") == [_THROUGH]
        assert said(parent, "error") == []
    finally:
        os.kill(child, signal.SIGKILL)
    parent.tell("end")
    parent.ends_well()
    see_to_the_end(stage, journal).assert_clean()
    assert attempts_of(stage.store, BAD) == [(0, 1, "continued"), (1, 1, "continued"), (2, 1, "succeeded")]


def test_a_runner_that_blocks_every_signal_does_not_keep_its_process_from_draining(
    stage: Stage, journal: Journal
) -> None:
    child = start(stage, journal, "ends_on_a_signal")
    child.ends_well()

    assert said(child, "bad") == [_THROUGH]
    see_to_the_end(stage, journal).assert_clean()
