"""The pages: what each of them shows of a store, whatever is in it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from taquba_workflow_sync import Queue, QueueConfig, RunSpec, RunState, StorageError, WorkflowClient, WorkflowRuntime
from taquba_workflow_sync.console import READ
from taquba_workflow_sync.flow import Flow, Goto
from taquba_workflow_sync.queue.workers import RunningJob, WorkerProcess
from tests.console.site import BASE, Site
from tests.console.steps import step, work
from tests.support import await_event
from tests.workflow.support import Gate

PAGES = ("", "runs", "dead", "schedules", "limits", "workers")
Q = "workflow-steps"


@pytest.mark.parametrize("page", PAGES)
def test_an_empty_store_has_every_page(site: Site, page: str) -> None:
    assert site.get(page).main.one("h1").text


def test_a_page_leads_to_all_others_and_says_which_one_it_is(site: Site) -> None:
    for page in PAGES:
        nav = site.get(page).page.one("nav", aria_label="Pages")
        assert [each.get("href") for each in nav.all("a")] == [f"{BASE}/{each}" for each in PAGES]
        (now,) = nav.all("a", aria_current="page")
        assert now.get("href") == f"{BASE}/{page}"


def test_a_page_that_is_not_there_says_so(site: Site) -> None:
    for path in ("nothing", "runs/", "run/a", "../runs", "%2e%2e", "console.html", "base.html", "templates/base.html"):
        assert "no such page" in site.get(path, status=404).problem
    assert "has no run 'x'" in site.get("run", id="x", status=404).problem
    assert "has no queue 'x'" in site.get("queue", queue="x", status=404).problem
    assert "no run is named" in site.get("run", status=400).problem


def test_what_is_not_asked_for_by_get_is_refused(site: Site) -> None:
    for method in ("POST", "PUT", "DELETE", "TRACE", "X"):
        assert site.ask(site.request("runs", method=method)).status == 405
    for method in ("GET", "HEAD", "PUT"):
        assert site.ask(site.request("act", "do=pause&all=1&queue=q", method=method)).status == 405


@pytest.mark.parametrize("name", ["console.css", "console.js", "console.svg"])
def test_the_files_beside_the_pages_are_kept_by_browsers_and_asked_for_by_what_they_are(site: Site, name: str) -> None:
    answer = site.get(name)
    assert answer.body and "immutable" in answer.headers["Cache-Control"]
    head = site.get("").page.one("html")
    addresses = [each.get("href") or each.get("src") for each in head.every() if each.tag in ("link", "script", "img")]
    (address,) = {each for each in addresses if f"/{name}?" in each}
    assert address.startswith(f"{BASE}/{name}?v=") and len(address.partition("=")[2]) == 12


def test_the_first_page_counts_what_every_queue_does(site: Site, queue: Queue) -> None:
    client = WorkflowClient(queue)
    for number, word in enumerate((b"ok", b"later", b"dead x", b"raise y", b"fail")):
        client.submit(run_id=f"r{number}", input=word, max_attempts_per_step=2)
    work(queue)
    client.submit(run_id="in-line")
    queue.enqueue("bare", b"")
    WorkflowClient(queue, queue_name="paused").submit(run_id="p")
    WorkflowClient(queue, queue_name="paused").pause()
    main = site.get().main
    rows = {row[0]: row[2:] for row in main.rows()}
    assert rows["bare"][1:] == ["1", rows["bare"][2], "0", "0", "0"]
    assert "paused paused" in rows
    assert rows[Q][1] == "1" and rows[Q][3:5] == ["1", "0"] and rows[Q][5] == "2"
    cards = main.one("ul", class_="cards").text
    assert "0 running" in cards and "3 in line" in cards and "2 dead letters" in cards
    assert "1 wait for a time or a signal" in cards
    assert "3 failed" in main.text and "1 succeeded" in main.text


def test_a_page_of_a_queue_tells_its_states_its_steps_and_its_limits(site: Site, queue: Queue) -> None:
    client = WorkflowClient(queue)
    client.submit(run_id="a", input=b"two", label="first")
    client.submit(run_id="b", input=b"dead", label="first")
    client.set_limit(concurrency=3)
    work(queue)
    main = site.get("queue", queue=Q).main
    assert main.one("h1").text == Q
    states = main.one("section", aria_labelledby="states").text
    assert "succeeded 1" in states and "failed 1" in states and "pending 0" in states
    steps = {row[0]: row[1:3] for row in main.rows()}
    assert steps["first"] == ["2", "1"] and steps["second"] == ["1", "0"]
    assert "1 limit" in main.one("section", aria_labelledby="limits").text
    assert "From submit to the first step" in main.text
    assert site.click(site.get(), Q).main.one("h1").text == Q


def test_a_queue_of_bare_jobs_and_the_lane_of_webhooks_have_pages_without_runs(site: Site, queue: Queue) -> None:
    queue.enqueue("bare", b"x")
    queue.enqueue(f"{Q}.terminal", b"x")
    for name in ("bare", f"{Q}.terminal"):
        assert site.get("queue", queue=name).main.one("h1").text == name
        assert site.get("dead", queue=name).main.one("h1").text == "Dead letters"
    assert site.get("runs", queue=f"{Q}.terminal", status=404).problem == f"queue '{Q}.terminal' has no runs"
    assert site.get("schedules", queue=f"{Q}.terminal", status=404).problem


def test_runs_that_wait_say_what_for(site: Site, queue: Queue) -> None:
    client = WorkflowClient(queue)
    client.set_limit(key="shop", concurrency=1)
    client.submit(run_id="time", input=b"later")
    client.submit(run_id="signal", input=b"ask approved")
    client.submit(run_id="group", input=b"spawn")
    work(queue)
    client.submit(run_id="holder", limit_key="shop")
    client.submit(run_id="limit", limit_key="shop")
    client.submit(run_id="line")
    said = {row[1]: row[7] for row in site.get("runs", state="pending").main.rows()}
    assert said["time"] == "waits for its time" and said["signal"] == "waits for the signal approved"
    assert said["group"] == "waits for the group fan" and said["limit"] == "held back by the limit shop"
    assert said["line"] == said["holder"] == ""
    assert "until 20" in site.get("run", id="time").main.one("dl").text
    assert "1 of 3 are open, 1 failed" in site.get("run", id="group").main.one("dl").text
    assert "in line" in site.get("run", id="line").main.one("dl").text
    assert "held back by the limit shop" in site.get("run", id="limit").main.one("dl").text


def test_a_run_that_runs_shows_how_far_it_is_where_and_that_it_is_to_stop(site: Site, queue: Queue) -> None:
    gate = Gate()

    def run_step(step: Any) -> Any:
        step.progress(3, 10, "page 3")
        return gate.run_step(step)

    with WorkflowRuntime(queue, run_step) as runtime:
        runtime.submit(run_id="r", step_timeout=0.01, label="count")
        await_event(gate.started)
        client = WorkflowClient(queue)
        while (found := client.status("r")) is None or found.progress is None or not found.overdue:
            gate.go.wait(0.01)
        ((row,)) = site.get("runs").main.rows()
        assert row[1:4] == ["r", "running", "0 count"] and row[7] == "30 % 3 of 10 page 3 overdue"
        main = site.get("run", id="r").main
        facts = main.one("dl").text
        assert "process" in facts and "overdue" in facts and "Lease until" in facts
        assert main.one("progress").get("value") == "30"
        assert "r" in [row[0] for row in site.get("workers").main.rows()]
        assert site.do(site.get("run", id="r"), "Cancel") == ["r cancelled, or asked to stop where a step of it runs"]
        page = site.get("run", id="r")
        assert page.main.one("h1").text == "r cancelling"
        assert "Cancel" not in [each.text for each in page.main.all("a")]
        gate.go.set()
    assert site.get("run", id="r").main.one("h1").text == "r cancelled"


def test_a_failed_run_shows_its_error_and_each_traceback(site: Site, queue: Queue) -> None:
    WorkflowClient(queue).submit(run_id="r", input=b"raise out of paper", max_attempts_per_step=2)
    work(queue)
    main = site.get("run", id="r").main
    assert "ValueError: out of paper" in main.one("p", class_="problem").text
    events = main.one("ol", class_="events").all("li")
    assert [each.one("b").text for each in events] == [
        "submitted",
        "started",
        "ended",
        "started",
        "ended",
        "terminated",
    ]
    tracebacks = [each.one("pre").raw for each in main.all("details")]
    assert len(tracebacks) == 2 and all("Traceback" in each and "raise ValueError" in each for each in tracebacks)
    (row,) = site.get("runs").main.rows()
    assert row[2] == "failed" and "out of paper" in row[7]


def test_a_run_shows_what_it_was_given_and_what_it_returned_in_three_forms(site: Site, queue: Queue) -> None:
    payload = b'{"id": 7, "names": ["\xc3\xa9"]}'
    WorkflowClient(queue).submit(run_id="r", input=payload)
    work(queue)
    main = site.get("run", id="r").main
    assert main.one("section", aria_labelledby="result").one("pre").raw.startswith('{\n  "id": 7')
    assert main.one("section", aria_labelledby="payload").one("pre").raw.startswith('{\n  "id": 7')
    assert site.get("run", id="r", payload_as="text").main.all("pre")[1].raw == payload.decode()
    assert site.get("run", id="r", payload_as="hex").main.all("pre")[1].raw.startswith("00000000  7b 22 69 64")
    for what in ("payload", "result"):
        saved = site.get("payload", id="r", what=what)
        assert saved.body == payload and saved.content_type == "application/octet-stream"
        assert saved.headers["Content-Disposition"] == f'attachment; filename="{what}.bin"'
    for what in ("", "error", "../payload", 'a"b'):
        assert site.get("payload", id="r", what=what, status=404).problem
    assert site.get("payload", id="nobody", what="payload", status=404).problem


def test_a_run_leads_to_those_that_it_has_spawned_and_they_lead_back(site: Site, queue: Queue) -> None:
    WorkflowClient(queue).submit(run_id="r", input=b"spawn")
    work(queue)
    page = site.get("run", id="r")
    children = page.main.one("section", aria_labelledby="children").all("a")
    assert [each.text for each in children] == ["fan-0", "fan-1", "fan-2"]
    assert {"fan-0", "fan-1", "fan-2"} <= {each.text.strip("↳ ") for each in page.main.all("text", class_="name")}
    child = site.get(children[0].get("href"))
    assert site.click(child, "r").main.one("h1").text.startswith("r ")
    listed = site.click(page, "3 runs").main
    assert {row[1] for row in listed.rows()} == {"fan-0", "fan-1", "fan-2"}


def test_a_run_shows_signals_that_it_has_not_used_and_what_its_step_has_noted(site: Site, queue: Queue) -> None:
    client = WorkflowClient(queue)
    client.submit(run_id="r", input=b"note paid")
    work(queue)
    client.submit(run_id="m", input=b"later", run_at=None)
    client.signal("m", "early", b'{"by": "me"}')
    page = site.get("run", id="m").main
    ((name, _, text),) = page.one("section", aria_labelledby="signals").rows()
    assert (name, text) == ("early", '{ "by": "me" }')
    claim = queue.claim(Q)
    assert claim is not None


def test_a_run_of_a_flow_shows_where_in_its_graph_it_is(site: Site, queue: Queue) -> None:
    orders = Flow[int, str]("orders")

    @orders.start
    def charge(number: int) -> Goto:
        return ship.goto(number, after=timedelta(hours=1))

    @orders.step
    def ship(number: int) -> str:
        return "shipped"

    runtime = WorkflowRuntime(queue, orders)
    runtime.submit(run_id="r", input=b"7")
    runtime.run_until_idle()
    main = site.get("run", queue="orders", id="r").main
    picture = main.one("svg", class_="flow")
    assert [each.all("text")[0].text for each in picture.all("g")] == ["charge", "ship"]
    assert picture.one("g", class_="current").one("text").text == "ship"
    assert site.get("queue", queue="orders").main.one("svg", class_="flow").all("g", class_="current") == []


def test_filters_find_what_they_say_and_stay_in_the_form_and_in_the_links(site: Site, queue: Queue) -> None:
    client = WorkflowClient(queue)
    for number in range(4):
        client.submit(run_id=f"a-{number}", input=b"dead odd" if number % 2 else b"ok", headers={"n": f"<{number}>"})
    client.submit(run_id="b-0", input=b"later")
    work(queue)

    def found(**filters: str) -> list[str]:
        return [row[1] for row in site.get("runs", **filters).main.rows()]

    assert found() == ["b-0", "a-3", "a-2", "a-1", "a-0"]
    assert found(order="oldest") == ["a-0", "a-1", "a-2", "a-3", "b-0"]
    assert found(state="failed") == ["a-3", "a-1"] and found(prefix="a-", state="succeeded") == ["a-2", "a-0"]
    assert found(failed_with="odd") == ["a-3", "a-1"] and found(header="n=<2>") == ["a-2"]
    assert found(since="1h") == found() and found(until="1h") == [] and found(until="2099-01-01") == found()
    assert found(state="cancelled") == []
    assert found(**dict(site.get("runs").main.one("details", id="filters").one("form").fields())) == found(), "nothing is filled in"
    page = site.get("runs", state="failed", header="n=<1>")
    fields = dict(page.main.one("details", id="filters").one("form").fields())
    assert fields["state"] == "failed" and fields["header"] == "n=<1>" and fields["queue"] == Q
    assert site.click(page, "Retry the failed").main.one("b").text.count("n=<1>") == 1


def test_filters_that_make_no_sense_are_told(site: Site) -> None:
    for name, value, said in (
        ("state", "gone", "it may be one of pending"), ("header", "x", "write NAME=VALUE"), ("header", "=x", "write"),
        ("since", "yesterday", "write 2026-11-26"), ("until", "9999-99-99", "write"), ("since", "0001-01-01", "since"),
        ("order", "up", "newest or oldest"), ("prefix", "a b", "characters"), ("parent", "\u202e", "characters"),
        ("cursor", "x", "cursor"),
        ("header", "n=" + "x" * 70_000, "headers have more than"), ("failed_with", "x" * 20_000, "failed_with"),
    ):  # fmt: skip
        assert said in site.get("runs", status=400, **{name: value}).problem, name
    assert "cursor" in site.get("dead", cursor="\u202ex", status=400).problem


def test_a_long_list_comes_in_pages_that_lead_on_and_back(site: Site, queue: Queue) -> None:
    WorkflowClient(queue).submit_many(RunSpec(run_id=f"r{number:03}") for number in range(120))
    seen: list[str] = []
    page = site.get("runs", prefix="r")
    while True:
        seen += [row[1] for row in page.main.rows()]
        links = {each.text for each in page.main.all("a")}
        if "Further runs" not in links:
            break
        page = site.click(page, "Further runs")
    assert seen == [f"r{number:03}" for number in reversed(range(120))]
    assert "From the beginning" in links
    assert site.click(page, "From the beginning").main.rows()[0][1] == "r119"


def test_dead_letters_of_runs_and_of_bare_jobs_are_listed_with_their_errors(site: Site, queue: Queue) -> None:
    client = WorkflowClient(queue)
    client.submit(run_id="r", input=b"dead lost")
    work(queue)
    queue.enqueue("bare", b"", job_id="job-1")
    claim = queue.claim("bare")
    assert claim is not None
    queue.dead_letter(claim, "unreadable")
    main = site.get("dead").main
    assert [each.text for each in main.one("ul", class_="states").all("a")] == ["bare 1", f"{Q} 1"]
    ((_, name, step_, attempts, _, error),) = main.rows()
    assert (name, step_, attempts, error) == ("job-1", "0", "1", "unreadable")
    ((_, name, *_, error),) = site.get("dead", queue=Q).main.rows()
    assert name == "r" and "lost" in error
    assert site.click(site.get("dead", queue=Q), "r").main.one("h1").text == "r failed"


def test_dead_letters_come_in_pages(site: Site, queue: Queue) -> None:
    client = WorkflowClient(queue)
    client.submit_many(RunSpec(run_id=f"d{number:02}", input=b"dead") for number in range(60))
    work(queue)
    page = site.get("dead")
    first = [row[1] for row in page.main.rows()]
    second = [row[1] for row in site.click(page, "Further ones").main.rows()]
    assert len(first) == 50 and len(second) == 10 and len({*first, *second}) == 60
    assert "all 60" in page.main.text


def test_schedules_say_when_they_fire_and_what_they_did(site: Site, queue: Queue) -> None:
    client = WorkflowClient(queue)
    client.schedule("nightly", cron="15 3 * * *", timezone="Europe/Berlin", spec=RunSpec())
    client.schedule("often", every=90, spec=RunSpec())
    client.pause_schedule("often")
    WorkflowClient(queue, queue_name="other").schedule("hourly", every=3600, spec=RunSpec())
    run_id = client.trigger("nightly")
    rows = {row[0]: row[1:5] for row in site.get("schedules").main.rows()}
    assert rows.keys() == {"nightly", "often paused", "hourly"}
    assert rows["nightly"][1] == "15 3 * * * Europe/Berlin" and rows["nightly"][3] == run_id
    assert rows["often paused"][1:3] == ["every 2 min", ""]
    assert rows["hourly"][:2] == ["other", "every 1 h"]
    assert [row[0] for row in site.get("schedules", queue="other").main.rows()] == ["hourly"]
    assert "No schedule is stored for none" in site.get("schedules", queue="none").main.text


def test_limits_say_what_they_are_and_what_they_hold_back(site: Site, queue: Queue) -> None:
    client = WorkflowClient(queue)
    client.set_limit(concurrency=5, rate=(100, 60))
    client.set_limit(key="shop-*", concurrency=1, hold="run", max_waiting=7)
    for number in range(3):
        client.submit(run_id=f"r{number}", limit_key="shop-1")
    assert queue.claim(Q) is not None
    main = site.get("limits").main
    limits, usage = main.all("table")
    assert [row[:5] for row in limits.rows()] == [
        ["the queue", "5", "100 in 1 min", "", "each step"], ["shop-*", "1", "", "7", "the whole run"],
    ]  # fmt: skip
    assert ["shop-1", "1", "2"] in usage.rows()


def test_a_queue_that_is_paused_is_listed_beside_the_limits(site: Site, queue: Queue) -> None:
    WorkflowClient(queue, queue_name="idle").submit(run_id="r")
    WorkflowClient(queue, queue_name="idle").pause()
    assert site.get("limits").main.one("h2").text == "idle paused"


def test_workers_are_shown_with_what_they_run_living_or_dead(site: Site, queue: Queue, monkeypatch: Any) -> None:
    now = queue.get_job(WorkflowClient(queue).submit(run_id="r").first_job_id)
    assert now is not None
    claim = queue.claim(Q)
    assert claim is not None
    main = site.get("workers").main
    assert "alive" in main.text or "Claims of callers" in main.text
    at = now.enqueued_at
    jobs = tuple(RunningJob(Q, f"j{n}", f"r{n}", n, "<l>", 1, at, at, True, True) for n in range(60))
    bare = (RunningJob("bare.terminal", "job", None, 0, None, 1, at, at, False, False),)
    processes = [
        WorkerProcess("host", 1, True, at, jobs), WorkerProcess("<b>", 2, False, at, bare),
        WorkerProcess("host", 3, None, None, ()), WorkerProcess(None, None, None, None, jobs[:1]),
    ]  # fmt: skip
    monkeypatch.setattr(Queue, "workers", lambda queue: processes)
    main = site.get("workers").main
    heads = [each.text for each in main.all("h2")]
    assert heads == [
        "Process 1 of hostalive", "Process 2 of <b>dead", "Process 3 of hostnot known to live",
        "Claims of callersnot known to live",
    ]  # fmt: skip
    assert len(main.rows()) == 52 and "And 10 more." in main.text and "It waits for work." in main.text
    assert main.rows()[0][2] == "0 <l> overdue" and "is over" in main.rows()[0][5]


def test_of_several_stores_each_has_its_pages_and_every_link_stays_in_its_own(queue: Queue, tmp_path: Path) -> None:
    with Queue.open(tmp_path / "other", durability="relaxed") as other:
        site = Site({"default": queue, "<other>": other})
        WorkflowClient(queue).submit(run_id="mine")
        WorkflowClient(other).submit(run_id="theirs")
        page = site.get("runs", store="<other>")
        assert [row[1] for row in page.main.rows()] == ["theirs"]
        nav = page.page.one("nav", aria_label="Stores")
        assert nav.one("a", aria_current="true").text == "<other>"
        run = site.click(page, "theirs")
        assert run.main.one("h1").text == "theirs pending"
        links = [each.get("href") for each in run.page.all("a")]
        assert [each for each in links if "store=%3Cother%3E" not in each] == ["#main", f"{BASE}/?store=default"]
        assert site.do(run, "Cancel") == ["theirs cancelled, or asked to stop where a step of it runs"]
        assert WorkflowClient(other).count_runs()[RunState.CANCELLED] == 1
        assert WorkflowClient(queue).count_runs()[RunState.PENDING] == 1
        assert site.get("runs", store="none", status=404).problem == "there is no store 'none'\n"
        assert site.tick(site.get("runs", store="default"), "Cancel ticked", "mine")[0].startswith("mine cancelled")


def test_a_store_that_cannot_be_read_is_told_and_is_no_fault_of_the_page(site: Site, queue: Queue) -> None:
    queue.close()
    for page in (*PAGES, "run?id=r", f"queue?queue={Q}", "payload?id=r&what=payload"):
        assert "StoreClosedError" in site.get(page, status=503).problem


def test_a_store_that_cannot_be_opened_leaves_the_others_as_they_are(queue: Queue) -> None:
    class Stores(dict[str, Queue]):
        def __getitem__(self, name: str) -> Queue:
            if name == "broken":
                raise StorageError("no space left on <device>")
            return super().__getitem__(name)

    site = Site(Stores({"default": queue, "broken": queue}))
    for page in PAGES:
        assert site.get(page, store="broken", status=503).problem == "StorageError: no space left on <device>\n"
        assert site.get(page, store="default").main.one("h1").text
    assert "StorageError" in site.post([("do", "cancel"), ("id", "r"), ("store", "broken")], status=503).problem


def test_who_may_only_look_sees_everything_and_no_action(queue: Queue) -> None:
    site = Site({"default": queue}, READ)
    client = WorkflowClient(queue)
    client.set_limit(concurrency=3)
    client.schedule("often", every=90, spec=RunSpec())
    client.submit(run_id="r", input=b"dead secret")
    client.submit(run_id="w", input=b"later")
    work(queue)
    addresses = [*PAGES, f"queue?queue={Q}", "run?id=r", "run?id=w"]
    for address in addresses:
        page = site.get(address).page
        assert "you may look, and change nothing" in page.one("footer").text
        assert not page.all("button", name="do") and not page.all("form", method="post")
        assert not page.all("input", type="checkbox")
        assert not [each for each in page.all("a") if "/confirm" in each.get("href")]
    assert "secret" in site.get("run", id="r").main.text and site.get("payload", id="r", what="payload").body


def test_a_clock_that_stands_elsewhere_breaks_no_page(still: Queue) -> None:
    site = Site({"default": still})
    client = WorkflowClient(still)
    client.submit(run_id="r", input=b"later")
    work(still)
    client.submit(run_id="s", input=b"raise x")
    for address in (*PAGES, "run?id=r", "run?id=s"):
        assert site.get(address).main.one("h1").text


def test_a_queue_config_of_no_retention_leaves_pages_that_say_so(tmp_path: Path) -> None:
    with Queue.open(tmp_path / "s", default_config=QueueConfig(dead_retention=0.0), durability="relaxed") as queue:
        site = Site({"default": queue})
        WorkflowRuntime(queue, step, keep_runs=None).submit(run_id="r")
        WorkflowRuntime(queue, step, keep_runs=None).run_until_idle()
        assert "has no run" in site.get("run", id="r", status=404).problem
