"""Damaged pages of the database: said aloud, with what and where; what can be read goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from taquba_workflow_sync import Queue, RunSpec, RunState, StorageError, Succeed, WorkflowClient, WorkflowRuntime
from taquba_workflow_sync.storage.relational.sql.names import JOB
from tests.queue.support import PATIENCE, wait_until
from tests.storage.embedded.pages import damage, pages_with, root_of

pytestmark = pytest.mark.embedded

RUNS = 45
LARGE = 20_000


def _payload(number: int, size: int) -> bytes:
    return (b"payload of run %03d;" % number) * (size // 20)


@pytest.fixture
def make(tmp_path: Path) -> Callable[[int], Path]:
    def make(size: int) -> Path:
        root = tmp_path / "store"
        with Queue.open(root, durability="relaxed") as queue:
            WorkflowClient(queue).submit_many(
                [RunSpec(run_id=f"run-{number:03}", input=_payload(number, size)) for number in range(RUNS)]
            )
        return root

    return make


def _ended(queue: Queue) -> set[str]:
    return {status.run_id for status in WorkflowClient(queue).list_runs(RunState.SUCCEEDED).runs}


def test_one_damaged_overflow_page_does_not_block_44_other_runs(make: Callable[[int], Path]) -> None:
    root = make(LARGE)
    inner = pages_with(root, b"payload of run 020;")[2]
    damage(root, inner)
    with Queue.open(root) as queue:
        counts = WorkflowRuntime(queue, lambda step: Succeed()).run_until_idle(PATIENCE)
        status = WorkflowClient(queue).status("run-020")
    assert (counts.succeeded, counts.dead) == (RUNS - 1, 1)
    assert status is not None and status.state is RunState.FAILED
    assert "damaged" in (status.error or "")


def _damage_some_rows(root: Path) -> None:
    [page] = set(pages_with(root, b"run-020")) & set(pages_with(root, b"payload of run 020;"))
    damage(root, page)


def test_run_until_idle_over_rows_on_a_damaged_page_does_the_others_and_then_raises_naming_them(
    make: Callable[[int], Path],
) -> None:
    root = make(300)
    _damage_some_rows(root)
    with Queue.open(root) as queue:
        with pytest.raises(StorageError, match="part of the store cannot be read") as raised:
            WorkflowRuntime(queue, lambda step: Succeed()).run_until_idle(PATIENCE)
        text = str(raised.value)
        ended = queue.stats("workflow-steps").done
        assert "damaged page" in text and "job 0" in text
        assert 0 < ended < RUNS
        assert ended + text.count("is left alone") == RUNS
        # Again and again, and never as if there were nothing to do.
        with pytest.raises(StorageError, match="damaged page"):
            WorkflowRuntime(queue, lambda step: Succeed()).run_until_idle(timeout=5)


def test_a_runtime_over_rows_on_a_damaged_page_does_the_others_and_says_so(
    make: Callable[[int], Path], caplog: pytest.LogCaptureFixture
) -> None:
    root = make(300)
    _damage_some_rows(root)
    with Queue.open(root) as queue, caplog.at_level(logging.ERROR):
        with WorkflowRuntime(queue, lambda step: Succeed()) as runtime:
            more = runtime.submit(run_id="more").result(timeout=PATIENCE)
            assert more == b""
            wait_until(lambda: "damaged page" in caplog.text, "the error")
    named = [each for each in caplog.records if "is left alone" in each.message]
    assert 0 < len(named) < RUNS, "each is said once"


@pytest.mark.parametrize("what", [JOB, "taquba_job_pending"])
@pytest.mark.parametrize("timeout", [None, 5.0], ids=["without a timeout", "with one"])
def test_run_until_idle_on_a_database_whose_line_cannot_be_read_raises(
    make: Callable[[int], Path], what: str, timeout: float | None
) -> None:
    root = make(300)
    damage(root, root_of(root, what))
    with Queue.open(root) as queue:
        with pytest.raises(StorageError, match="damaged"):
            WorkflowRuntime(queue, lambda step: Succeed()).run_until_idle(timeout)


def test_check_names_a_damaged_page(make: Callable[[int], Path]) -> None:
    root = make(300)
    _damage_some_rows(root)
    with Queue.open(root) as queue:
        report = queue.check()
    assert not report.ok
    assert report.problems
