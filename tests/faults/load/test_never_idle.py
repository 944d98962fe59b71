"""What a worker does beside its work, it does also when it never comes to rest."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from taquba_workflow_sync import Queue, RunSpec, Step, StepOutcome, Succeed, WorkflowRuntime
from taquba_workflow_sync.storage.relational.sql.names import JOB
from taquba_workflow_sync.testing import ManualClock
from tests.faults.checker import looking_at
from tests.support import PATIENCE, no_thread_left_behind, wait_until

_EXPIRED = 8_000
_BUSY_WITH = 24_000
_KEPT = 60.0  # the shortest there is


def test_rows_past_their_retention_piled_up_under_a_worker_that_is_never_idle(tmp_path: Path) -> None:
    """It removed 500 a second at most, and ended thousands: the table grew for as long as the work lasted.

    The last run in line looks how many of the old rows are left, so a slow machine gives the worker more time.
    """
    clock = ManualClock()
    left: list[int] = []

    def expired() -> int:
        with looking_at(tmp_path / "store") as connection:
            statement = f"SELECT count(*) FROM {JOB} WHERE expires_ms <= ?"
            number: int = connection.execute(statement, (int(clock.now().timestamp() * 1000),)).fetchone()[0]
        return number

    def run_step(step: Step) -> StepOutcome:
        if step.run_id == "last":
            left.append(expired())
        return Succeed()

    with no_thread_left_behind(), Queue.open(tmp_path / "store", durability="relaxed", clock=clock) as queue:
        runtime = WorkflowRuntime(queue, run_step, keep_runs=_KEPT)
        runtime.submit_many([RunSpec()] * _EXPIRED)
        assert runtime.run_until_idle().succeeded == _EXPIRED
        clock.advance(timedelta(hours=1))
        runtime.submit_many([*[RunSpec()] * _BUSY_WITH, RunSpec(run_id="last")])
        with runtime:
            runtime.wait("last", timeout=2 * PATIENCE)
            wait_until(lambda: not expired(), "the end of the old rows")
    assert left[0] <= _EXPIRED // 3, f"{left[0]} of {_EXPIRED} old rows were left after {_BUSY_WITH} runs"
