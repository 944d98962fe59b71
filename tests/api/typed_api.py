"""Uses the public API as a typed program would; checked by mypy --strict, never run."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

from taquba_workflow_sync import (
    Cancel,
    CancelOutcome,
    Claim,
    Continue,
    ContinueAfter,
    EventKind,
    Fail,
    IfFinished,
    JobAttempt,
    JobPage,
    JobRecord,
    JobStatus,
    PermanentFailure,
    Queue,
    QueueConfig,
    QueueStats,
    RunCounts,
    RunEvent,
    RunFailedError,
    RunHandle,
    RunOutcome,
    RunPage,
    RunProgress,
    RunSpec,
    RunState,
    RunStatus,
    Step,
    StepError,
    StepOrder,
    StepOutcome,
    StepRunner,
    Succeed,
    TerminalHook,
    TerminalStatus,
    WebhookRequest,
    WebhookTarget,
    WebhookTerminalHook,
    WebhookWorker,
    WorkflowClient,
    WorkflowRuntime,
    enqueue_webhook,
    run_worker,
)
from taquba_workflow_sync.console import ACT, READ, Access
from taquba_workflow_sync.contrib.flask import Taquba, console_blueprint
from taquba_workflow_sync.testing import ManualClock, RecordingHook, ScriptedRunner


class Runner:
    def run_step(self, step: Step) -> StepOutcome:
        if step.cancel_token.is_set() or step.stopping.is_set():
            return Continue(step.payload)
        if step.is_last_attempt:
            raise StepError.permanent(f"{step.run_id} {step.step_number} {step.attempts}/{step.max_attempts}")
        match step.step_number:
            case 0:
                return ContinueAfter(b"", timedelta(seconds=1))
            case 1:
                return ContinueAfter(b"", 0.5)
            case 2:
                return Fail(step.headers.get("why", ""))
            case 3:
                return Cancel("enough")
        return Succeed(step.payload)


class Hook:
    def on_termination(self, outcome: RunOutcome) -> None:
        if outcome.status is TerminalStatus.SUCCEEDED:
            result: bytes | None = outcome.result
            print(result, outcome.finished_at.tzinfo, outcome.termination + 1)


class JobWorker:
    def process(self, job: JobRecord, claim: Claim) -> None:
        if claim.cancel_token.is_set() or job.payload == b"":
            raise PermanentFailure("empty")


def function_runner(step: Step) -> Succeed:
    return Succeed(step.payload)


def queues(path: Path) -> None:
    with Queue.open(
        path,
        default_config=QueueConfig(max_attempts=5, lease_duration=timedelta(minutes=1), keep_done_jobs=60),
        queue_configs={"q": QueueConfig(retry_jitter=True, dead_retention=None)},
        durability="relaxed",
        exclusive=True,
        max_payload_bytes=2**20,
        clock=ManualClock(),
    ) as queue:
        job_id: str = queue.enqueue("q", b"", run_at=datetime.now(UTC), headers={"h": "1"}, dedup_key="k")
        ids: list[str] = queue.enqueue_batch("q", [b"", b""])
        claim: Claim | None = queue.claim_with_wait("q", timedelta(seconds=1), lease=5)
        claims: list[Claim] = queue.claim_batch("q", 5)
        if claim is not None:
            until: datetime = queue.renew_lease(claim, 30)
            queue.advance(claim, b"", headers={}, delay=1.5)
            print(until)
        for each in claims:
            queue.ack(each)
            queue.nack(each, "error")
            queue.dead_letter(each, "error")
        outcome: CancelOutcome = queue.cancel(job_id)
        record: JobRecord | None = queue.get_job(ids[0])
        page: JobPage = queue.list_jobs("q", JobStatus.PENDING, limit=5, cursor=None)
        letters: list[JobRecord] = queue.dead_jobs("q", cursor=page.next_cursor).jobs
        stats: QueueStats = queue.stats("q")
        attempts: list[JobAttempt] = queue.attempt_history(job_id)
        names: list[str] = queue.list_queues()
        print(outcome, record, letters, stats.done + stats.dead, attempts, names)
        run_worker(queue, "q", JobWorker(), concurrency=2, shutdown=threading.Event())
        run_worker(queue, "q", lambda job, claim: None)
        run_worker(queue, "webhooks", WebhookWorker(secret="whsec_", allow=is_public))
        enqueue_webhook(queue, "webhooks", WebhookRequest("https://example.org/", headers={"a": "b"}, timeout=5), b"")


def is_public(target: WebhookTarget) -> bool:
    return target.address != "127.0.0.1" and target.port == 443 and (target.host, target.scheme) != ("h", "http")


def workflows(queue: Queue) -> None:
    runner: StepRunner = Runner()
    hook: TerminalHook = Hook()
    client = WorkflowClient(queue, queue_name="w", keep_runs=None)
    handles: list[RunHandle] = client.submit_many([RunSpec(run_id="r", input=b"", if_finished=IfFinished.RERUN)])
    with WorkflowRuntime(queue, runner, hook, shutdown_grace=5, step_order=StepOrder.OLDEST_RUN_FIRST) as runtime:
        handle: RunHandle = runtime.submit(RunSpec(input=b"hello"))
        try:
            result: bytes = handle.result(timeout=10)
        except RunFailedError as error:
            outcome: RunOutcome = error.outcome
            print(outcome)
        else:
            print(result, handle.newly_submitted, handle.first_job_id)
        status: RunStatus | None = runtime.status(handle.run_id)
        cancelled: bool = runtime.cancel(handle.run_id, reason="enough") or handle.cancel(reason=None)
        handle.retry(payload=b"other", memo="clear")
        counts_by_state: dict[RunState, int] = runtime.count_runs()
        many: int = runtime.cancel_many(prefix="a-", reason="closing") + runtime.retry_many(all=True)
        events: list[RunEvent] = runtime.history(handle.run_id)
        kinds: set[EventKind] = {event.kind for event in events}
        progress: RunProgress | None = None if status is None else status.progress
        print(counts_by_state, many, kinds, progress)
        page: RunPage = runtime.list_runs(RunState.FAILED, limit=5)
        print(status, cancelled, [run.current_step for run in page.runs], handles)
        stopped: bool = runtime.stop(timedelta(seconds=1))
        print(stopped)
    counts: RunCounts = WorkflowRuntime(queue, function_runner).run_until_idle(5, wait_for_scheduled=1)
    notifier = WebhookTerminalHook(queue, secret="whsec_", allow=is_public)
    built: WorkflowRuntime = (
        WorkflowRuntime.builder(queue, ScriptedRunner([Succeed()]), notifier)
        .queue_name("w")
        .max_concurrent_steps(4)
        .build()
    )
    WorkflowRuntime(queue, function_runner, print)
    WorkflowRuntime(queue, function_runner, RecordingHook()).run(threading.Event(), handle_signals=False)
    print(counts.steps, built.queue_name)


def who_may(request: object) -> Access | None:
    return ACT if request else READ


def mount_the_console(taquba: Taquba) -> str:
    blueprint = console_blueprint(taquba, authorize=who_may, name="staff")
    return blueprint.name
