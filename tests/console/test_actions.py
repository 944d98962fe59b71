"""What can be done: from the page that offers it, over the question, to what is told and what the store then says."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest

from taquba_workflow_sync import (
    Queue,
    RunSpec,
    RunState,
    StorageError,
    WorkflowClient,
    WorkflowRuntime,
)
from taquba_workflow_sync.console import ACT, READ, actions
from taquba_workflow_sync.console.actions import ACTIONS, MOST_NAMED
from tests.console.site import Site, told
from tests.console.steps import work
from tests.support import await_event
from tests.workflow.support import Gate, state

Q = "workflow-steps"


def forms(site: Site, do: str, *names: str, **fields: str) -> list[str]:
    """Send a form as the console's own would be."""
    return told(site.post([("do", do), ("queue", Q), *(("id", name) for name in names), *fields.items()]))


def test_a_run_that_waits_is_cancelled_with_its_reason(site: Site, queue: Queue) -> None:
    client = WorkflowClient(queue)
    client.submit(run_id="r")
    done = site.do(site.get("run", id="r"), "Cancel", reason="it was <wrong>")
    assert done == ["r cancelled, or asked to stop where a step of it runs"]
    status = client.status("r")
    assert status is not None and (status.state, status.error) == (RunState.CANCELLED, "it was <wrong>")
    assert "Cancel" not in [each.text for each in site.get("run", id="r").main.all("a")]


def test_a_cancel_without_a_reason_says_where_it_came_from(site: Site, queue: Queue) -> None:
    WorkflowClient(queue).submit(run_id="r")
    site.do(site.get("run", id="r"), "Cancel")
    assert WorkflowClient(queue).outcome("r").error == "cancelled in the console"  # type: ignore[union-attr]  # ended


def test_a_failed_run_goes_on_and_its_memo_stays_or_goes(site: Site, queue: Queue) -> None:
    client = WorkflowClient(queue)
    for run_id, memo in (("keeps", "keep"), ("clears", "clear")):
        client.submit(run_id=run_id, input=b"note paid", max_attempts_per_step=1)
        work(queue)
        assert state(client, run_id) is RunState.FAILED
        assert site.do(site.get("run", id=run_id), "Retry", memo=memo) == [f"{run_id} goes on at the step that failed"]
        assert state(client, run_id) is RunState.PENDING
        assert client.memo(run_id).items == ([("paid", b"paid")] if memo == "keep" else [])


def test_a_run_that_waits_for_its_time_is_woken(site: Site, queue: Queue) -> None:
    client = WorkflowClient(queue)
    client.submit(run_id="r", input=b"later")
    work(queue)
    assert site.do(site.get("run", id="r"), "Wake") == ["r is in line"]
    work(queue)
    assert state(client, "r") is RunState.SUCCEEDED


def test_a_signal_reaches_a_run_that_waits_and_is_kept_for_one_that_does_not(site: Site, queue: Queue) -> None:
    client = WorkflowClient(queue)
    client.submit(run_id="asks", input=b"ask approved")
    work(queue)
    client.submit(run_id="later")
    page = site.click(site.get("run", id="asks"), "Send a signal")
    assert dict(page.main.one("form").fields())["signal"] == "approved", "what it waits for is filled in"
    assert told(site.confirm(page, payload="yes \u00e9")) == ["asks the run goes on"]
    done = site.do(site.get("run", id="later"), "Send a signal", signal="early", payload="x")
    assert done == ["later kept until the run asks for it"]
    assert [(each.name, each.payload) for each in client.signals("later")] == [("early", b"x")]
    work(queue)
    assert state(client, "asks") is RunState.SUCCEEDED


@pytest.mark.parametrize(("button", "all_"), [("Cancel ticked", "Cancel what has not ended")])
def test_runs_are_cancelled_as_ticked_or_as_the_filters_find_them(
    site: Site, queue: Queue, button: str, all_: str
) -> None:
    client = WorkflowClient(queue)
    client.submit_many(RunSpec(run_id=f"{letter}{number}") for letter in "abc" for number in range(3))
    assert len(site.tick(site.get("runs"), button, "a0", "a1", reason="no")) == 2
    assert {run_id for run_id in ("a0", "a1", "a2", "b0") if state(client, run_id) is RunState.CANCELLED} == {
        "a0",
        "a1",
    }
    assert site.do(site.get("runs", prefix="b"), all_) == [f"{Q} 3 cancelled"]
    assert state(client, "c0") is RunState.PENDING
    assert site.do(site.get("runs"), all_) == [f"{Q} 4 cancelled"]
    assert site.do(site.get("runs"), all_) == [f"{Q} 0 cancelled"]


def test_failed_runs_are_retried_as_ticked_or_as_the_filters_find_them(site: Site, queue: Queue) -> None:
    client = WorkflowClient(queue)
    client.submit_many(RunSpec(run_id=f"{letter}{number}", input=b"fail") for letter in "ab" for number in range(3))
    work(queue)
    assert site.tick(site.get("runs"), "Retry ticked", "a0") == ["a0 goes on at the step that failed"]
    assert state(client, "a0") is RunState.PENDING and state(client, "a1") is RunState.FAILED
    assert site.do(site.get("runs", prefix="b"), "Retry the failed") == [f"{Q} 3 go on at the step that failed"]
    assert client.count_runs()[RunState.FAILED] == 2
    assert site.do(site.get("runs", state="failed"), "Retry the failed") == [f"{Q} 2 go on at the step that failed"]


def test_dead_letters_go_on_or_go_as_ticked_or_all_of_them(site: Site, queue: Queue) -> None:
    client = WorkflowClient(queue)
    client.submit_many(RunSpec(run_id=f"d{number}", input=b"dead") for number in range(5))
    work(queue)
    assert site.tick(site.get("dead"), "Retry ticked", "d1")[0].endswith("is in line again, with all its attempts")
    assert site.tick(site.get("dead"), "Remove ticked", "d2", "d3")[0].endswith("is removed")
    assert [state(client, f"d{number}") for number in range(4)] == [RunState.FAILED, RunState.PENDING, None, None]
    assert site.do(site.get("dead"), "Retry all") == [f"{Q} 2 in line again"]
    work(queue)
    assert site.do(site.get("dead"), "Remove all") == [f"{Q} 3 removed"]
    assert queue.stats(Q).dead == 0
    assert site.get("dead").main.text.endswith("There are none.")


def test_all_dead_letters_of_a_queue_are_taken_however_many_there_are(site: Site, queue: Queue) -> None:
    for number in range(3):
        queue.enqueue("bare", b"", job_id=f"j{number}")
        claim = queue.claim("bare")
        assert claim is not None
        queue.dead_letter(claim, "no")
    assert told(site.post([("do", "requeue"), ("all", "1"), ("queue", "bare")])) == ["bare 3 in line again"]


def test_of_all_those_that_somebody_else_was_faster_with_are_told(site: Site, queue: Queue, monkeypatch: Any) -> None:
    for number in range(3):
        queue.enqueue("bare", b"", job_id=f"j{number}")
        claim = queue.claim("bare")
        assert claim is not None
        queue.dead_letter(claim, "no")
    listed = queue.dead_jobs("bare")
    queue.drop_dead_job("j1")
    monkeypatch.setattr(actions, "dead_letters", lambda *arguments: listed)
    (said,) = told(site.post([("do", "drop"), ("all", "1"), ("queue", "bare")]))
    assert said.startswith("bare 2 removed; 1 refused, the first: ") and "j1" in said


def test_all_of_very_many_end_in_time_and_the_rest_is_told(site: Site, queue: Queue, monkeypatch: Any) -> None:
    for number in range(5):
        queue.enqueue("bare", b"", job_id=f"j{number}")
        claim = queue.claim("bare")
        assert claim is not None
        queue.dead_letter(claim, "no")
    everything = [("do", "requeue"), ("all", "1"), ("queue", "bare")]
    monkeypatch.setattr(actions, "_LONGEST", 0.0)
    assert told(site.post(everything)) == ["bare 0 in line again; 5 are left: do it again"]
    monkeypatch.undo()
    monkeypatch.setattr(actions, "_MOST_AT_ONCE", 2)
    monkeypatch.setattr(actions, "_PAGE", 2)
    assert told(site.post(everything)) == ["bare 2 in line again; 3 are left: do it again"]
    monkeypatch.undo()
    assert told(site.post(everything)) == ["bare 3 in line again"]


def test_a_queue_is_paused_and_goes_on(site: Site, queue: Queue) -> None:
    WorkflowClient(queue).submit(run_id="r")
    (said,) = site.do(site.get("queue", queue=Q), "Pause")
    assert said.startswith(f"{Q} is paused") and queue.stats(Q).paused
    page = site.get("queue", queue=Q)
    assert page.main.one("h1").text == f"{Q} paused"
    assert site.do(page, "Resume") == [f"{Q} goes on"]
    assert not queue.stats(Q).paused


def test_a_schedule_is_run_now_paused_resumed_and_removed(site: Site, queue: Queue) -> None:
    client = WorkflowClient(queue)
    client.schedule("nightly", every=3600, spec=RunSpec())
    (said,) = site.do(site.get("schedules"), "Run nightly now")
    assert said.startswith("nightly run nightly-") and client.count_runs()[RunState.PENDING] == 1
    assert site.do(site.get("schedules"), "Pause nightly") == ["nightly is paused"]
    assert client.schedules()[0].paused
    assert site.do(site.get("schedules"), "Resume nightly") == ["nightly goes on"]
    assert not client.schedules()[0].paused
    (said,) = site.do(site.get("schedules"), "Remove nightly")
    assert said.startswith("nightly is removed") and client.schedules() == []


def test_limits_are_removed_the_queues_own_and_those_of_keys(site: Site, queue: Queue) -> None:
    client = WorkflowClient(queue)
    client.set_limit(concurrency=3)
    client.set_limit(key="shop-*", concurrency=1)
    site.do(site.get("limits"), "Remove the limit of shop-*")
    assert [each.key for each in client.limits()] == [None]
    site.do(site.get("limits"), f"Remove the limit of {Q}")
    assert client.limits() == []


def test_no_key_is_mistaken_for_the_limit_of_the_queue_itself(site: Site, queue: Queue) -> None:
    client = WorkflowClient(queue)
    client.set_limit(concurrency=3)
    with pytest.raises(ValueError, match="key"):
        client.set_limit(key="**", concurrency=1)
    client.set_limit(key="(queue)", concurrency=1)
    assert forms(site, "clear-limit", "**")[0].endswith("is in line")
    assert [each.key for each in client.limits()] == ["(queue)"]


def test_what_is_refused_is_told_of_each_and_the_rest_is_done(site: Site, queue: Queue) -> None:
    client = WorkflowClient(queue)
    client.submit(run_id="over")
    work(queue)
    client.submit(run_id="here")
    done = forms(site, "cancel", "over", "here", "gone", "\u202e<b>")
    assert done[1] == "here cancelled, or asked to stop where a step of it runs"
    assert [each.startswith("refused: ") for each in done] == [True, False, True, True]
    assert "it has ended, or is gone" in done[0] and "characters" in done[3]


@pytest.mark.parametrize(
    ("do", "said"),
    [
        ("retry", "has no run"), ("wake", "it does not wait for a time"), ("signal", "has no run"),
        ("requeue", "there is no job"), ("drop", "there is no job"), ("trigger", "no schedule"),
        ("pause-schedule", "no schedule"), ("resume-schedule", "no schedule"), ("unschedule", "no schedule"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_refused(site: Site, do: str, said: str) -> None:
    (line,) = forms(site, do, "gone", signal="s")
    assert line.startswith("refused: gone") and said in line


def test_a_running_step_is_asked_to_stop_and_ends_as_it_is_told(site: Site, queue: Queue) -> None:
    gate = Gate()
    with WorkflowRuntime(queue, gate) as runtime:
        runtime.submit(run_id="r")
        await_event(gate.started)
        assert forms(site, "retry", "r")[0].startswith("refused: r ")
        assert not forms(site, "cancel", "r")[0].startswith("refused")
        await_event(gate.steps[0].cancel_token, "the token")
        gate.go.set()


def test_an_active_run_is_neither_retried_nor_requeued_nor_removed(site: Site, queue: Queue) -> None:
    handle = WorkflowClient(queue).submit(run_id="r")
    assert forms(site, "retry", "r")[0].startswith("refused: ")
    for do in ("requeue", "drop"):
        assert forms(site, do, handle.first_job_id)[0].startswith("refused: ")
    assert state(WorkflowClient(queue), "r") is RunState.PENDING


def test_a_form_that_asks_for_nothing_is_refused(site: Site) -> None:
    for pairs, said in (
        ([("id", "a")], "no action"), ([("do", "explode")], "no action"), ([("do", "__class__")], "no action"),
        ([("do", "cancel")], "nothing is ticked"), ([("do", "pause"), ("id", "x")], "nothing is ticked"),
        ([("do", "wake"), ("all", "1")], "one by one"), ([("do", "cancel"), ("all", "1"), ("id", "a")], "one by one"),
        ([("do", "cancel"), ("id", "a")], "no queue is named"), ([("do", "drop"), ("all", "1")], "no queue is named"),
        ([("do", "cancel"), ("all", "1"), ("queue", Q), ("state", "x")], "state is 'x'"),
        ([("do", "cancel"), ("queue", Q), *[("id", f"r{number}") for number in range(MOST_NAMED + 1)]], "at most 1000"),
    ):  # fmt: skip
        assert said in site.post(pairs, status=400).problem, pairs
        assert said in site.get(f"confirm?{urlencode(pairs)}", status=400).problem, pairs
    assert site.post([("do", "pause"), ("all", "1"), ("queue", "q.terminal")], status=404).problem
    assert site.post([("do", "pause"), ("all", "1"), ("store", "none"), ("queue", Q)], status=404).problem


def test_every_action_asks_first_and_says_what_it_leads_to(site: Site) -> None:
    for do, action in ACTIONS.items():
        ways = ["all"] * (action.all is not None) + ["id"] * (action.each is not None)
        for way in ways:
            page = site.get("confirm", do=do, queue="<q>", **{way: "x<y>"})
            assert page.main.one("h1").text == action.title and action.tells in page.main.text
            sent = dict(page.main.one("form").fields())
            assert sent["do"] == do and sent["queue"] == "<q>" and sent[way] == "x<y>"
            button = page.main.one("form").one("button")
            assert button.get("class") == ("grave" if action.is_grave else "do")


def test_a_question_names_what_is_meant_and_says_how_many_more(site: Site) -> None:
    pairs = [("do", "cancel"), ("queue", Q), *(("id", f"r{number}") for number in range(40))]
    page = site.get(f"confirm?{urlencode(pairs)}")
    assert [each.text for each in page.main.all("li")][-2:] == ["r29", "and 10 more"]
    assert len([name for name, _ in page.main.one("form").fields() if name == "id"]) == 40


def test_names_reach_the_store_as_they_are_however_they_are_shown(site: Site, queue: Queue) -> None:
    # Shown as \u202e, but meant as the character: else another queue would be paused, another limit removed.
    name = "\u202eq\u200b"
    client = WorkflowClient(queue, queue_name=name)
    client.set_limit(key=name, concurrency=1)
    client.submit(run_id="r")
    assert site.do(site.get("limits"), "Remove the limit of \\u202eq\\u200b") == [
        "\\u202eq\\u200b is removed; what it held back is in line"
    ]
    assert client.limits() == []
    site.do(site.get("queue", queue=name), "Pause")
    assert queue.stats(name).paused


def test_who_may_only_look_changes_nothing_whatever_he_sends(queue: Queue) -> None:
    client = WorkflowClient(queue)
    client.submit(run_id="r")
    client.set_limit(concurrency=3)
    client.schedule("often", every=90, spec=RunSpec())
    site = Site({"default": queue}, READ)
    before = (client.count_runs(), client.limits(), client.schedules(), queue.stats(Q))
    for do, action in ACTIONS.items():
        pairs = [("do", do), ("queue", Q), ("id", "r") if action.each else ("all", "1")]
        assert "change nothing" in site.post(pairs, status=403).problem
        assert "change nothing" in site.get(f"confirm?{urlencode(pairs)}", status=403).problem
    assert site.ask(site.request("act", "do=pause&all=1&queue=q")).status == 403
    assert (client.count_runs(), client.limits(), client.schedules(), queue.stats(Q)) == before


def test_a_store_that_fails_in_the_middle_is_told_of_each(site: Site, queue: Queue, monkeypatch: Any) -> None:
    def cancel(client: WorkflowClient, run_id: str, **options: Any) -> bool:
        raise StorageError("the disk <is> full")

    monkeypatch.setattr(WorkflowClient, "cancel", cancel)
    assert forms(site, "cancel", "a", "b") == ["refused: a the disk <is> full", "refused: b the disk <is> full"]


def test_what_is_done_by_access_is_by_the_one_of_the_request(queue: Queue) -> None:
    WorkflowClient(queue).submit(run_id="r")
    site = Site({"default": queue}, READ)
    site.post([("do", "cancel"), ("queue", Q), ("id", "r")], status=403)
    site.access = ACT
    site.post([("do", "cancel"), ("queue", Q), ("id", "r")])
    assert state(WorkflowClient(queue), "r") is RunState.CANCELLED
