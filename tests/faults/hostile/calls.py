"""Every public callable with good arguments, to be called with one or more of them replaced."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import taquba_workflow_sync as api
from taquba_workflow_sync import (
    Claim,
    Queue,
    RunHandle,
    RunSpec,
    Succeed,
    WebhookRequest,
    WorkflowClient,
    WorkflowRuntime,
)

#: Not called by users, or never with what they could get wrong; each with its reason.
EXEMPT: Final[dict[str, str]] = {
    "Queue": "made by open",
    "RunHandle": "made by submit",
    "WebhookWorker.process": "called by run_worker",
    "WebhookTerminalHook.on_termination": "called by the runtime",
    "WebhookTerminalHook.observes": "called by the runtime",
    "NoopTerminalHook.on_termination": "does nothing",
    **dict.fromkeys(
        ("JobRecord", "JobAttempt", "JobPage", "QueueStats", "RunCounts", "RunOutcome", "RunPage", "RunStatus", "Step",
         "CheckReport", "Claim", "WebhookTarget"),
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
    return found


class World(NamedTuple):
    """What the calls are made on."""

    queue: Queue
    directory: Path
    claim: Claim
    handle: RunHandle


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
    "run_at": _NONE, "if_finished": _value("keep"),
}  # fmt: skip
_RUNTIME: dict[str, Callable[[World], Any]] = {
    "queue": _QUEUE, "runner": _RUNNER, "terminal_hook": _NONE, "queue_name": _NAME, "max_concurrent_steps": _value(2),
    "poll_interval": _value(0.25), "keep_runs": _value(60), "shutdown_grace": _NONE, "step_order": _value("fair"),
}  # fmt: skip


def _open(world: World, **given: Any) -> None:
    Queue.open(**given).close()


def _temporary(world: World, options: Any) -> None:
    Queue.temporary(durability="relaxed", clock=options).close()


def _submit(world: World, spec: Any, fields: Any) -> None:
    _client(world).submit(spec, **({} if fields is None else {"input": fields}))


def _built(option: str) -> Call:
    return Call(
        lambda world, value: getattr(WorkflowRuntime.builder(world.queue, _RUNNER(world)), option)(value).build(),
        {"value": _RUNTIME[option]},
    )


def _of_queue(method: str, /, **good: Callable[[World], Any]) -> Call:
    return Call(lambda world, **given: getattr(world.queue, method)(**given), good)


def _of_client(method: str, /, **good: Callable[[World], Any]) -> Call:
    return Call(lambda world, **given: getattr(_client(world), method)(**given), good)


def _of_runtime(method: str, /, **good: Callable[[World], Any]) -> Call:
    return Call(lambda world, **given: getattr(_runtime(world), method)(**given), good)


def _made(what: str, /, **good: Callable[[World], Any]) -> Call:
    return Call(lambda world, **given: getattr(api, what)(**given), good)


_CLIENT_CALLS: dict[str, dict[str, Callable[[World], Any]]] = {
    "status": {"run_id": _JOB_ID},
    "outcome": {"run_id": _JOB_ID},
    "cancel": {"run_id": _JOB_ID},
    "retry": {"run_id": _value("failed")},
    "wait": {"run_id": _value("ended"), "timeout": _value(0)},
    "list_runs": {"state": _NONE, "limit": _value(3), "cursor": _NONE},
    "submit_many": {"specs": lambda _: [RunSpec()]},
    "unregister_hook": {"waiting": _value("deliver")},
}

CALLS: Final[dict[str, Call]] = {
    "Queue.open": Call(_open, {
        "path": lambda world: world.directory / "opened", "default_config": _NONE, "queue_configs": _NONE,
        "durability": _value("relaxed"), "exclusive": _value(False), "max_payload_bytes": _value(100), "clock": _NONE,
        "wait": _NONE,
    }),
    "Queue.backup": _of_queue("backup", path=lambda world: world.directory / "backup"),
    "Queue.temporary": Call(_temporary, {"options": _NONE}),
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
        dead_retention=_NONE,
    ),
    "RunSpec": _made("RunSpec", **_SPEC_FIELDS),
    "Continue": _made("Continue", payload=_value(b"")),
    "ContinueAfter": _made("ContinueAfter", payload=_value(b""), delay=_value(1)),
    "Succeed": _made("Succeed", result=_value(b"")),
    "Fail": _made("Fail", reason=_value("r")),
    "Cancel": _made("Cancel", reason=_value("r")),
    "StepError": _made("StepError", message=_value("m"), kind=_value("transient")),
    "StepError.transient": Call(lambda world, message: api.StepError.transient(message), {"message": _value("m")}),
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
    "RunHandle.wait": Call(lambda world, timeout: world.handle.wait(timeout), {"timeout": _value(0)}),
    "RunHandle.result": Call(lambda world, timeout: world.handle.result(timeout), {"timeout": _value(0)}),
    "WorkflowClient": _made("WorkflowClient", queue=_QUEUE, queue_name=_NAME, keep_runs=_NONE),
    "WorkflowClient.submit": Call(_submit, {"spec": _NONE, "fields": _NONE}),
    "WorkflowRuntime.submit": Call(_submit, {"spec": _NONE, "fields": _NONE}),
    **{f"WorkflowClient.{name}": _of_client(name, **good) for name, good in _CLIENT_CALLS.items()},
    **{f"WorkflowRuntime.{name}": _of_runtime(name, **good) for name, good in _CLIENT_CALLS.items()},
    "WorkflowRuntime": _made("WorkflowRuntime", **_RUNTIME),
    "WorkflowRuntime.stop": _of_runtime("stop", timeout=_value(0)),
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
