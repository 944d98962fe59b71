"""Whatever is sent, the answer is a page: of the store, or of what is wrong with the request; never a 500."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from taquba_workflow_sync import Queue, RunSpec, WorkflowClient
from taquba_workflow_sync.console import ACT, READ
from taquba_workflow_sync.console.actions import ACTIONS
from taquba_workflow_sync.console.messages import Fields
from taquba_workflow_sync.console.routes import PAGES
from tests.console.site import Site
from tests.console.steps import work

Q = "workflow-steps"
PATHS = (*PAGES, "act", "events", "payload", "console.css", "nothing", "\x00", "a/b", "..")
NAMES = (
    "queue", "id", "store", "cursor", "state", "prefix", "header", "since", "until", "failed_with", "parent", "order",
    "do", "all", "what", "payload_as", "page", "reason", "memo", "signal", "payload", "csrf_token", "x",
)  # fmt: skip
VALUES = (
    "", Q, "bare", "bare.terminal", "default", "r", "w", "d", "1", "-1", "1e309", "9" * 400, "failed", "newest", "2h",
    "99999999w", "0001-01-01", "9999-12-31T23:59:59.999999+23:59", "2026-11-26T03:15:00", "a=b", "=", "keep", "json",
    "\x00", "\u202e", "\ud800", "\uffff", "a\r\nb: c", "<x-evil>", "'\"`", "%", "%00", "../..", "//evil.example/",
    "http://[", "//[", "runs?queue=%ff", "?", "run?id=r", "?store=x", "confirm?do=cancel", "x" * 5000, *ACTIONS,
)  # fmt: skip
texts = some.one_of(some.sampled_from(VALUES), some.text(max_size=40))
pairs = some.lists(some.tuples(some.one_of(some.sampled_from(NAMES), some.text(max_size=5)), texts), max_size=6)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Queue]:
    """A store for all examples together: what they do to it is part of what comes up."""
    with Queue.open(tmp_path_factory.mktemp("malformed") / "store", durability="relaxed") as queue:
        client = WorkflowClient(queue)
        client.submit(run_id="r")
        client.submit(run_id="w", input=b"later")
        client.submit(run_id="d", input=b"dead")
        client.schedule("s", every=3600, spec=RunSpec())
        client.set_limit(key="r", concurrency=1)
        queue.enqueue("bare", b"")
        work(queue)
        yield queue


def fields(given: list[tuple[str, str]]) -> Fields:
    values: dict[str, list[str]] = {}
    for name, value in given:
        values.setdefault(name, []).append(value)
    return Fields(values)


@pytest.mark.embedded
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    path=some.one_of(some.sampled_from(PATHS), some.text(max_size=8)),
    method=some.sampled_from(["GET", "GET", "GET", "POST", "HEAD", "PUT"]),
    query=pairs, form=pairs, access=some.sampled_from([READ, ACT]), last=some.none() | some.text(max_size=20),
)  # fmt: skip
def test_no_request_is_answered_by_an_error_of_ours(
    store: Queue, path: str, method: str, query: Any, form: Any, access: Any, last: Any
) -> None:
    site = Site({"default": store}, access)
    request = site.request(path, method=method, form=fields(form))
    answer = site.ask(type(request)(**{**_values(request), "query": fields(query), "last_event_id": last}))
    assert answer.status in (200, 400, 403, 404, 405)
    assert answer.body or method == "HEAD"


FILTERS = ("state", "prefix", "header", "since", "until", "failed_with", "parent")
#: What each page reads of a request.
READS = {
    "": ("store", "x"),
    "queue": ("queue",),
    "runs": ("queue", "cursor", "order", *FILTERS),
    "run": ("queue", "id", "payload_as"),
    "dead": ("queue", "cursor"),
    "schedules": ("queue",),
    "limits": (),
    "workers": (),
    "confirm": ("do", "id", "all", "queue", *FILTERS),
    "payload": ("id", "what"),
    "events": ("page",),
}


@pytest.mark.embedded
@pytest.mark.parametrize("path", READS)
def test_no_value_of_a_parameter_breaks_a_page(store: Queue, path: str) -> None:
    site = Site({"default": store})
    good = {"queue": Q, "id": "r", "do": "cancel", "what": "payload", "page": "runs"}
    for name in READS[path]:
        for value in VALUES:
            request = site.request(path, urlencode({**good, name: value}, errors="surrogatepass"))
            assert site.console.answer(request).status in (200, 400, 404), (name, value)
            request = site.request(path, urlencode({name: value}, errors="surrogatepass"))
            assert site.console.answer(request).status in (200, 400, 404), (name, value)


@pytest.mark.embedded
@pytest.mark.parametrize("do", ACTIONS)
def test_no_value_of_a_form_breaks_an_action(store: Queue, do: str) -> None:
    site = Site({"default": store})
    for name in ("queue", "id", "reason", "memo", "signal", "payload", "store", *(FILTERS if do == "cancel" else ())):
        for value in VALUES:
            which = ("id", "nobody") if ACTIONS[do].each and name not in FILTERS else ("all", "1")
            given = [(name, value)] if name == which[0] else [which, (name, value)]
            request = site.request("act", method="POST", form=fields([("do", do), ("queue", "elsewhere"), *given]))
            assert site.console.answer(request).status in (200, 400, 404), given


def _values(request: Any) -> dict[str, Any]:
    return {name: getattr(request, name) for name in type(request).__slots__}
