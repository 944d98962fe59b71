"""A store that is gone under a runtime: said once loudly, not for ever softly; and a cron job does not call it idle."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from taquba_workflow_sync import Queue, QueueConfig, StorageError, Succeed, WorkflowRuntime
from taquba_workflow_sync.queue.dispatch import dispatcher

from .support import wait_until

pytestmark = pytest.mark.embedded


@pytest.fixture
def doomed(tmp_path: Path) -> Queue:
    return Queue.open(tmp_path / "doomed", default_config=QueueConfig(retry_backoff_base=0))


def delete(place: Path) -> None:
    """Delete a store at one blow: a runtime at work could put a file into a directory that is being emptied."""
    shutil.rmtree(place.rename(place.with_name("deleted")))


def test_a_store_directory_deleted_under_a_running_runtime_becomes_an_error_and_not_150_warnings(
    doomed: Queue, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "_LONGEST_BACKOFF", 0.01)
    monkeypatch.setattr(dispatcher, "_LAST_TRIES", 0.1)

    def said(level: int) -> list[str]:
        return [each.message for each in caplog.records if each.name == dispatcher.__name__ and each.levelno == level]

    with caplog.at_level(logging.WARNING):
        runtime = WorkflowRuntime(doomed, lambda step: Succeed())
        runtime.start()
        delete(doomed.path)
        wait_until(lambda: len(said(logging.ERROR)) >= 2, "the errors")
        runtime.stop()
    assert len(said(logging.WARNING)) == 1
    assert "(1 in a row)" in said(logging.WARNING)[0]
    assert "deleted, moved or replaced" in said(logging.ERROR)[0]
    assert all("(1 in a row)" not in text for text in said(logging.ERROR))
    doomed.close()


@pytest.mark.parametrize("timeout", [None, 0.5], ids=["without a timeout", "with one"])
def test_run_until_idle_on_a_store_that_is_gone_raises(
    doomed: Queue, monkeypatch: pytest.MonkeyPatch, timeout: float | None
) -> None:
    monkeypatch.setattr(dispatcher, "_LAST_TRIES", 0.2)
    runtime = WorkflowRuntime(doomed, lambda step: Succeed())
    runtime.submit()
    delete(doomed.path)
    with pytest.raises(StorageError, match="deleted, moved or replaced"):
        runtime.run_until_idle(timeout)
    doomed.close()
