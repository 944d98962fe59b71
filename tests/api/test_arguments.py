"""Wrong types are TypeError, senseless values ValueError (or a tree error), both before anything is written."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taquba_workflow_sync import (
    InvalidNameError,
    PayloadTooLargeError,
    Queue,
    QueueConfig,
    RunSpec,
    Succeed,
    TaqubaError,
    WebhookRequest,
    WebhookTerminalHook,
    WebhookWorker,
    WorkflowClient,
    WorkflowRuntime,
    enqueue_webhook,
    run_worker,
)
from taquba_workflow_sync.testing import ManualClock, ScriptedRunner
from tests.queue.support import claimed
from tests.stable_ids import stable_id

NAN, INF = float("nan"), float("inf")
FAR = 2**63
NOT_A_STR: list[Any] = [None, 5, b"bytes", ["a"], object()]
NOT_BYTES: list[Any] = [None, "text", 5, bytearray(b"x"), memoryview(b"x"), ["a"]]
NOT_AN_INT: list[Any] = ["5", 1.5, b"5", True, [1], object()]
NOT_A_DURATION: list[Any] = ["5", b"5", True, [1], object(), 1j]
BAD_DURATIONS: list[Any] = [-1, -0.001, NAN, INF, -INF, timedelta(seconds=-1)]
NOT_HEADERS: list[Any] = ["text", 5, ["a"], {"a": 1}, {1: "a"}, {"a": None}, {"a": b"b"}, {b"a": "b"}, {None: "a"}]
OUT_OF_UTC = [
    datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
    datetime.max.replace(tzinfo=timezone(timedelta(hours=-14))),
]


def echo(step: Any) -> Succeed:
    return Succeed()


#: what is called -> argument -> (wrong types, senseless values)
Call = Callable[[Queue, dict[str, Any]], Any]
QUEUE_CALLS: dict[str, tuple[Call, dict[str, tuple[list[Any], list[Any]]]]] = {
    "enqueue": (
        lambda queue, given: queue.enqueue(**{"queue_name": "q", "payload": b"", **given}),
        {
            "queue_name": (NOT_A_STR, ["", "x" * 256, "\ud800", "a\0b"]),
            "payload": (NOT_BYTES, []),
            "job_id": ([5, b"a", ["a"]], ["", "a b", "x" * 129, "\ud800"]),
            "priority": (NOT_AN_INT, [FAR, -FAR, 2**31]),
            "max_attempts": (NOT_AN_INT, [0, -1, FAR]),
            "run_at": ([5, 1.5, "2026-01-01", timedelta(1)], [datetime(2026, 1, 1), *OUT_OF_UTC]),
            "dedup_key": ([5, b"k", ["k"]], ["", "x" * 1025, "\ud800"]),
            "headers": (NOT_HEADERS, [{"": "x"}, {"a": "\ud800"}, {"\ud800": "a"}]),
        },
    ),
    "enqueue_batch": (
        lambda queue, given: queue.enqueue_batch(**{"queue_name": "q", "payloads": [b""], **given}),
        {
            "queue_name": (NOT_A_STR, ["", "x" * 256]),
            "payloads": ([None, 5, b"bytes", "text", [b"", None], [b"", "x"], [5]], []),
        },
    ),
    "claim": (
        lambda queue, given: queue.claim(**{"queue_name": "q", **given}),
        {"queue_name": (NOT_A_STR, ["", "x" * 256]), "lease": (NOT_A_DURATION, [0, *BAD_DURATIONS])},
    ),
    "claim_batch": (
        lambda queue, given: queue.claim_batch(**{"queue_name": "q", "max_jobs": 1, **given}),
        {
            "queue_name": (NOT_A_STR, [""]),
            "max_jobs": ([None, *NOT_AN_INT], [0, -1, FAR]),
            "lease": (NOT_A_DURATION, [0, *BAD_DURATIONS]),
        },
    ),
    "claim_with_wait": (
        lambda queue, given: queue.claim_with_wait(**{"queue_name": "q", "timeout": 0, **given}),
        {
            "queue_name": (NOT_A_STR, [""]),
            "timeout": ([None, *NOT_A_DURATION], BAD_DURATIONS),
            "lease": (NOT_A_DURATION, [0, *BAD_DURATIONS]),
        },
    ),
    "cancel": (lambda queue, given: queue.cancel(**given), {"job_id": (NOT_A_STR, ["", "a b", "x" * 129])}),
    "get_job": (lambda queue, given: queue.get_job(**given), {"job_id": (NOT_A_STR, ["", "a b"])}),
    "requeue_dead_job": (
        lambda queue, given: queue.requeue_dead_job(**given),
        {"job_id": (NOT_A_STR, ["", "a b"])},
    ),
    "attempt_history": (lambda queue, given: queue.attempt_history(**given), {"job_id": (NOT_A_STR, ["", "a b"])}),
    "stats": (lambda queue, given: queue.stats(**given), {"queue_name": (NOT_A_STR, ["", "x" * 256])}),
    "list_jobs": (
        lambda queue, given: queue.list_jobs(**{"queue_name": "q", **given}),
        {
            "queue_name": (NOT_A_STR, [""]),
            "status": ([5, b"pending", ["pending"]], ["waiting", ""]),
            "limit": ([None, *NOT_AN_INT], [0, -1, FAR]),
            "cursor": ([5, b"5", ["5"]], ["", "x", "-1", "9" * 40]),
        },
    ),
    "dead_jobs": (
        lambda queue, given: queue.dead_jobs(**{"queue_name": "q", **given}),
        {"queue_name": (NOT_A_STR, [""]), "limit": (NOT_AN_INT, [0]), "cursor": ([5], ["x"])},
    ),
    "run_worker": (
        lambda queue, given: run_worker(
            **{"queue": queue, "queue_name": "q", "worker": lambda job, claim: None, "shutdown": set_event(), **given}
        ),
        {
            "queue": ([None, "q", object()], []),
            "queue_name": (NOT_A_STR, [""]),
            "worker": ([None, 5, "worker", object()], []),
            "concurrency": ([None, *NOT_AN_INT], [0, -1, FAR]),
            "poll_interval": ([None, *NOT_A_DURATION], [0, *BAD_DURATIONS]),
            "shutdown": ([5, "now", True, object()], []),
        },
    ),
    "submit": (
        lambda queue, given: WorkflowClient(queue).submit(**given),
        {
            "input": (NOT_BYTES, []),
            "run_id": ([5, b"r", ["r"]], ["", "a b", "x" * 129, "../r"]),
            "headers": ([None, *NOT_HEADERS], [{"": "x"}, {"a": "\ud800"}, {"workflow.x": "1"}]),
            "priority": (NOT_AN_INT, [FAR, -FAR]),
            "max_attempts_per_step": (NOT_AN_INT, [0, -1, FAR]),
            "run_at": ([5, "now"], [datetime(2026, 1, 1), *OUT_OF_UTC]),
            "if_finished": ([None, 5, True], ["always", ""]),
        },
    ),
    "submit_many": (
        lambda queue, given: WorkflowClient(queue).submit_many(**given),
        {"specs": ([None, 5, RunSpec(), [None], ["r"], [RunSpec(), {"run_id": "r"}]], [])},
    ),
    "client": (
        lambda queue, given: WorkflowClient(**{"queue": queue, **given}).submit(),
        {
            "queue": ([None, "q", object()], []),
            "queue_name": (NOT_A_STR, ["", "x" * 247, "a.terminal"]),
            "keep_runs": (NOT_A_DURATION, BAD_DURATIONS),
        },
    ),
    "client.status": (lambda queue, given: WorkflowClient(queue).status(**given), {"run_id": (NOT_A_STR, ["", "a b"])}),
    "client.outcome": (
        lambda queue, given: WorkflowClient(queue).outcome(**given),
        {"run_id": (NOT_A_STR, ["", "a b"])},
    ),
    "client.cancel": (lambda queue, given: WorkflowClient(queue).cancel(**given), {"run_id": (NOT_A_STR, ["", "a b"])}),
    "client.retry": (lambda queue, given: WorkflowClient(queue).retry(**given), {"run_id": (NOT_A_STR, ["", "a b"])}),
    "client.list_runs": (
        lambda queue, given: WorkflowClient(queue).list_runs(**given),
        {
            "state": ([5, b"pending", ["pending"]], ["waiting", "done"]),
            "limit": ([None, *NOT_AN_INT], [0, -1, FAR]),
            "cursor": ([5, b"5"], ["", "x"]),
        },
    ),
    "runtime": (
        lambda queue, given: WorkflowRuntime(**{"queue": queue, "runner": echo, **given}).submit(),
        {
            "queue": ([None, "q"], []),
            "runner": ([None, 5, "runner", object()], []),
            "terminal_hook": ([5, "hook", object()], []),
            "queue_name": (NOT_A_STR, ["", "x" * 247, "a.terminal"]),
            "max_concurrent_steps": ([None, *NOT_AN_INT], [0, -1, FAR]),
            "poll_interval": ([None, *NOT_A_DURATION], [0, *BAD_DURATIONS]),
            "keep_runs": (NOT_A_DURATION, BAD_DURATIONS),
            "shutdown_grace": (NOT_A_DURATION, BAD_DURATIONS),
            "step_order": ([None, 5, True], ["random", ""]),
        },
    ),
    "runtime.run": (
        lambda queue, given: WorkflowRuntime(queue, echo).run(**{"shutdown": set_event(), **given}),
        {"shutdown": ([5, "now", True], []), "handle_signals": ([None, 1, "yes"], [])},
    ),
    "runtime.stop": (
        lambda queue, given: WorkflowRuntime(queue, echo).stop(**given),
        {"timeout": (NOT_A_DURATION, BAD_DURATIONS)},
    ),
    "runtime.run_until_idle": (
        lambda queue, given: WorkflowRuntime(queue, echo).run_until_idle(**given),
        {
            "timeout": (NOT_A_DURATION, BAD_DURATIONS),
            "wait_for_scheduled": ([None, *NOT_A_DURATION], BAD_DURATIONS),
        },
    ),
    "enqueue_webhook": (
        lambda queue, given: enqueue_webhook(
            **{
                "queue": queue,
                "target_queue": "w",
                "request": WebhookRequest("http://127.0.0.1/"),
                "body": b"",
                **given,
            }
        ),
        {
            "target_queue": (NOT_A_STR, ["", "x" * 256]),
            "request": ([None, "http://127.0.0.1/", {}], []),
            "body": (NOT_BYTES, []),
            "job_id": ([5, b"a"], ["", "a b"]),
        },
    ),
    "webhook hook": (
        lambda queue, given: WebhookTerminalHook(**{"queue": queue, **given}),
        {
            "queue": ([None, "q"], []),
            "target_queue": (NOT_A_STR, ["", "x" * 256]),
            "url_header": (NOT_A_STR, []),
            "timeout": (NOT_A_DURATION, [0, *BAD_DURATIONS]),
            "secret": ([5, [5], object()], ["not base64!", ["not base64!"]]),
            "allow": ([True, "example.org", ["example.org"]], []),
        },
    ),
}


def set_event() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


def cases(which: int) -> list[Any]:
    return [
        pytest.param(name, argument, value, id=f"{name}-{argument}-{stable_id(value):.30}")
        for name, (_, arguments) in QUEUE_CALLS.items()
        for argument, values in arguments.items()
        for value in values[which]
    ]


@pytest.fixture(scope="module")
def blank() -> Iterator[Queue]:
    """One queue for all refusals: each must leave it as it was."""
    with Queue.temporary(durability="relaxed") as queue:
        yield queue


def rows(queue: Queue) -> int:
    return sum(len(queue.list_jobs(name).jobs) for name in queue.list_queues())


@pytest.mark.parametrize(("name", "argument", "value"), cases(0))
def test_a_wrong_type_is_a_type_error_and_nothing_is_written(
    blank: Queue, name: str, argument: str, value: object
) -> None:
    before = rows(blank)
    with pytest.raises(TypeError):
        QUEUE_CALLS[name][0](blank, {argument: value})

    assert rows(blank) == before


@pytest.mark.parametrize(("name", "argument", "value"), cases(1))
def test_a_senseless_value_is_a_value_error_and_nothing_is_written(
    blank: Queue, name: str, argument: str, value: object
) -> None:
    before = rows(blank)
    with pytest.raises(ValueError, match=r"\S") as caught:
        QUEUE_CALLS[name][0](blank, {argument: value})

    assert not isinstance(caught.value, UnicodeError), "a message of ours, not one from the depths"
    assert rows(blank) == before


CLAIM_CALLS: dict[str, tuple[Callable[..., Any], dict[str, tuple[list[Any], list[Any]]]]] = {
    "ack": (Queue.ack, {"claim": ([None, "token", 5], [])}),
    "nack": (Queue.nack, {"claim": ([None, "token"], []), "error": ([*NOT_A_STR, ValueError("v")], [])}),
    "dead_letter": (Queue.dead_letter, {"claim": ([None], []), "error": (NOT_A_STR, [])}),
    "advance": (
        Queue.advance,
        {
            "claim": ([None], []),
            "payload": (NOT_BYTES, []),
            "headers": (NOT_HEADERS, [{"": "x"}]),
            "delay": (NOT_A_DURATION, BAD_DURATIONS),
        },
    ),
    "renew_lease": (
        Queue.renew_lease,
        {"claim": ([None], []), "extension": ([None, *NOT_A_DURATION], [0, *BAD_DURATIONS])},
    ),
}
GOOD: dict[str, dict[str, Any]] = {
    "ack": {}, "nack": {"error": "e"}, "dead_letter": {"error": "e"}, "advance": {"payload": b""},
    "renew_lease": {"extension": 1},
}  # fmt: skip


@pytest.mark.parametrize("name", CLAIM_CALLS)
def test_wrong_arguments_of_a_settlement_leave_the_claim_held(queue: Queue, name: str) -> None:
    job_id = queue.enqueue("q", b"")
    claim = claimed(queue)
    before = queue.get_job(job_id)
    call, arguments = CLAIM_CALLS[name]
    for argument, (wrong, senseless) in arguments.items():
        for values, error in ((wrong, TypeError), (senseless, ValueError)):
            for value in values:
                with pytest.raises(error):
                    call(queue, **{"claim": claim, **GOOD[name], argument: value})
                assert queue.get_job(job_id) == before, (argument, value)
    call(queue, **{"claim": claim, **GOOD[name]})


CONFIG: dict[str, tuple[list[Any], list[Any]]] = {
    "max_attempts": ([None, *NOT_AN_INT], [0, -1, FAR]),
    "lease_duration": ([None, *NOT_A_DURATION], [0, *BAD_DURATIONS]),
    "default_priority": ([None, *NOT_AN_INT], [FAR, -FAR]),
    "retry_backoff_base": ([None, *NOT_A_DURATION], BAD_DURATIONS),
    "retry_backoff_max": ([None, *NOT_A_DURATION], BAD_DURATIONS),
    "retry_jitter": ([None, 1, "yes"], []),
    "keep_done_jobs": (NOT_A_DURATION, BAD_DURATIONS),
    "dead_retention": (NOT_A_DURATION, BAD_DURATIONS),
}


@pytest.mark.parametrize("field", CONFIG)
def test_a_queue_config_refuses_them(field: str) -> None:
    wrong, senseless = CONFIG[field]
    for value in wrong:
        with pytest.raises(TypeError, match=field):
            QueueConfig(**{field: value})
    for value in senseless:
        with pytest.raises(ValueError, match=field):
            QueueConfig(**{field: value})


class NoClock:
    pass


OPEN: dict[str, tuple[list[Any], list[Any]]] = {
    "path": ([None, 5, b"bytes", ["p"]], ["", "a\0b"]),
    "default_config": ([5, "config", {}], []),
    "queue_configs": (
        [5, "config", [QueueConfig()], {"q": None}, {"q": {}}, {5: QueueConfig()}],
        [{"": QueueConfig()}],
    ),
    "durability": ([None, 5, True], ["none", "FULL", ""]),
    "exclusive": ([None, 1, "yes"], []),
    "max_payload_bytes": ([None, *NOT_AN_INT], [0, -1]),
    "clock": ([5, NoClock(), "now"], []),
}


@pytest.mark.parametrize("argument", OPEN)
def test_open_refuses_them_and_makes_nothing(tmp_path: Path, argument: str) -> None:
    wrong, senseless = OPEN[argument]
    for values, error in ((wrong, TypeError), (senseless, ValueError)):
        for value in values:
            with pytest.raises(error):
                Queue.open(**{"path": tmp_path / "s", argument: value})
    assert not (tmp_path / "s").exists()


def test_webhook_requests_and_workers_refuse_them() -> None:
    for bad in ({"url": 5}, {"url": None}, {"method": 5}, {"headers": {"a": 1}}, {"timeout": "5"}):
        with pytest.raises(TypeError):
            WebhookRequest(**{"url": "http://127.0.0.1/", **bad})  # type: ignore[arg-type]
    for senseless in ({"url": ""}, {"url": "ftp://x/"}, {"method": ""}, {"timeout": 0}, {"timeout": NAN}):
        with pytest.raises(ValueError):  # the messages are the webhook tests' affair
            WebhookRequest(**{"url": "http://127.0.0.1/", **senseless})  # type: ignore[arg-type]
    for bad in ({"session": 5}, {"default_timeout": "5"}, {"secret": 5}, {"delivery_id_header": None}, {"allow": 5}):
        with pytest.raises(TypeError):
            WebhookWorker(**bad)  # type: ignore[arg-type]


def test_the_testing_helpers_refuse_them() -> None:
    with pytest.raises(ValueError, match="time zone"):
        ManualClock(datetime(2026, 1, 1))
    with pytest.raises(TypeError):
        ManualClock().advance("5")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        ScriptedRunner(5)  # type: ignore[arg-type]


def test_senseless_names_are_of_the_tree_too(queue: Queue) -> None:
    with pytest.raises(InvalidNameError) as caught:
        queue.enqueue("", b"")
    assert isinstance(caught.value, TaqubaError) and isinstance(caught.value, ValueError)


# -- whatever one gives ------------------------------------------------------------------------------------------------

ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=300), st.binary(max_size=50),
    st.datetimes(), st.datetimes(timezones=st.timezones()), st.timedeltas(),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3), st.lists(st.integers(), max_size=2),
)  # fmt: skip
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def taken_or_refused(queue: Queue, call: Callable[[], object]) -> None:
    """A call with any arguments works, or refuses with one of the three and writes nothing."""
    before = {name: queue.stats(name) for name in queue.list_queues()}
    try:
        call()
    except (TypeError, ValueError, PayloadTooLargeError) as error:
        assert not isinstance(error, UnicodeError), error
        assert {name: queue.stats(name) for name in queue.list_queues()} == before


@FUZZ
@given(given_=st.fixed_dictionaries(
    {"queue_name": st.one_of(st.just("q"), ANYTHING), "payload": st.one_of(st.just(b""), ANYTHING)},
    optional={"job_id": ANYTHING, "priority": ANYTHING, "max_attempts": ANYTHING, "run_at": ANYTHING,
              "dedup_key": ANYTHING, "headers": ANYTHING},
))  # fmt: skip
def test_enqueue_takes_or_refuses_whatever_it_is_given(queue: Queue, given_: dict[str, Any]) -> None:
    taken_or_refused(queue, lambda: queue.enqueue(**given_))
    for name in queue.list_queues():
        queue.list_jobs(name, limit=10_000)


@FUZZ
@given(given_=st.fixed_dictionaries(
    {},
    optional={"input": ANYTHING, "run_id": ANYTHING, "headers": ANYTHING, "priority": ANYTHING,
              "max_attempts_per_step": ANYTHING, "run_at": ANYTHING, "if_finished": ANYTHING},
))  # fmt: skip
def test_submit_takes_or_refuses_whatever_it_is_given(queue: Queue, given_: dict[str, Any]) -> None:
    from taquba_workflow_sync import InputMismatchError

    client = WorkflowClient(queue)
    try:
        taken_or_refused(queue, lambda: client.submit(**given_))
    except InputMismatchError:
        pass
    client.list_runs(limit=10_000)


@FUZZ
@given(name=st.sampled_from(sorted(CONFIG)), value=ANYTHING)
def test_a_queue_config_takes_or_refuses_whatever_it_is_given(name: str, value: object) -> None:
    try:
        config = QueueConfig(**{name: value})  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return
    assert getattr(config, name) == value


@FUZZ
@given(error=st.text(max_size=50))
def test_any_text_may_be_an_error(queue: Queue, error: str) -> None:
    job_id = queue.enqueue("q", b"", max_attempts=1)
    queue.nack(claimed(queue), error)
    job = queue.get_job(job_id)
    assert job is not None and job.last_error == error


@FUZZ
@given(headers=st.dictionaries(st.text(min_size=1, max_size=20), st.text(max_size=100), max_size=5),
       payload=st.binary(max_size=5000))  # fmt: skip
def test_headers_and_payloads_come_back_as_they_went_in(queue: Queue, headers: dict[str, str], payload: bytes) -> None:
    job_id = queue.enqueue("q", payload, headers=headers)
    job = queue.get_job(job_id)
    assert job is not None and (job.headers, job.payload) == (headers, payload)
