"""Every public callable with good arguments, to be called with one or more of them replaced."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import taquba_workflow_sync as api
from taquba_workflow_sync import (
    Claim,
    InvalidStateError,
    JobNotFoundError,
    Queue,
    RunHandle,
    RunSpec,
    Step,
    StorageError,
    Succeed,
    WebhookRequest,
    WorkflowClient,
    WorkflowRuntime,
)

#: Not called by users, or never with what they could get wrong; each with its reason.
EXEMPT: Final[dict[str, str]] = {
    "Queue": "made by open",
    "Memo": "made by a step",
    "KeyValueStore": "made by a queue",
    "KeyValueView": "made by a step",
    "Memo.call.args": "the function's own",
    "Memo.call.kwargs": "the function's own",
    "content_key.parts": "takes whatever JSON can say; its tests have what it refuses",
    "RunHandle": "made by submit",
    "Group": "made by submit_group",
    "Step.transaction": "needs a server: tests/storage/postgres gives it what it must refuse",
    "WebhookWorker.process": "called by run_worker",
    "WebhookTerminalHook.on_termination": "called by the runtime",
    "WebhookTerminalHook.observes": "called by the runtime",
    "NoopTerminalHook.on_termination": "does nothing",
    "Effects.submit_group": "of a step alone, and checked as WorkflowClient.submit_group is",
    **dict.fromkeys(
        ("JobRecord", "JobAttempt", "JobPage", "QueueStats", "RunCounts", "RunOutcome", "RunPage", "RunStatus", "Step",
         "CheckReport", "Claim", "WebhookTarget", "KeyValuePage", "Signal", "Schedule", "RunProgress", "RunEvent",
         "Limit", "LimitUsage", "GroupStatus", "GroupPage", "Histogram", "MinuteActivity", "QueueMetrics",
         "StoreMetrics", "WorkerProcess", "RunningJob"),
        "a value that the library makes",
    ),
    **dict.fromkeys(("Clock", "StepRunner", "TerminalHook", "Worker"), "a protocol: users write it"),
}  # fmt: skip


def _parameters(call: Any) -> list[str]:
    found = inspect.signature(call).parameters.values()
    return [each.name for each in found if each.name not in ("self", "cls")]


def public_parameters() -> set[str]:
    """Return "callable.parameter" for everything in ``__all__`` and the public methods of its classes."""
    found: set[str] = set()
    for name in api.__all__:
        one = getattr(api, name)
        if inspect.isclass(one):
            if issubclass(one, enum.Enum) or (issubclass(one, Exception) and one is not api.StepError):
                continue
            if name not in EXEMPT and (dataclasses.is_dataclass(one) or "__init__" in vars(one)):
                found |= {f"{name}.{each}" for each in _parameters(one)}
            if EXEMPT.get(name, "").startswith("a protocol"):
                continue
            for method, _ in inspect.getmembers(one, callable):
                if method.startswith("_") or f"{name}.{method}" in EXEMPT or inspect.isclass(getattr(one, method)):
                    continue
                if issubclass(one, (Exception, tuple)) and method not in vars(one):
                    continue
                found |= {f"{name}.{method}.{each}" for each in _parameters(getattr(one, method))}
        elif callable(one):
            found |= {f"{name}.{each}" for each in _parameters(one)}
    return {each for each in found if each not in EXEMPT}


class World(NamedTuple):
    """What the calls are made on."""

    queue: Queue
    directory: Path
    claim: Claim
    handle: RunHandle
    step: Step


class Call(NamedTuple):
    """How to call something, and a good value of each argument; those named ``optional`` may be left out."""

    do: Callable[..., Any]
    good: dict[str, Callable[[World], Any]]


def _set_event(_: World) -> threading.Event:
    event = threading.Event()
    event.set()
    return event


def _client(world: World) -> WorkflowClient:
    return WorkflowClient(world.queue)


def _runtime(world: World) -> WorkflowRuntime:
    return WorkflowRuntime(world.queue, lambda step: Succeed())


def _value(value: Any) -> Callable[[World], Any]:
    return lambda _: value


_NAME = _value("workflow-steps")
_OTHER = _value("other")
_NONE = _value(None)
_QUEUE: Callable[[World], Any] = lambda world: world.queue  # noqa: E731  # one of a family of functions
_CLAIM: Callable[[World], Any] = lambda world: world.claim  # noqa: E731
_RUNNER = _value(lambda step: Succeed())
_MOMENT = _value(datetime(2026, 1, 1, tzinfo=UTC))
_JOB_ID = _value("no-such-job")
_SPEC_FIELDS: dict[str, Callable[[World], Any]] = {
    "input": _value(b""), "run_id": _NONE, "headers": lambda _: {}, "priority": _NONE, "max_attempts_per_step": _NONE,
    "run_at": _NONE, "if_finished": _value("keep"), "effects": _NONE, "label": _NONE, "backoff": _NONE,
    "step_timeout": _NONE, "deadline": _NONE, "expires_after": _NONE, "limit_key": _value("key"),
}  # fmt: skip
_OF_NEXT_STEP: dict[str, Callable[[World], Any]] = {
    "label": _NONE, "max_attempts": _NONE, "backoff": _NONE, "priority": _NONE, "step_timeout": _NONE,
}  # fmt: skip
_RUNTIME: dict[str, Callable[[World], Any]] = {
    "queue": _QUEUE, "runner": _RUNNER, "terminal_hook": _NONE, "queue_name": _NAME, "max_concurrent_steps": _value(2),
    "poll_interval": _value(0.25), "keep_runs": _value(60), "shutdown_grace": _NONE, "step_order": _value("fair"),
}  # fmt: skip


def _open(world: World, **given: Any) -> None:
    Queue.open(**given).close()


def _restore(world: World, **given: Any) -> None:
    if not (world.directory / "kept").exists():
        world.queue.backup(world.directory / "kept")
    Queue.restore(**given)


def _drop(world: World, **given: Any) -> None:
    with suppress(JobNotFoundError):  # there is none
        world.queue.drop_dead_job(**given)


def _temporary(world: World, address: Any, options: Any) -> None:
    Queue.temporary(address=address, durability="relaxed", clock=options).close()


def _submit(world: World, spec: Any, fields: Any, connection: Any, notify: Any) -> None:
    given = {} if fields is None else {"input": fields}
    _client(world).submit(spec, connection=connection, notify=notify, **given)


def _retry_handle(world: World, **given: Any) -> None:
    with suppress(InvalidStateError):  # it has not failed
        world.handle.retry(**given)


def _built(option: str) -> Call:
    return Call(
        lambda world, value: getattr(WorkflowRuntime.builder(world.queue, _RUNNER(world)), option)(value).build(),
        {"value": _RUNTIME[option]},
    )


def _of_queue(method: str, /, **good: Callable[[World], Any]) -> Call:
    return Call(lambda world, **given: getattr(world.queue, method)(**given), good)


def _of_client(method: str, /, **good: Callable[[World], Any]) -> Call:
    return Call(lambda world, **given: getattr(_client(world), method)(**given), good)


def _of_limited(method: str, /, **good: Callable[[World], Any]) -> Call:
    return Call(
        lambda world, **given: getattr(WorkflowClient(world.queue, queue_name="limited"), method)(**given), good
    )


def _of_runtime(method: str, /, **good: Callable[[World], Any]) -> Call:
    return Call(lambda world, **given: getattr(_runtime(world), method)(**given), good)


def _of_step(feature: str, method: str, /, **good: Callable[[World], Any]) -> Call:
    """A method of a feature of a step that runs; positional, since some take no names."""
    return Call(
        lambda world, **given: getattr(getattr(world.step, feature), method)(*(given[name] for name in good)), good
    )


def _made(what: str, /, **good: Callable[[World], Any]) -> Call:
    return Call(lambda world, **given: getattr(api, what)(**given), good)


def _of_values(feature: str, method: str, /, **good: Callable[[World], Any]) -> Call:
    return Call(lambda world, **given: getattr(_values(world, feature), method)(**given), good)


def _values(world: World, feature: str) -> Any:
    return world.queue.kv if feature == "queue" else world.step.kv


def _staged(method: str, /, **good: Callable[[World], Any]) -> Call:
    """Staged by a program, or by a step that runs; a step is given no chance to run out of room."""

    def do(world: World, **given: Any) -> None:
        getattr(api.Effects(), method)(**given)

    return Call(do, good)


_SCAN: dict[str, Callable[[World], Any]] = {
    "prefix": _value("k"), "limit": _value(3), "cursor": _NONE, "reverse": _value(False),
}  # fmt: skip
#: They find nothing, whatever else narrows them.
_NARROWED: dict[str, Callable[[World], Any]] = {
    "state": _value("failed"), "prefix": _value("no-such-run"), "header": _NONE, "since": _NONE, "until": _NONE,
    "failed_with": _NONE, "parent": _NONE,
}  # fmt: skip

#: Without a transaction of the program's own: a store in a directory has none.
_IN: Final = {"connection": _NONE, "notify": _value(False)}
_CLIENT_CALLS: dict[str, dict[str, Callable[[World], Any]]] = {
    "status": {"run_id": _JOB_ID},
    "outcome": {"run_id": _JOB_ID},
    "cancel": {"run_id": _JOB_ID, "reason": _NONE, **_IN},
    "retry": {"run_id": _value("failed"), "payload": _NONE, "memo": _value("keep")},
    "history": {"run_id": _value("ended")},
    "cancel_many": {**_NARROWED, "all": _value(False), "reason": _NONE},
    "retry_many": {**_NARROWED, "all": _value(False)},
    "wait": {"run_id": _value("ended"), "timeout": _value(0)},
    "list_runs": {**_NARROWED, "newest_first": _value(False), "limit": _value(3), "cursor": _NONE},
    "submit_group": {
        "group_id": _value("g"),
        "specs": lambda _: [],
        "queue_name": _NONE,
        "on_failure": _value("collect"),
    },
    "group": {"group_id": _value("g")},
    "submit_many": {"specs": lambda _: [RunSpec()]},
    "unregister_hook": {"waiting": _value("deliver")},
    "signal": {
        "run_id": _value("running"),
        **_IN,
        "name": _value("go"),
        "payload": _value(b""),
        "signal_id": _NONE,
        "submit": _NONE,
    },
    "signals": {"run_id": _value("ended")},
    "clear_signals": {"run_id": _value("ended"), "name": _value("go")},
    "wake": {"run_id": _JOB_ID},
    "memo": {"run_id": _value("ended"), "scope": _value("step"), "limit": _value(3), "cursor": _NONE},
    "schedule": {
        "name": _value("defined"), "cron": _NONE, "every": _value(7200), "timezone": _value("UTC"),
        "spec": lambda _: RunSpec(), "catch_up": _value("one"), "overlap": _value("allow"), "start": _NONE,
        "until": _NONE,
    },
    "unschedule": {"name": _value("nobody")},
    "trigger": {"name": _value("stored")},
    "pause_schedule": {"name": _value("stored")},
    "resume_schedule": {"name": _value("stored")},
}  # fmt: skip

#: Of a queue that nothing else uses: what is set there limits only it.
_LIMIT_CALLS: dict[str, dict[str, Callable[[World], Any]]] = {
    "set_limit": {
        "key": _NONE, "concurrency": _value(1), "rate": _NONE, "hold": _value("step"), "max_waiting": _NONE,
    },
    "clear_limit": {"key": _NONE},
}  # fmt: skip

#: Where no server listens: what is well asked for ends there.
_NOBODY: Final = "postgresql://127.0.0.1:1/nobody"


def _move(world: World, **given: Any) -> None:
    with suppress(StorageError):
        Queue.move(**given)


def _abort_move(world: World, **given: Any) -> None:
    with suppress(StorageError):
        Queue.abort_move(**given)


CALLS: Final[dict[str, Call]] = {
    "Queue.open": Call(_open, {
        "path": lambda world: world.directory / "opened", "default_config": _NONE, "queue_configs": _NONE,
        "durability": _value("relaxed"), "exclusive": _value(False), "max_payload_bytes": _value(100), "clock": _NONE,
        "wait": _NONE, "migrate": _value(True), "liveness_dsn": _NONE,
    }),
    "Queue.backup": _of_queue("backup", path=lambda world: world.directory / "backup"),
    "Queue.backup_file": _of_queue("backup_file", path=lambda world: world.directory / "backup file"),
    "Queue.restore": Call(_restore, {
        "backup": lambda world: world.directory / "kept", "path": lambda world: world.directory / "restored",
    }),
    "Queue.move": Call(_move, {
        "source": lambda world: world.directory / "store", "target": _value(_NOBODY), "wait": _value(1),
    }),
    "Queue.abort_move": Call(_abort_move, {
        "source": lambda world: world.directory / "store", "target": _value(_NOBODY),
    }),
    "Queue.is_store": Call(lambda _, path: Queue.is_store(path), {"path": lambda world: world.directory / "store"}),
    "Queue.drop_dead_job": Call(_drop, {"job_id": _JOB_ID}),
    "Queue.purge": _of_queue("purge", queue_name=_OTHER, older_than=_value(60)),
    "Queue.recent_activity": _of_queue("recent_activity", queue_name=_OTHER),
    "Queue.temporary": Call(_temporary, {"address": _NONE, "options": _NONE}),
    "Queue.enqueue": _of_queue(
        "enqueue", queue_name=_OTHER, payload=_value(b""), job_id=_NONE, priority=_NONE, max_attempts=_NONE,
        run_at=_NONE, dedup_key=_NONE, headers=_NONE,
    ),
    "Queue.enqueue_batch": _of_queue("enqueue_batch", queue_name=_OTHER, payloads=lambda _: [b"x"]),
    "Queue.claim": _of_queue("claim", queue_name=_value("empty"), lease=_NONE),
    "Queue.claim_batch": _of_queue("claim_batch", queue_name=_value("empty"), max_jobs=_value(1), lease=_NONE),
    "Queue.claim_with_wait": _of_queue("claim_with_wait", queue_name=_OTHER, timeout=_value(0), lease=_NONE),
    "Queue.ack": _of_queue("ack", claim=_CLAIM),
    "Queue.nack": _of_queue("nack", claim=_CLAIM, error=_value("e")),
    "Queue.dead_letter": _of_queue("dead_letter", claim=_CLAIM, error=_value("e")),
    "Queue.advance": _of_queue("advance", claim=_CLAIM, payload=_value(b""), headers=_NONE, delay=_NONE),
    "Queue.renew_lease": _of_queue("renew_lease", claim=_CLAIM, extension=_value(1)),
    "Queue.cancel": _of_queue("cancel", job_id=_JOB_ID),
    "Queue.get_job": _of_queue("get_job", job_id=_JOB_ID),
    "Queue.list_jobs": _of_queue("list_jobs", queue_name=_OTHER, status=_NONE, limit=_value(3), cursor=_NONE),
    "Queue.dead_jobs": _of_queue("dead_jobs", queue_name=_OTHER, limit=_value(3), cursor=_NONE),
    "Queue.requeue_dead_job": _of_queue("requeue_dead_job", job_id=_JOB_ID),
    "Queue.stats": _of_queue("stats", queue_name=_OTHER),
    "Queue.attempt_history": _of_queue("attempt_history", job_id=_JOB_ID),
    "QueueConfig": _made(
        "QueueConfig", max_attempts=_value(1), lease_duration=_value(1), default_priority=_value(1),
        retry_backoff_base=_value(0), retry_backoff_max=_value(1), retry_jitter=_value(False), keep_done_jobs=_NONE,
        dead_retention=_NONE, priority_aging=_NONE,
    ),
    "RunSpec": _made("RunSpec", **_SPEC_FIELDS),
    "Continue": _made("Continue", payload=_value(b""), **_OF_NEXT_STEP),
    "ContinueAfter": _made("ContinueAfter", payload=_value(b""), delay=_value(1), **_OF_NEXT_STEP),
    "ContinueOnSignal": _made(
        "ContinueOnSignal", payload=_value(b""), signal=_value("go"), timeout=_NONE, **_OF_NEXT_STEP
    ),
    "ContinueOnGroup": _made(
        "ContinueOnGroup", payload=_value(b""), group_id=_value("g"), timeout=_NONE, **_OF_NEXT_STEP
    ),
    "Group.results": Call(
        lambda world, **given: _client(world).group("g").results(**given), {"limit": _value(3), "cursor": _NONE}
    ),
    "Group.wait": Call(lambda world, timeout: _client(world).group("g").wait(timeout), {"timeout": _value(0)}),
    "Succeed": _made("Succeed", result=_value(b"")),
    "Fail": _made("Fail", reason=_value("r")),
    "Cancel": _made("Cancel", reason=_value("r")),
    "StepError": _made("StepError", message=_value("m"), kind=_value("transient")),
    "StepError.transient": Call(
        lambda world, **given: api.StepError.transient(**given), {"message": _value("m"), "retry_after": _NONE}
    ),
    "StepError.put_back": Call(
        lambda world, **given: api.StepError.put_back(**given), {"delay": _value(1), "message": _value("m")}
    ),
    "StepError.permanent": Call(lambda world, message: api.StepError.permanent(message), {"message": _value("m")}),
    "WebhookRequest": _made(
        "WebhookRequest", url=_value("http://127.0.0.1/"), method=_value("POST"), headers=lambda _: {}, timeout=_NONE
    ),
    "WebhookWorker": _made(
        "WebhookWorker", session=_NONE, default_timeout=_value(1), secret=_NONE, delivery_id_header=_value("Id"),
        allow=_NONE,
    ),
    "WebhookTerminalHook": _made(
        "WebhookTerminalHook", queue=_QUEUE, target_queue=_OTHER, url_header=_value("u"), timeout=_NONE, secret=_NONE,
        allow=_NONE,
    ),
    "enqueue_webhook": _made(
        "enqueue_webhook", queue=_QUEUE, target_queue=_OTHER, request=_value(WebhookRequest("http://127.0.0.1/")),
        body=_value(b""), job_id=_NONE,
    ),
    "run_worker": _made(
        "run_worker", queue=_QUEUE, queue_name=_value("empty"), worker=_value(lambda job, claim: None),
        concurrency=_value(1), poll_interval=_value(0.25), shutdown=_set_event,
    ),
    "Queue.commit": _of_queue("commit", effects=lambda _: api.Effects()),
    "KeyValueStore.get": _of_values("queue", "get", key=_value("k")),
    "KeyValueStore.put": _of_values("queue", "put", key=_value("k"), value=_value(b""), ttl=_NONE, **_IN),
    "KeyValueStore.delete": _of_values("queue", "delete", key=_value("k")),
    "KeyValueStore.compare_put": _of_values(
        "queue", "compare_put", key=_value("k"), expected=_NONE, value=_value(b"")
    ),
    "KeyValueStore.compare_delete": _of_values("queue", "compare_delete", key=_value("k"), expected=_value(b"")),
    "KeyValueStore.scan": _of_values("queue", "scan", **_SCAN),
    "KeyValueView.get": _of_values("step", "get", key=_value("k")),
    "KeyValueView.scan": _of_values("step", "scan", **_SCAN),
    "Effects.put": _staged("put", key=_value("k"), value=_value(b""), ttl=_NONE),
    "Effects.delete": _staged("delete", key=_value("k")),
    "Effects.compare_put": _staged("compare_put", key=_value("k"), expected=_NONE, value=_value(b"")),
    "Effects.add": _staged("add", key=_value("k"), delta=_value(1)),
    "Effects.enqueue": _staged(
        "enqueue", queue_name=_OTHER, payload=_value(b""), job_id=_NONE, priority=_NONE, max_attempts=_NONE,
        run_at=_NONE, dedup_key=_NONE, headers=_NONE,
    ),
    "Effects.signal": _staged(
        "signal", run_id=_value("r"), name=_value("go"), payload=_value(b""), queue_name=_NONE
    ),
    "Effects.submit": _staged("submit", spec=lambda _: RunSpec(), queue_name=_NONE),
    "Memo.get": _of_step("memo", "get", key=_value("k")),
    "Memo.put": _of_step("memo", "put", key=_value("k"), value=_value(b"")),
    "Memo.call": _of_step("memo", "call", key=_value("k"), function=lambda _: bytes),
    "Step.idempotency_key": Call(
        lambda world, **given: world.step.idempotency_key(**given), {"name": _value("")}
    ),
    "Step.progress": Call(
        lambda world, **given: world.step.progress(**given), {"done": _value(1), "total": _NONE, "note": _value("")}
    ),
    "RunHandle.cancel": Call(lambda world, reason: world.handle.cancel(reason=reason), {"reason": _NONE}),
    "RunHandle.retry": Call(_retry_handle, {"payload": _NONE, "memo": _value("keep")}),
    "RunHandle.wait": Call(lambda world, timeout: world.handle.wait(timeout), {"timeout": _value(0)}),
    "RunHandle.result": Call(lambda world, timeout: world.handle.result(timeout), {"timeout": _value(0)}),
    "WorkflowClient": _made("WorkflowClient", queue=_QUEUE, queue_name=_NAME, keep_runs=_NONE),
    "WorkflowClient.submit": Call(_submit, {"spec": _NONE, "fields": _NONE, **_IN}),
    "WorkflowRuntime.submit": Call(_submit, {"spec": _NONE, "fields": _NONE, **_IN}),
    **{f"WorkflowClient.{name}": _of_client(name, **good) for name, good in _CLIENT_CALLS.items()},
    **{f"WorkflowClient.{name}": _of_limited(name, **good) for name, good in _LIMIT_CALLS.items()},
    **{f"WorkflowRuntime.{name}": _of_limited(name, **good) for name, good in _LIMIT_CALLS.items()},
    **{f"WorkflowRuntime.{name}": _of_runtime(name, **good) for name, good in _CLIENT_CALLS.items()},
    "WorkflowRuntime": _made("WorkflowRuntime", **_RUNTIME),
    "WorkflowRuntime.stop": _of_runtime("stop", timeout=_value(0)),
    "WorkflowRuntime.resize": _of_runtime("resize", max_concurrent_steps=_value(2)),
    "WorkflowRuntime.run": _of_runtime("run", shutdown=_set_event, handle_signals=_value(False)),
    "WorkflowRuntime.run_until_idle": _of_runtime(
        "run_until_idle", timeout=_value(0), wait_for_scheduled=_value(0)
    ),
    "WorkflowRuntime.builder": Call(
        lambda world, **given: WorkflowRuntime.builder(**given).build(),
        {"queue": _QUEUE, "runner": _RUNNER, "terminal_hook": _NONE},
    ),
    "WorkflowRuntimeBuilder": Call(
        lambda world, **given: api.WorkflowRuntimeBuilder(**given).build(),
        {"queue": _QUEUE, "runner": _RUNNER, "terminal_hook": _NONE},
    ),
    **{f"WorkflowRuntimeBuilder.{name}": _built(name) for name in _RUNTIME
       if name not in ("queue", "runner", "terminal_hook")},
}  # fmt: skip
