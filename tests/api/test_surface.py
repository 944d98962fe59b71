"""Every public name of DESIGN section 5 is there, with the signature that stands there."""

from __future__ import annotations

import dataclasses
import enum
import inspect
from datetime import timedelta
from typing import Any, get_type_hints

import pytest

import taquba_workflow_sync as taquba
from taquba_workflow_sync import testing

NONE = inspect.Parameter.empty
KEYWORD = "*"
_OF_NEXT_STEP = ["label", "max_attempts", "backoff", "priority", "step_timeout"]

#: name -> the parameters after self: (name, default) pairs; KEYWORD stands where keyword-only ones begin.
SIGNATURES: dict[str, list[Any]] = {
    "Queue.open": [
        "path", KEYWORD, "default_config", "queue_configs", "durability", "exclusive", "max_payload_bytes", "wait",
        "clock", "migrate", "liveness_dsn",
    ],
    "Queue.enqueue": [
        "queue_name", "payload", KEYWORD, "job_id", "priority", "max_attempts", "run_at", "dedup_key", "headers",
    ],
    "Queue.enqueue_batch": ["queue_name", "payloads"],
    "Queue.claim": ["queue_name", KEYWORD, "lease"],
    "Queue.claim_batch": ["queue_name", "max_jobs", KEYWORD, "lease"],
    "Queue.claim_with_wait": ["queue_name", "timeout", KEYWORD, "lease"],
    "Queue.ack": ["claim"],
    "Queue.nack": ["claim", "error"],
    "Queue.dead_letter": ["claim", "error"],
    "Queue.advance": ["claim", "payload", KEYWORD, "headers", "delay"],
    "Queue.renew_lease": ["claim", "extension"],
    "Queue.cancel": ["job_id"],
    "Queue.get_job": ["job_id"],
    "Queue.list_jobs": ["queue_name", "status", KEYWORD, "limit", "cursor"],
    "Queue.dead_jobs": ["queue_name", KEYWORD, "limit", "cursor"],
    "Queue.requeue_dead_job": ["job_id"],
    "Queue.stats": ["queue_name"],
    "Queue.list_queues": [],
    "Queue.attempt_history": ["job_id"],
    "Queue.backup": ["path"],
    "Queue.check": [],
    "Queue.close": [],
    "run_worker": ["queue", "queue_name", "worker", KEYWORD, "concurrency", "poll_interval", "shutdown"],
    "QueueConfig": [
        "max_attempts", "lease_duration", "default_priority", "retry_backoff_base", "retry_backoff_max", "retry_jitter",
        "keep_done_jobs", "dead_retention", "priority_aging",
    ],
    "RunSpec": [
        KEYWORD, "input", "run_id", "headers", "priority", "max_attempts_per_step", "run_at", "if_finished",
        "effects", "label", "backoff", "step_timeout", "deadline", "expires_after", "limit_key",
    ],
    "Effects.put": ["key", "value", "ttl"],
    "Effects.delete": ["key"],
    "Effects.compare_put": ["key", "expected", "value"],
    "Effects.add": ["key", "delta"],
    "Effects.enqueue": [
        "queue_name", "payload", KEYWORD, "job_id", "priority", "max_attempts", "run_at", "dedup_key", "headers",
    ],
    "Effects.submit": ["spec", KEYWORD, "queue_name"],
    "Effects.signal": ["run_id", "name", "payload", KEYWORD, "queue_name"],
    "Effects.submit_group": ["group_id", "specs", KEYWORD, "queue_name", "on_failure"],
    "Queue.commit": ["effects"],
    "Queue.metrics": [],
    "Queue.recent_activity": ["queue_name"],
    "Queue.workers": [],
    "KeyValueStore.get": ["key"],
    "KeyValueStore.put": ["key", "value", "ttl", KEYWORD, "connection", "notify"],
    "KeyValueStore.delete": ["key"],
    "KeyValueStore.compare_put": ["key", "expected", "value"],
    "KeyValueStore.compare_delete": ["key", "expected"],
    "KeyValueStore.scan": ["prefix", KEYWORD, "limit", "cursor", "reverse"],
    "KeyValueView.scan": ["prefix", KEYWORD, "limit", "cursor", "reverse"],
    "Continue": ["payload", KEYWORD, *_OF_NEXT_STEP],
    "ContinueAfter": ["payload", "delay", KEYWORD, *_OF_NEXT_STEP],
    "Succeed": ["result"],
    "Fail": ["reason"],
    "Cancel": ["reason"],
    "StepError": ["message", "kind"],
    "StepError.transient": ["message", "retry_after"],
    "StepError.put_back": ["delay", "message"],
    "StepError.permanent": ["message"],
    "RunHandle.wait": ["timeout"],
    "RunHandle.result": ["timeout"],
    "RunHandle.status": [],
    "RunHandle.cancel": [KEYWORD, "reason"],
    "RunHandle.retry": [KEYWORD, "payload", "memo"],
    "WorkflowClient": ["queue", KEYWORD, "queue_name", "keep_runs"],
    "WorkflowClient.submit_many": ["specs"],
    "WorkflowClient.status": ["run_id"],
    "WorkflowClient.outcome": ["run_id"],
    "WorkflowClient.wait": ["run_id", "timeout"],
    "WorkflowClient.cancel": ["run_id", KEYWORD, "reason", "connection", "notify"],
    "Step.transaction": ["connection"],
    "WorkflowClient.retry": ["run_id", KEYWORD, "payload", "memo"],
    "WorkflowClient.history": ["run_id"],
    "WorkflowClient.count_runs": [],
    "WorkflowClient.cancel_many": [
        "state", KEYWORD, "prefix", "header", "since", "until", "failed_with", "parent", "all", "reason",
    ],
    "WorkflowClient.retry_many": [
        "state", KEYWORD, "prefix", "header", "since", "until", "failed_with", "parent", "all",
    ],
    "Step.progress": ["done", "total", "note"],
    "WorkflowClient.unregister_hook": ["waiting"],
    "WorkflowClient.set_limit": [KEYWORD, "key", "concurrency", "rate", "hold", "max_waiting"],
    "WorkflowClient.clear_limit": ["key"],
    "WorkflowClient.limits": [],
    "WorkflowClient.limit_usage": [],
    "WorkflowClient.pause": [],
    "WorkflowClient.resume": [],
    "WorkflowClient.list_runs": [
        "state", KEYWORD, "prefix", "header", "since", "until", "failed_with", "parent", "newest_first", "limit",
        "cursor",
    ],
    "WorkflowClient.submit_group": ["group_id", "specs", KEYWORD, "queue_name", "on_failure"],
    "WorkflowClient.group": ["group_id"],
    "Group.results": [KEYWORD, "limit", "cursor"],
    "Group.wait": ["timeout"],
    "WorkflowRuntime": [
        "queue", "runner", "terminal_hook", KEYWORD, "queue_name", "max_concurrent_steps", "poll_interval", "keep_runs",
        "shutdown_grace", "step_order",
    ],
    "WorkflowRuntime.run": ["shutdown", KEYWORD, "handle_signals"],
    "WorkflowRuntime.start": [],
    "WorkflowRuntime.stop": ["timeout"],
    "WorkflowRuntime.run_until_idle": ["timeout", KEYWORD, "wait_for_scheduled"],
    "WorkflowRuntime.builder": ["queue", "runner", "terminal_hook"],
    "WorkflowRuntimeBuilder.build": [],
    "StepRunner.run_step": ["step"],
    "TerminalHook.on_termination": ["outcome"],
    "NoopTerminalHook.on_termination": ["outcome"],
    "Worker.process": ["job", "claim"],
    "WebhookTerminalHook": ["queue", "target_queue", KEYWORD, "url_header", "timeout", "secret", "allow"],
    "WebhookTerminalHook.on_termination": ["outcome"],
    "WebhookTerminalHook.observes": ["outcome"],
    "WebhookRequest": ["url", "method", "headers", "timeout"],
    "enqueue_webhook": ["queue", "target_queue", "request", "body", KEYWORD, "job_id"],
    "WebhookWorker": [KEYWORD, "session", "default_timeout", "secret", "delivery_id_header", "allow"],
    "WebhookWorker.process": ["job", "claim"],
    "Clock.now": [],
}  # fmt: skip

#: (callable, parameter) -> default
DEFAULTS: dict[tuple[str, str], object] = {
    ("Queue.open", "durability"): "full",
    ("Queue.open", "exclusive"): False,
    ("Queue.open", "max_payload_bytes"): 64 * 2**20,
    ("Queue.open", "queue_configs"): None,
    ("Queue.open", "wait"): None,
    ("Queue.open", "clock"): None,
    ("Queue.open", "migrate"): True,
    ("Queue.open", "liveness_dsn"): None,
    ("Queue.enqueue", "job_id"): None,
    ("Queue.enqueue", "priority"): None,
    ("Queue.claim", "lease"): None,
    ("Queue.list_jobs", "limit"): 100,
    ("Queue.dead_jobs", "limit"): 100,
    ("Queue.advance", "headers"): None,
    ("Queue.advance", "delay"): None,
    ("run_worker", "concurrency"): 1,
    ("run_worker", "poll_interval"): 0.25,
    ("run_worker", "shutdown"): None,
    ("QueueConfig", "max_attempts"): 3,
    ("QueueConfig", "lease_duration"): 30.0,
    ("QueueConfig", "default_priority"): 1000,
    ("QueueConfig", "retry_backoff_base"): 1.0,
    ("QueueConfig", "retry_backoff_max"): 300.0,
    ("QueueConfig", "retry_jitter"): False,
    ("QueueConfig", "keep_done_jobs"): None,
    ("QueueConfig", "dead_retention"): timedelta(days=7),
    ("RunSpec", "input"): b"",
    ("RunSpec", "run_id"): None,
    ("RunSpec", "if_finished"): taquba.IfFinished.KEEP,
    ("RunSpec", "effects"): None,
    ("Effects.put", "ttl"): None,
    ("Effects.submit", "queue_name"): None,
    ("Effects.signal", "payload"): b"",
    ("Effects.signal", "queue_name"): None,
    ("Effects.submit_group", "queue_name"): None,
    ("Effects.submit_group", "on_failure"): "collect",
    ("KeyValueStore.put", "ttl"): None,
    ("KeyValueStore.put", "connection"): None,
    ("KeyValueStore.put", "notify"): False,
    ("KeyValueStore.scan", "limit"): 100,
    ("KeyValueStore.scan", "cursor"): None,
    ("KeyValueStore.scan", "reverse"): False,
    ("RunSpec", "limit_key"): None,
    ("QueueConfig", "priority_aging"): None,
    ("WorkflowClient.set_limit", "key"): None,
    ("WorkflowClient.set_limit", "concurrency"): None,
    ("WorkflowClient.set_limit", "rate"): None,
    ("WorkflowClient.set_limit", "hold"): "step",
    ("WorkflowClient.set_limit", "max_waiting"): None,
    ("WorkflowClient.clear_limit", "key"): None,
    ("Continue", "payload"): b"",
    ("Succeed", "result"): b"",
    ("WorkflowClient", "queue_name"): "workflow-steps",
    ("WorkflowClient", "keep_runs"): timedelta(days=7),
    ("WorkflowClient.list_runs", "limit"): 100,
    ("WorkflowClient.list_runs", "newest_first"): False,
    ("WorkflowClient.cancel_many", "all"): False,
    ("WorkflowClient.retry_many", "all"): False,
    ("WorkflowClient.cancel", "reason"): None,
    ("WorkflowClient.cancel", "connection"): None,
    ("WorkflowClient.cancel", "notify"): False,
    ("Step.transaction", "connection"): None,
    ("WorkflowClient.retry", "payload"): None,
    ("WorkflowClient.retry", "memo"): "keep",
    ("Step.progress", "total"): None,
    ("Step.progress", "note"): "",
    ("WorkflowClient.unregister_hook", "waiting"): "deliver",
    ("WorkflowRuntime", "queue_name"): "workflow-steps",
    ("WorkflowRuntime", "terminal_hook"): None,
    ("WorkflowRuntime", "max_concurrent_steps"): 16,
    ("WorkflowRuntime", "poll_interval"): 0.25,
    ("WorkflowRuntime", "keep_runs"): timedelta(days=7),
    ("WorkflowRuntime", "shutdown_grace"): None,
    ("WorkflowRuntime", "step_order"): taquba.StepOrder.FAIR,
    ("WorkflowRuntime.run", "shutdown"): None,
    ("WorkflowRuntime.run", "handle_signals"): False,
    ("WorkflowRuntime.run_until_idle", "wait_for_scheduled"): 0.0,
    ("WebhookTerminalHook", "target_queue"): "webhooks",
    ("WebhookTerminalHook", "url_header"): "callback_url",
    ("WebhookTerminalHook", "secret"): None,
    ("WebhookTerminalHook", "allow"): None,
    ("WebhookRequest", "method"): "POST",
    ("WebhookRequest", "timeout"): None,
    ("WebhookWorker", "default_timeout"): 30.0,
    ("WebhookWorker", "delivery_id_header"): "Webhook-Id",
    ("WebhookWorker", "allow"): None,
}

FIELDS: dict[str, list[str]] = {
    "JobRecord": [
        "id", "queue", "payload", "headers", "status", "attempts", "max_attempts", "priority", "step", "enqueued_at",
        "claimed_at", "lease_expires_at", "run_at", "completed_at", "failed_at", "last_error", "dedup_key",
        "cancel_requested",
    ],
    "CheckReport": ["ok", "problems"],
    "Claim": ["job", "token", "cancel_token"],
    "JobPage": ["jobs", "next_cursor"],
    "QueueStats": ["queue", "pending", "scheduled", "claimed", "done", "dead", "cancelled", "paused"],
    "StoreMetrics": ["queues", "wal_bytes"],
    "QueueMetrics": [
        "stats", "oldest_ready_age", "attempts", "runs_finished", "step_duration", "submit_to_start",
    ],
    "Histogram": ["bounds", "counts", "sum"],
    "MinuteActivity": ["at", "attempts", "runs_finished"],
    "Limit": ["key", "concurrency", "rate", "hold", "max_waiting"],
    "LimitUsage": ["key", "claimed", "parked"],
    "WorkerProcess": ["host", "pid", "alive", "since", "running"],
    "RunningJob": [
        "queue", "job_id", "run_id", "step", "label", "attempt", "claimed_at", "lease_expires_at", "overdue",
        "lease_expired",
    ],
    "JobAttempt": ["step", "attempt", "claimed_at", "ended_at", "outcome", "error", "traceback"],
    "Step": [
        "run_id", "step_number", "payload", "headers", "job_id", "attempts", "max_attempts", "cancel_token", "stopping",
        "signal", "wait_timed_out", "label",
    ],
    "RunStatus": [
        "run_id", "job_id", "state", "current_step", "attempts", "submitted_at", "finished_at", "headers", "error",
        "waiting_for", "label", "overdue", "progress", "parent", "children",
    ],
    "Signal": ["name", "payload", "sent_at", "id"],
    "RunProgress": ["done", "total", "note", "at"],
    "RunEvent": ["at", "kind", "step", "attempt", "outcome", "error", "host", "pid", "detail", "traceback"],
    "RunOutcome": [
        "run_id", "status", "result", "error", "headers", "final_step", "job_id", "termination", "finished_at",
    ],
    "RunPage": ["runs", "next_cursor"],
    "RunCounts": ["succeeded", "failed", "cancelled", "steps", "scheduled", "elsewhere", "dead"],
}  # fmt: skip

ENUMS: dict[str, list[str]] = {
    "JobStatus": ["pending", "scheduled", "claimed", "done", "dead", "cancelled"],
    "RunState": ["pending", "running", "cancelling", "succeeded", "failed", "cancelled"],
    "TerminalStatus": ["succeeded", "failed", "cancelled"],
    "IfFinished": ["keep", "rerun_failed", "rerun"],
    "StepOrder": ["fair", "oldest_run_first"],
    "StepErrorKind": ["transient", "permanent"],
    "EventKind": ["submitted", "started", "ended", "terminated", "cancel_requested", "retried", "signal_dropped"],
    "CancelOutcome": ["removed", "requested", "not_found"],
}

ERRORS = [
    "StoreClosedError", "StoreInUseError", "StorageError", "SchemaVersionError", "UnsupportedFilesystemError",
    "InvalidNameError", "InvalidRunIdError", "PayloadTooLargeError", "DuplicateJobIdError", "JobNotFoundError",
    "InvalidStateError", "ClaimLostError", "CancelRequestedError", "ReservedHeaderError", "InputMismatchError",
    "RunNotFoundError", "RunFailedError", "RunCancelledError", "MissingHeaderError", "InvalidStepHeaderError",
    "PermanentFailure", "StepError", "EffectConflictError", "EffectsSealedError",
]  # fmt: skip


def find(dotted: str) -> Any:
    value: Any = taquba
    for name in dotted.split("."):
        value = getattr(value, name)
    return value


def parameters(dotted: str) -> dict[str, inspect.Parameter]:
    found = dict(inspect.signature(find(dotted)).parameters)
    found.pop("self", None)
    return found


@pytest.mark.parametrize("dotted", SIGNATURES)
def test_each_callable_has_the_parameters_of_the_design(dotted: str) -> None:
    listed: list[str] = []
    keyword_only = False
    for parameter in parameters(dotted).values():
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
            keyword_only = True
            listed.append(KEYWORD)
        listed.append(parameter.name)

    assert listed == SIGNATURES[dotted]


@pytest.mark.parametrize(("dotted", "name"), DEFAULTS)
def test_each_default_is_that_of_the_design(dotted: str, name: str) -> None:
    assert parameters(dotted)[name].default == DEFAULTS[dotted, name]


def test_what_needs_a_value_has_no_default() -> None:
    for dotted, name in [
        ("Queue.enqueue", "payload"), ("Queue.nack", "error"), ("ContinueAfter", "delay"), ("Fail", "reason"),
        ("Cancel", "reason"), ("WorkflowRuntime", "runner"), ("Queue.claim_with_wait", "timeout"),
    ]:  # fmt: skip
        assert parameters(dotted)[name].default is NONE, (dotted, name)


def test_allow_is_asked_about_one_named_tuple() -> None:
    assert taquba.WebhookTarget._fields == ("address", "port", "host", "scheme")
    assert get_type_hints(taquba.WebhookTarget) == {"address": str, "port": int, "host": str, "scheme": str}


def test_temporary_takes_the_options_of_open() -> None:
    assert all(each.kind in (each.VAR_KEYWORD, each.KEYWORD_ONLY) for each in parameters("Queue.temporary").values())


@pytest.mark.parametrize("name", FIELDS)
def test_value_types_are_frozen_dataclasses_with_slots(name: str) -> None:
    kind = find(name)

    public = [each.name for each in dataclasses.fields(kind) if not each.name.startswith("_")]
    assert public == FIELDS[name]
    assert kind.__dataclass_params__.frozen
    assert "__slots__" in vars(kind) and "__dict__" not in dir(kind)


@pytest.mark.parametrize(
    "name", ["Continue", "ContinueAfter", "ContinueOnSignal", "Succeed", "Fail", "Cancel", "RunSpec", "QueueConfig"]
)
def test_values_that_users_make_are_frozen_with_slots_too(name: str) -> None:
    kind = find(name)

    assert kind.__dataclass_params__.frozen and "__slots__" in vars(kind)


@pytest.mark.parametrize("name", ["Continue", "ContinueAfter", "ContinueOnSignal", "Succeed", "Fail", "Cancel"])
def test_the_outcomes_are_step_outcomes(name: str) -> None:
    assert issubclass(find(name), taquba.StepOutcome)


@pytest.mark.parametrize("name", ENUMS)
def test_enums_are_string_enums_with_the_words_of_the_design(name: str) -> None:
    kind = find(name)

    assert issubclass(kind, enum.StrEnum)
    assert [each.value for each in kind] == ENUMS[name]


@pytest.mark.parametrize("name", ERRORS)
def test_errors_are_one_tree_and_know_whether_they_are_permanent(name: str) -> None:
    kind = find(name)

    assert issubclass(kind, taquba.TaqubaError)
    assert isinstance(kind.is_permanent, bool)
    assert kind.is_permanent is (name not in ("StoreInUseError", "StorageError", "EffectConflictError"))


def test_step_errors_are_permanent_by_their_kind() -> None:
    assert taquba.StepError.permanent("m").is_permanent and not taquba.StepError.transient("m").is_permanent
    assert not taquba.StepError("m").is_permanent
    assert taquba.StepError("m", taquba.StepErrorKind.PERMANENT).kind is taquba.StepErrorKind.PERMANENT
    assert str(taquba.StepError.permanent("the message")) == "the message"


def test_no_error_is_a_built_in_timeout() -> None:
    assert not any(issubclass(find(name), TimeoutError) for name in ERRORS)


def test_all_lists_exactly_the_public_names() -> None:
    assert len(taquba.__all__) == len(set(taquba.__all__))
    wanted = {name.partition(".")[0] for name in [*SIGNATURES, *FIELDS, *ENUMS, *ERRORS]} | {
        "HEADER_RUN_ID", "HEADER_STEP", "RESERVED_HEADER_PREFIX", "PRIORITY_HIGH", "PRIORITY_NORMAL", "PRIORITY_LOW",
        "StepOutcome", "TaqubaError", "WebhookTarget",
    }  # fmt: skip
    assert wanted <= set(taquba.__all__)
    assert all(hasattr(taquba, name) for name in taquba.__all__)


def test_every_public_name_is_documented() -> None:
    for name in taquba.__all__:
        value = find(name)
        if inspect.isclass(value) or inspect.isfunction(value):
            documented = (value.__doc__ or "").strip()
            assert documented and not documented.startswith(f"{name}("), f"{name} has what a dataclass gives itself"
        else:
            assert f"``{name}``" in (taquba.__doc__ or ""), (
                f"{name} cannot carry a docstring; the package's has to say it"
            )


@pytest.mark.parametrize(
    "kind",
    [
        value
        for value in (*map(find, taquba.__all__), *map(vars(testing).get, testing.__all__))
        if inspect.isclass(value)
    ],
)
def test_every_public_method_and_property_is_documented(kind: type) -> None:
    for name, value in inspect.getmembers(kind):
        if not name.startswith("_") and (inspect.isroutine(value) or isinstance(value, property)):
            assert (inspect.getdoc(value) or "").strip(), f"{kind.__name__}.{name}"


def test_a_runtime_is_a_client() -> None:
    assert issubclass(taquba.WorkflowRuntime, taquba.WorkflowClient)


def test_the_testing_module_has_its_three_helpers() -> None:
    assert {"ManualClock", "ScriptedRunner", "RecordingHook"} <= set(testing.__all__)
    assert list(inspect.signature(testing.ManualClock).parameters) == ["start"]
    assert list(inspect.signature(testing.ManualClock.advance).parameters) == ["self", "seconds"]
    assert isinstance(testing.ManualClock(), taquba.Clock)
    assert isinstance(testing.ScriptedRunner([]), taquba.StepRunner)
    assert isinstance(testing.RecordingHook(), taquba.TerminalHook)
