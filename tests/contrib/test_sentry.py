"""One event of a dead letter, with tags and a fingerprint; told by a transport that sends nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from taquba_workflow_sync import Queue, Step, StepOutcome, Succeed, WorkflowRuntime
from tests.contrib.support import work
from tests.support import PATIENCE

sentry_sdk = pytest.importorskip("sentry_sdk")

from sentry_sdk.transport import Transport  # noqa: E402  # behind the skip

from taquba_workflow_sync.contrib.sentry import TaqubaIntegration  # noqa: E402  # behind the skip


class Kept(Transport):
    """Keeps what would be sent."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[dict[str, Any]] = []

    def capture_envelope(self, envelope: Any) -> None:
        event = envelope.get_event()
        if event is not None:
            self.events.append(event)


@pytest.fixture
def sent() -> Iterator[Kept]:
    transport = Kept()
    sentry_sdk.init(
        dsn="http://key@127.0.0.1/1", transport=transport, integrations=[TaqubaIntegration()], default_integrations=True
    )
    yield transport
    sentry_sdk.get_client().close()
    sentry_sdk.init()


def test_a_dead_letter_is_one_event_with_its_exception_tags_and_fingerprint(queue: Queue, sent: Kept) -> None:
    work(queue, "dead-1", "retry-1", "fail-1", "good")
    (event,) = sent.events
    assert event["level"] == "error"
    (error,) = event["exception"]["values"]
    assert (error["type"], error["value"]) == ("StepError", "410")
    assert error["stacktrace"]["frames"][-1]["function"] == "orders"
    tags = event["tags"]
    assert {name: tags[name] for name in tags if name != "taquba.job_id"} == {
        "taquba.queue": "orders", "taquba.step": "0", "taquba.label": "charge", "taquba.run_id": "dead-1",
        "taquba.attempt": "1",
    }  # fmt: skip
    assert event["fingerprint"] == ["{{ default }}", "orders", "charge"]


def test_two_runs_of_one_step_are_one_issue_and_two_steps_are_two(queue: Queue, sent: Kept) -> None:
    work(queue, "dead-1", "dead-2")
    work(queue, "dead-3", queue_name="invoices")
    prints = [tuple(event["fingerprint"]) for event in sent.events]
    assert len(prints) == 3 and len(set(prints)) == 2


def test_a_fingerprint_that_the_user_has_set_is_kept(queue: Queue, sent: Kept) -> None:
    with sentry_sdk.isolation_scope() as scope:
        scope.fingerprint = ["mine"]
        scope.set_tag("shop", "north")
        logging.getLogger("taquba_workflow_sync.test").error("dead", extra={"job_id": "j", "queue": "q"})
    (event,) = sent.events
    assert event["fingerprint"] == ["mine"] and event["tags"] == {
        "shop": "north",
        "taquba.queue": "q",
        "taquba.job_id": "j",
    }


def test_without_the_integration_events_are_left_alone(queue: Queue, sent: Kept) -> None:
    without = Kept()
    sentry_sdk.init(dsn="http://key@127.0.0.1/1", transport=without)  # in one process what was set up once stays
    work(queue, "dead-1")
    (event,) = without.events
    assert sent.events == [] and "fingerprint" not in event and not event.get("tags")


def test_a_dead_letter_without_an_exception_is_an_event_too(queue: Queue, sent: Kept) -> None:
    runtime = WorkflowRuntime(queue, lambda step: None, queue_name="orders")  # type: ignore[arg-type,return-value]
    runtime.submit(run_id="r")
    runtime.run_until_idle(PATIENCE)
    (event,) = sent.events
    assert "is a dead letter" in event["logentry"]["message"] and event["fingerprint"][1:] == ["orders", "0"]
    assert "taquba.label" not in event["tags"]


def test_events_of_others_are_left_alone(queue: Queue, sent: Kept) -> None:
    logging.getLogger("app").error("not ours")
    logging.getLogger("taquba_workflow_sync_of_mine").error("neither", extra={"job_id": "x"})
    logging.getLogger("taquba_workflow_sync.storage").error("ours, and of no step")
    assert sentry_sdk.capture_message("of no logger") is not None

    def step(step: Step) -> StepOutcome:
        logging.getLogger("app").error("in a step")
        return Succeed()

    runtime = WorkflowRuntime(queue, step)
    runtime.submit()
    runtime.run_until_idle(PATIENCE)
    assert len(sent.events) == 5
    assert all("fingerprint" not in event and not event.get("tags") for event in sent.events)
