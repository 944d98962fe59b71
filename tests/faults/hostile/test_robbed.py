"""A database cut, swapped, removed or locked away under a running worker: an error or recovery, no crash, no spin."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from taquba_workflow_sync import StorageError
from taquba_workflow_sync.queue.dispatch.heartbeat import Heartbeat
from tests.faults.hostile.robbed import LIMIT, NOBODY, ROBBERIES, rob
from tests.faults.hostile.stage import listening

MODES = [name for name in ROBBERIES if "mode" in name]
#: The long form robs in every way, and busy workers too.
SOME = [
    "the database cut to nothing", "the database cut in its header", "the database cut in a page",
    "the database removed",
    "the database overwritten with another store's", "the database scribbled over", "the db directory swapped",
    "the log cut in a frame", "the log scribbled over", "the shared memory scribbled over",
    "the owners directory removed",
]  # fmt: skip


@pytest.mark.parametrize("name", SOME)
def test_a_worker_that_is_robbed_says_so_and_ends_when_asked(tmp_path: Path, name: str) -> None:
    wrong = rob(name, tmp_path)
    assert not wrong, "\n".join(wrong)


@pytest.fixture
def of_nobody() -> Iterator[Path]:
    """A directory that a user without rights can reach: pytest's own lie below one that is root's."""
    directory = Path(tempfile.mkdtemp(prefix="taquba-hostile-"))
    yield directory
    shutil.rmtree(directory)


@pytest.mark.parametrize("name", MODES)
def test_a_worker_whose_rights_are_taken_away_says_so(of_nobody: Path, name: str) -> None:
    # The superuser is bound by no mode.
    wrong = rob(name, of_nobody, user=NOBODY if os.getuid() == 0 else None)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "name", ["the log removed", "the database replaced by another store's", "the db directory swapped"]
)
def test_what_is_acknowledged_after_a_robbery_survives_a_kill(tmp_path: Path, name: str) -> None:
    wrong = rob(name, tmp_path, kill=True)
    assert not wrong, "\n".join(wrong)


def test_a_heartbeat_that_fails_does_not_flood_the_log() -> None:
    beats, enough = [0], threading.Event()

    def fail(*_: object, **__: object) -> Any:
        beats[0] += 1
        if beats[0] >= 7:
            enough.set()
        raise StorageError("gone")

    handle: Any = SimpleNamespace(store=SimpleNamespace(wait_for_changes=fail, renew=fail, running=fail))
    step: Any = SimpleNamespace(lane=SimpleNamespace(lease_ms=30_000), is_lost=False, renewed_at=0.0, row=None)
    step.row = SimpleNamespace(token="x.1.1")
    heartbeat = Heartbeat(handle, lambda: [step], "hostile-heartbeat")
    with listening() as records:
        heartbeat.wake()
        try:
            assert enough.wait(LIMIT)
        finally:
            heartbeat.stop()
    assert 1 <= len(records.lines) <= 3, records.kinds()
