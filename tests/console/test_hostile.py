"""What users have stored is shown as text, whatever it is: no element, attribute, code or address comes out of it."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from taquba_workflow_sync import (
    ContinueAfter,
    Queue,
    RunSpec,
    Step,
    StepError,
    StepOutcome,
    WorkflowClient,
    WorkflowRuntime,
)
from taquba_workflow_sync.console.drawing.flow import picture
from taquba_workflow_sync.console.pages.queue import graph_of
from taquba_workflow_sync.flow.graph import Graph
from taquba_workflow_sync.queue import readable
from tests.console.site import Site
from tests.console.steps import step, work

Q = "workflow-steps"
#: What would break out of an element, an attribute, a title, a script, a template; and what cannot be seen.
EVIL = (
    '<x-evil onx="1">"\'`><script>alert(1)</script></title></textarea></pre><!--<![CDATA[{{ 7+7 }}{% raw %}'
    "&lt;x-evil&gt;&#60;x-evil&#62; javascript:alert(1) \u202etxt.exe\u202c\u200b\ufeff\u2028\x85\xad\u061c\U000e0041"
)
#: The same for what may hold any character at all.
WORSE = f"{EVIL}\n\r\t\x00\x1b[31m\ud800"
UNSEEN = "\u202e\u202c\u200b\ufeff\u2028\x85\xad\u061c\U000e0041\x00\x1b\r\ud800"


def looks(site: Site, address: str) -> str:
    """Return the text of a page; that nothing in it came out of data, the answer was looked through for."""
    answer = site.get(address)
    page = answer.page
    assert not any(each in answer.seen for each in UNSEEN), "something that cannot be seen is shown"
    text = page.raw
    assert "<x-evil onx=" in text and "14{%" not in text
    return text


def test_what_runs_bring_along_is_text_on_every_page(site: Site, queue: Queue) -> None:
    name = EVIL.replace("\x85", "")[:200].strip()
    client = WorkflowClient(queue, queue_name=name)
    clean = WORSE.replace("\ud800", "")

    def run_step(step: Step) -> StepOutcome:
        if step.payload == b"wait":
            step.progress(1, 3, clean.replace("\x00", "")[:200])
            return ContinueAfter(b"", delay=3600, label=EVIL[:60])
        if step.payload == b"permanent":
            raise StepError.permanent(WORSE)
        step.memo.put(EVIL[:100], WORSE.encode("utf-8", "surrogatepass"))
        raise ValueError(WORSE)

    client.set_limit(key=EVIL[:100], concurrency=1)
    client.set_limit(concurrency=100)
    headers = {EVIL: clean, "<b>": "&amp;"}
    client.submit(run_id="dead", input=b"permanent", headers=headers, label=EVIL[:60])
    client.submit(run_id="wait", input=b"wait", headers=headers, limit_key=EVIL[:100])
    client.submit(
        run_id="raise", input=WORSE.encode("utf-8", "surrogatepass"), headers=headers, max_attempts_per_step=2
    )
    WorkflowRuntime(queue, run_step, queue_name=name).run_until_idle()
    for number in range(3):
        client.submit(run_id=f"held-{number}", limit_key=EVIL[:100], input=b"\xff\xfe<x-evil>", label=EVIL[:60])
    client.signal("wait", EVIL[:100], WORSE.encode("utf-8", "surrogatepass"))
    client.cancel("held-0", reason=EVIL)
    claims = queue.claim_batch(name, 5)
    assert claims
    link = site.get().main.one("tbody").all("a")[0].get("href")
    assert site.get(link).main.one("h1").text.startswith("<x-evil onx=")
    looks(site, "")
    looks(site, link)
    for run_id in ("dead", "wait", "raise", "held-0", "held-1"):
        run = site.get("run", queue=name, id=run_id)
        assert not any(each in run.seen for each in UNSEEN)
        for form in ("json", "text", "hex"):
            site.get("run", queue=name, id=run_id, payload_as=form, result_as=form)
    assert "<x-evil onx=" in site.get("run", queue=name, id="dead").main.one("p", class_="problem").raw
    for address in ("runs", "dead", "limits", "schedules"):
        answer = site.get(address, queue=name)
        assert "<x-evil onx=" in answer.page.raw or address == "schedules"
        assert not any(each in answer.seen for each in UNSEEN)
    looks(site, "workers")


def test_signals_memos_and_schedules_are_text(site: Site, queue: Queue) -> None:
    client = WorkflowClient(queue)
    client.submit(run_id="r", input=b"note " + EVIL.encode()[:100])
    work(queue)
    (trigger,) = {each.name for each in client.signals("r")} or {""}
    client.submit(run_id="w", input=b"later")
    for number in range(120):
        client.signal("w", EVIL[:100], WORSE.encode("utf-8", "surrogatepass") * 100 + b"%d" % number)
    rows = site.get("run", id="w").main.one("section", aria_labelledby="signals").rows()
    assert len(rows) == 100 and rows[0][0].startswith("<x-evil") and len(rows[0][2]) < 2_500
    client.schedule("s-1", every=3600, spec=RunSpec(headers={"h": EVIL}, label=EVIL[:60]))
    assert site.get("schedules").main.rows()[0][0] == "s-1"
    assert trigger == ""


def test_what_is_asked_for_is_text_where_it_is_told_that_it_is_not_there(site: Site) -> None:
    for address in ("run", "runs", "queue", "dead", "schedules", "confirm", "payload", "events", "limits"):
        for name in ("queue", "id", "store", "cursor", "state", "prefix", "header", "since", "order", "do", "what"):
            answer = site.ask(site.request(address, f"{name}=%3Cx-evil%20onx%3D1%3E%E2%80%AE%00%FF&all=1&do=pause"))
            assert answer.status in (200, 400, 404)
            if answer.content_type.startswith("text/html"):
                assert not answer.page.all("x-evil") and "\u202e" not in answer.seen


def test_a_payload_of_64_mib_is_shown_in_part_and_saved_whole(
    site: Site, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    loads = json.loads
    monkeypatch.setattr(readable.json, "loads", lambda text: (read.append(len(text)), loads(text))[1])
    payload = b"[" + b'"<x-evil>",' * (64 * 2**20 // 11 - 1) + b"0]"
    WorkflowClient(queue).submit(run_id="r", input=payload)
    for form in ("", "json", "text", "hex"):
        answer = site.get("run", id="r", payload_as=form)
        assert len(answer.body) < 1_000_000 and "Only the beginning is shown." in answer.main.text
        assert "64.0 MiB" in answer.main.text
    assert all(length < 1_000_000 for length in read), "as JSON that would be seconds, and gigabytes"
    assert site.get("payload", id="r", what="payload").body == payload


@pytest.mark.parametrize(
    "payload",
    [
        b"\xff" * 1000, b"\x00" * 1000, b"[" * 100_000, b'{"a":' * 50_000, b"1" * 10_000, b'"\\ud800"', b"[NaN, 1e999]",
        b'{"a": "\\u0000\\u202e"}', b"", b" ", b"\xef\xbb\xbf[1]", "\u00e9".encode("utf-16"), b"a" * 40_000,
        "\U0001f600".encode() * 100_000, b"x" + "\U0001f600".encode() * 100_000, b"\r\n\r\n", b"</pre><x-evil>",
    ],
    ids=lambda payload: repr(payload[:8]),
)  # fmt: skip
def test_a_payload_of_any_bytes_is_shown_in_every_form(site: Site, queue: Queue, payload: bytes) -> None:
    WorkflowClient(queue).submit(run_id="r", input=payload)
    work(queue)
    for form in ("", "json", "text", "hex", "<x>"):
        answer = site.get("run", id="r", payload_as=form, result_as=form)
        assert not any(each in answer.seen for each in UNSEEN)
        assert all(len(each.raw) <= 140_000 for each in answer.main.all("pre"))
    assert site.get("payload", id="r", what="payload").body == payload


def graph_with(name: str, **changes: Any) -> str:
    stored: dict[str, Any] = {
        "flow": name, "version": 1, "start": name, "steps": [name, "b"],
        "edges": [[name, "b", name], ["b", "b", None], ["b", name, "signal <x>"]],
    }  # fmt: skip
    return json.dumps({**stored, **changes})


@pytest.mark.parametrize(
    "name",
    [EVIL, WORSE, "", "\u202e", "x" * 100_000, "\U0001f600" * 50],
    ids=["evil", "worse", "empty", "turned", "long", "wide"],
)
def test_a_stored_graph_of_any_names_is_a_picture_of_texts(
    queue: Queue, site: Site, name: str, monkeypatch: Any
) -> None:
    client = WorkflowClient(queue)
    client.submit(run_id="r", label="b")
    monkeypatch.setattr(WorkflowClient, "graph", lambda client: graph_with(name))
    for address in (f"queue?queue={Q}", "run?id=r"):
        answer = site.get(address)
        svg = answer.main.one("svg", class_="flow")
        assert len(svg.all("rect")) == 2 and float(svg.get("width")) < 2_000
        assert not any(each in answer.seen for each in UNSEEN)


@pytest.mark.parametrize(
    "text",
    [
        "", "null", "[]", "{}", "[" * 100_000, '"x"', "1" * 10_000, graph_with("a", steps=[]),
        graph_with("a", steps=[1]),
        graph_with("a", steps=[["a"]]), graph_with("a", steps=None), graph_with("a", edges=[["a", "b"]]),
        graph_with("a", edges=[[1, 2, 3]]), graph_with("a", edges=[["a", "b", 5]]), graph_with("a", flow=5),
        graph_with("a", edges=[[["a"], "b", None]]), graph_with("a", start="none"), graph_with("a", start=None),
        graph_with("a", steps=[str(number) for number in range(61)], start="1"),
    ],
    ids=lambda text: text[:40],
)  # fmt: skip
def test_a_stored_graph_that_is_none_is_left_out(queue: Queue, site: Site, text: str, monkeypatch: Any) -> None:
    WorkflowClient(queue).submit(run_id="r", label="b")
    monkeypatch.setattr(WorkflowClient, "graph", lambda client: text)
    for address in (f"queue?queue={Q}", "run?id=r"):
        assert not site.get(address).main.all("svg", class_="flow")


def test_a_graph_with_a_step_twice_or_a_way_to_nowhere_is_drawn_without(site: Site) -> None:
    graph = graph_of(graph_with("a", steps=["a", "b", "a"], edges=[["a", "b", None], ["a", "gone", None]]))
    found = None if graph is None else picture(graph)
    assert found is not None and len(found.boxes) == 2 and len(found.arrows) == 1
    assert isinstance(graph_of(graph_with("a")), Graph)


@pytest.mark.embedded
def test_rows_that_are_damaged_break_no_page(tmp_path: Path) -> None:
    with Queue.open(tmp_path / "s", durability="relaxed") as queue:
        client = WorkflowClient(queue)
        for number in range(3):
            client.submit(run_id=f"r{number}", input=b"dead")
        work(queue)
        client.submit(run_id="w", input=b"ok")
    connection = sqlite3.connect(tmp_path / "s" / "db" / "cache.db")
    with connection:
        (table,) = [
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            if "job" in name and "last_error" in {row[1] for row in connection.execute(f"PRAGMA table_info({name})")}
        ]  # fmt: skip
        for column, value in (("headers", "{\x00<x-evil>"), ("last_error", b"\xff<x-evil>\xfe")):
            connection.execute(f"UPDATE {table} SET {column} = ?", (value,))
    connection.close()
    with Queue.open(tmp_path / "s", durability="relaxed") as queue:
        site = Site({"default": queue})
        for address in ("", "runs", "dead", "workers", f"queue?queue={Q}", "run?id=r0", "run?id=w"):
            assert site.ask(site.request(*address.partition("?")[::2])).status == 200, address


def test_a_runner_is_told_nothing_by_being_looked_at(site: Site, queue: Queue) -> None:
    client = WorkflowClient(queue)
    client.submit(run_id="r", input=b"later")
    WorkflowRuntime(queue, step).run_until_idle()
    before = client.status("r"), client.history("r"), queue.stats(Q)
    for address in ("", "runs", "run?id=r", f"queue?queue={Q}", "dead", "schedules", "limits", "workers"):
        site.get(address)
    assert (client.status("r"), client.history("r"), queue.stats(Q)) == before
