"""Every error of DESIGN 5.4, raised where a user meets it; each can be pickled."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import taquba_workflow_sync as taquba
from taquba_workflow_sync import (
    Cancel,
    CancelRequestedError,
    ClaimLostError,
    DuplicateJobIdError,
    EffectConflictError,
    Effects,
    EffectsSealedError,
    Fail,
    InputMismatchError,
    InvalidNameError,
    InvalidRunIdError,
    InvalidStateError,
    InvalidStepHeaderError,
    JobNotFoundError,
    MissingHeaderError,
    PayloadTooLargeError,
    PermanentFailure,
    Queue,
    ReservedHeaderError,
    RunCancelledError,
    RunFailedError,
    RunNotFoundError,
    RunOutcome,
    RunSpec,
    SchemaVersionError,
    Step,
    StepError,
    StepErrorKind,
    StepOutcome,
    StorageError,
    StoreClosedError,
    StoreInUseError,
    Succeed,
    TaqubaError,
    TerminalStatus,
    UnsupportedFilesystemError,
    WorkflowClient,
    WorkflowRuntime,
    run_worker,
)
from taquba_workflow_sync.storage.relational.sql.names import META
from taquba_workflow_sync.testing import ScriptedRunner
from tests.queue.support import START, claimed, corrupt, working
from tests.support import PATIENCE, wait_until

STEPS = "workflow-steps"


def closed(queue: Queue, path: Path) -> None:
    queue.close()
    queue.list_queues()


def in_use(queue: Queue, path: Path) -> None:
    Queue.open(queue.path, exclusive=True)


def not_a_directory(queue: Queue, path: Path) -> None:
    (path / "file").write_text("not a directory")
    Queue.open(path / "file")


def newer_schema(queue: Queue, path: Path) -> None:
    corrupt(queue, f"UPDATE {META} SET value = value + 1 WHERE key = 'schema'")
    Queue.open(queue.path)


def bad_name(queue: Queue, path: Path) -> None:
    queue.enqueue("", b"")


def bad_run_id(queue: Queue, path: Path) -> None:
    WorkflowClient(queue).submit(run_id="no good")


def too_large(queue: Queue, path: Path) -> None:
    queue.enqueue("q", b"", headers={"h": "x" * 70_000})


def duplicate(queue: Queue, path: Path) -> None:
    queue.enqueue("q", b"", job_id="taken")
    queue.enqueue("q", b"", job_id="taken")


def job_not_found(queue: Queue, path: Path) -> None:
    queue.requeue_dead_job("nobody")


def wrong_state(queue: Queue, path: Path) -> None:
    queue.requeue_dead_job(queue.enqueue("q", b""))


def claim_lost(queue: Queue, path: Path) -> None:
    queue.enqueue("q", b"")
    claim = claimed(queue)
    queue.ack(claim)
    queue.ack(claim)


def cancel_requested(queue: Queue, path: Path) -> None:
    job_id = queue.enqueue("q", b"")
    claim = claimed(queue)
    queue.cancel(job_id)
    queue.advance(claim, b"")


def reserved(queue: Queue, path: Path) -> None:
    WorkflowClient(queue).submit(headers={"workflow.mine": "1"})


def mismatch(queue: Queue, path: Path) -> None:
    WorkflowClient(queue).submit(run_id="daily", input=b"1")
    WorkflowClient(queue).submit(run_id="daily", input=b"2")


def conflicting(queue: Queue, path: Path) -> None:
    effects = Effects()
    effects.compare_put("version", b"6", b"7")
    queue.commit(effects)


def sealed(queue: Queue, path: Path) -> None:
    kept: list[Effects] = []

    def run_step(step: Step) -> StepOutcome:
        kept.append(step.effects)
        return Succeed()

    runtime = WorkflowRuntime(queue, run_step)
    runtime.submit()
    runtime.run_until_idle(PATIENCE)
    kept[0].put("too", b"late")


def run_not_found(queue: Queue, path: Path) -> None:
    WorkflowClient(queue).wait("nobody", 1)


def run_failed(queue: Queue, path: Path) -> None:
    runtime = WorkflowRuntime(queue, ScriptedRunner([Fail("the verdict")]))
    handle = runtime.submit()
    runtime.run_until_idle(PATIENCE)
    handle.result(0)


def run_cancelled(queue: Queue, path: Path) -> None:
    runtime = WorkflowRuntime(queue, ScriptedRunner([Cancel("the reason")]))
    handle = runtime.submit()
    runtime.run_until_idle(PATIENCE)
    handle.result(0)


def missing_header(queue: Queue, path: Path) -> None:
    from taquba_workflow_sync import WebhookWorker

    queue.enqueue("w", b"")
    claim = claimed(queue, "w")
    WebhookWorker().process(claim.job, claim)


RAISED: dict[type[TaqubaError], tuple[Callable[[Queue, Path], None], str]] = {
    StoreClosedError: (closed, "open it again"),
    StoreInUseError: (in_use, r"process \d+"),
    StorageError: (not_a_directory, "file"),
    SchemaVersionError: (newer_schema, "upgrade"),
    InvalidNameError: (bad_name, "1 to 255"),
    InvalidRunIdError: (bad_run_id, "'no good'"),
    PayloadTooLargeError: (too_large, "65536"),
    DuplicateJobIdError: (duplicate, "'taken'"),
    JobNotFoundError: (job_not_found, "'nobody'"),
    InvalidStateError: (wrong_state, "pending"),
    ClaimLostError: (claim_lost, "not held any more"),
    CancelRequestedError: (cancel_requested, "cancel"),
    ReservedHeaderError: (reserved, "'workflow.mine'"),
    InputMismatchError: (mismatch, "'daily'"),
    EffectConflictError: (conflicting, "'version' was expected to hold a value, and holds nothing"),
    EffectsSealedError: (sealed, "has returned"),
    RunNotFoundError: (run_not_found, "'nobody'"),
    RunFailedError: (run_failed, "the verdict"),
    RunCancelledError: (run_cancelled, "the reason"),
    MissingHeaderError: (missing_header, "webhook.url"),
}


@pytest.mark.parametrize("error", RAISED, ids=lambda error: error.__name__)
def test_it_is_raised_where_a_user_meets_it_with_a_message_that_helps(
    queue: Queue, tmp_path: Path, error: type[TaqubaError]
) -> None:
    provoke, text = RAISED[error]

    with pytest.raises(error, match=text) as caught:
        provoke(queue, tmp_path)

    assert type(caught.value) is error
    copied = pickle.loads(pickle.dumps(caught.value))
    assert (type(copied), str(copied), copied.is_permanent) == (error, str(caught.value), caught.value.is_permanent)
    if isinstance(caught.value, (RunFailedError, RunCancelledError)):
        assert copied.outcome == caught.value.outcome


def test_an_unsafe_filesystem_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from taquba_workflow_sync.storage.embedded import filesystem

    assert issubclass(UnsupportedFilesystemError, TaqubaError)
    names = [name for name in vars(filesystem) if "filesystem" in name and callable(getattr(filesystem, name))]
    kind = next((name for name in names if name not in ("check_filesystem", "UnsupportedFilesystemError")), None)
    assert kind is not None, "no function that names a filesystem to replace"
    monkeypatch.setattr(filesystem, kind, lambda *args, **kwargs: "nfs4")
    with pytest.raises(UnsupportedFilesystemError, match="nfs"):
        Queue.open(tmp_path / "s")


def test_a_permanent_failure_of_a_worker_reaches_the_record(queue: Queue) -> None:
    def worker(job: object, claim: object) -> None:
        raise PermanentFailure("no use")

    job_id = queue.enqueue("q", b"")
    with working(queue, "q", worker):
        wait_until(lambda: queue.stats("q").dead == 1)
    record = queue.get_job(job_id)
    assert record is not None and record.last_error == "no use"


@pytest.mark.parametrize(
    ("headers", "error"),
    [({}, MissingHeaderError), ({"workflow.run_id": "r", "workflow.step": "x"}, InvalidStepHeaderError)],
)
def test_the_header_errors_reach_the_record(queue: Queue, headers: dict[str, str], error: type[TaqubaError]) -> None:
    queue.enqueue(STEPS, b"", headers=headers)
    WorkflowRuntime(queue, ScriptedRunner([])).run_until_idle(PATIENCE)

    (letter,) = queue.dead_jobs(STEPS).jobs
    assert letter.last_error is not None and letter.last_error.startswith(f"{error.__name__}: ")


def test_a_store_in_use_names_the_holder(tmp_path: Path) -> None:
    import os

    with Queue.open(tmp_path / "s", exclusive=True):
        for exclusive in (True, False):
            with pytest.raises(StoreInUseError, match=str(os.getpid())):
                Queue.open(tmp_path / "s", exclusive=exclusive)
    Queue.open(tmp_path / "s").close()


OUTCOME = RunOutcome("r", TerminalStatus.FAILED, None, "why", {"h": "1"}, 2, "job", 1, START)


def every_error() -> list[TaqubaError]:
    made: list[TaqubaError] = [StepError("m", kind) for kind in StepErrorKind]
    for name in taquba.__all__:
        kind = getattr(taquba, name)
        if isinstance(kind, type) and issubclass(kind, TaqubaError) and kind is not StepError:
            made.append(kind("message", OUTCOME) if kind in (RunFailedError, RunCancelledError) else kind("message"))
    return made


@pytest.mark.parametrize("error", every_error(), ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_every_error_survives_pickling_and_copying(error: TaqubaError, protocol: int) -> None:
    for again in (pickle.loads(pickle.dumps(error, protocol)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is type(error)
        assert (str(again), again.is_permanent) == (str(error), error.is_permanent)
        assert getattr(again, "outcome", None) == getattr(error, "outcome", None)
        assert getattr(again, "kind", None) == getattr(error, "kind", None)


@pytest.mark.parametrize("arguments", [(5,), (None,), (b"m",), ("m", "sometimes"), ("m", None), ("m", 1)])
def test_a_step_error_checks_its_arguments(arguments: tuple[object, ...]) -> None:
    with pytest.raises(TypeError):
        StepError(*arguments)  # type: ignore[arg-type]  # on purpose


def test_the_value_types_survive_pickling(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, ScriptedRunner([Fail("no")]))
    handle = runtime.submit(RunSpec(run_id="r", headers={"h": "1"}))
    runtime.run_until_idle(PATIENCE)
    values = [
        handle.status(), handle.wait(0), runtime.list_runs(), queue.get_job(handle.first_job_id), queue.stats(STEPS),
        queue.attempt_history(handle.first_job_id), queue.list_jobs(STEPS), RunSpec(run_id="r", headers={"h": "1"}),
    ]  # fmt: skip

    assert pickle.loads(pickle.dumps(values)) == values


def test_a_worker_refuses_to_run_with_wrong_arguments(queue: Queue) -> None:
    with pytest.raises(TypeError, match="worker"):
        run_worker(queue, "q", 5, shutdown=threading.Event())  # type: ignore[arg-type]  # on purpose
