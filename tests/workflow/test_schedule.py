"""Schedules: cron, stored (FEATURES 6)."""

from __future__ import annotations

import logging
import re
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from taquba_workflow_sync import (
    Effects,
    IfFinished,
    InvalidNameError,
    PayloadTooLargeError,
    Queue,
    RunSpec,
    RunState,
    Schedule,
    ScheduleNotFoundError,
    StorageError,
    Succeed,
    WorkflowClient,
    WorkflowRuntime,
)
from taquba_workflow_sync.clock import to_ms
from taquba_workflow_sync.storage.port.schedule import MOST_FIRED
from taquba_workflow_sync.testing import ManualClock, RecordingHook
from taquba_workflow_sync.workflow import firing
from tests.support import PATIENCE, wait_until

from .support import Gate, echo, ended, state

SPEC = RunSpec(input=b"in")
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(at("2026-11-22 03:00"))


@pytest.fixture
def client(still: Queue) -> WorkflowClient:
    return WorkflowClient(still)


@pytest.fixture
def runtime(still: Queue) -> WorkflowRuntime:
    return WorkflowRuntime(still, echo)


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """What the library warns of, as it comes."""
    caplog.set_level(logging.INFO, "taquba_workflow_sync.workflow")
    told: list[str] = []

    class Tell(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.WARNING:
                told.append(record.getMessage())

    handler = Tell()
    logger = logging.getLogger("taquba_workflow_sync.workflow")
    logger.addHandler(handler)
    yield told
    logger.removeHandler(handler)


def only(client: WorkflowClient, name: str = "s") -> Schedule:
    (found,) = (each for each in client.schedules() if each.name == name)
    return found


def names(client: WorkflowClient) -> list[str]:
    return [run.run_id for run in client.list_runs(limit=10_000).runs]


def fired(client: WorkflowClient, name: str = "s") -> list[str]:
    """The times in the names of a schedule's runs, in the order of their submission."""
    return [each.removeprefix(f"{name}-") for each in names(client)]


# Defining


def test_a_schedule_is_stored_with_all_of_its_definition(still: Queue, client: WorkflowClient) -> None:
    spec = RunSpec(
        input=b"in", headers={"h": "v"}, priority=5, max_attempts_per_step=7, run_at=at("2027-01-01 12:00:00.123456"),
        if_finished=IfFinished.RERUN,
    )  # fmt: skip
    client.schedule(
        "s", cron="15 3 * * mon", timezone="Europe/Berlin", spec=spec, catch_up="all", overlap="skip",
        start=at("2026-12-01 00:00"), until=datetime(2027, 1, 1, tzinfo=timezone(HOUR)),
    )  # fmt: skip
    assert WorkflowClient(still).schedules() == [
        Schedule(
            name="s", cron="15 3 * * mon", every=None, timezone="Europe/Berlin", spec=spec, catch_up="all",
            overlap="skip", start=at("2026-12-01 00:00"), until=at("2026-12-31 23:00"), paused=False,
            next_at=at("2026-12-07 02:15"), last_run_id=None,
        )
    ]  # fmt: skip


def test_an_interval_is_shown_as_it_was_given(client: WorkflowClient) -> None:
    client.schedule("s", every=timedelta(seconds=90), spec=SPEC)
    one = only(client)
    assert (one.cron, one.every, one.timezone) == (None, timedelta(seconds=90), "UTC")
    assert (one.catch_up, one.overlap, one.start, one.until) == ("one", "allow", None, None)
    assert one.spec == SPEC
    client.schedule("t", every=90, spec=SPEC)
    assert only(client, "t").every == timedelta(seconds=90)


def test_the_same_definition_again_is_a_no_op(still: Queue, client: WorkflowClient, clock: ManualClock) -> None:
    for definition in ({"cron": "15 3 * * *"}, {"every": MINUTE}, {"every": HOUR, "start": at("2026-11-22 04:00")}):
        client.schedule("s", spec=SPEC, **definition)  # type: ignore[arg-type]
        before = still.handle.find_schedules(client.queue_name, name="s").rows
        clock.advance(10)
        WorkflowClient(still).schedule("s", spec=RunSpec(input=b"in"), **definition)  # type: ignore[arg-type]
        assert still.handle.find_schedules(client.queue_name, name="s").rows == before


@pytest.mark.parametrize(
    "other",
    [
        {"cron": "16 3 * * *"}, {"cron": None, "every": HOUR}, {"timezone": "Europe/Berlin"}, {"catch_up": "all"},
        {"overlap": "skip"}, {"start": at("2026-12-01 00:00")}, {"until": at("2027-12-01 00:00")},
        {"spec": RunSpec(input=b"other")}, {"spec": RunSpec(input=b"in", priority=1)},
        {"spec": RunSpec(input=b"in", headers={"a": "b"})},
    ],
)  # fmt: skip
def test_another_definition_replaces_it_and_begins_now(
    client: WorkflowClient, clock: ManualClock, other: dict[str, Any]
) -> None:
    one = {"cron": "15 3 * * *", "spec": SPEC}
    client.schedule("s", **one)  # type: ignore[arg-type]
    clock.advance(DAY)  # what came meanwhile is not made up for
    client.schedule("s", **(one | other))
    assert len(client.schedules()) == 1
    changed = only(client)
    assert changed.next_at is not None and changed.next_at > clock.now()
    for field, value in other.items():
        assert getattr(changed, field) == value


def test_names_are_per_queue(still: Queue, client: WorkflowClient) -> None:
    other = WorkflowClient(still, queue_name="other")
    client.schedule("s", every=HOUR, spec=SPEC)
    other.schedule("s", every=MINUTE, spec=SPEC)
    assert (only(client).every, only(other).every) == (HOUR, MINUTE)
    other.unschedule("s")
    assert [each.name for each in client.schedules()] == ["s"]


def test_schedules_are_listed_by_name_however_many(client: WorkflowClient) -> None:
    wanted = [f"s{number:03}" for number in range(250)]
    for name in reversed(wanted):
        client.schedule(name, every=HOUR, spec=SPEC)
    assert [each.name for each in client.schedules()] == wanted


def test_a_schedule_is_there_in_another_process_and_after_a_restart(
    still: Queue, client: WorkflowClient, clock: ManualClock
) -> None:
    client.schedule("s", cron="@daily", spec=SPEC)
    with Queue.open(still.path, clock=clock) as other:
        assert only(WorkflowClient(other)).next_at == at("2026-11-23 00:00")


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"name": "a b"}, InvalidNameError, "name 'a b' must be"),
        ({"name": ""}, InvalidNameError, "name"),
        ({"name": "x" * 101}, InvalidNameError, "has 101 characters; it may have 100"),
        ({"name": 5}, TypeError, "name must be a str"),
        ({"cron": None}, ValueError, "either cron or every"),
        ({"every": MINUTE}, ValueError, "either cron or every"),
        ({"cron": 5}, TypeError, "cron must be a str"),
        ({"cron": "61 * * * *"}, ValueError, "minute field '61'"),
        ({"cron": "* * * *"}, ValueError, "must have five"),
        ({"cron": "0 0 0 * * *"}, ValueError, "must have five"),
        ({"timezone": "Berlin"}, ValueError, "timezone 'Berlin' is no IANA zone"),
        ({"timezone": "../../etc/passwd"}, ValueError, "no IANA zone"),
        ({"timezone": "Europe"}, ValueError, "no IANA zone"),
        ({"timezone": ""}, ValueError, "no IANA zone"),
        ({"timezone": "right/UTC"}, ValueError, "no IANA zone"),
        ({"timezone": "localtime"}, ValueError, "no IANA zone"),
        ({"timezone": "\ud800"}, ValueError, "no IANA zone"),
        ({"timezone": "x" * 5000}, ValueError, "no IANA zone"),
        ({"timezone": UTC}, TypeError, "timezone must be a str"),
        ({"cron": None, "every": timedelta(milliseconds=999)}, ValueError, "at least one second"),
        ({"cron": None, "every": timedelta(0)}, ValueError, "at least one second"),
        ({"cron": None, "every": -1}, ValueError, "every is -1"),
        ({"cron": None, "every": "1h"}, TypeError, "every must be seconds"),
        ({"spec": RunSpec(run_id="mine")}, ValueError, "run_id 'mine'; it must have none"),
        ({"spec": {"input": b""}}, TypeError, "spec must be a RunSpec"),
        ({"catch_up": "some"}, ValueError, "catch_up is 'some'; it must be one of one, all, none"),
        ({"catch_up": None}, TypeError, "catch_up must be a str"),
        ({"overlap": "no"}, ValueError, "overlap is 'no'; it must be one of allow, skip"),
        ({"overlap": True}, TypeError, "overlap must be a str"),
        ({"start": datetime(2026, 1, 1)}, ValueError, "no time zone"),
        ({"start": "2026-01-01"}, TypeError, "start must be an aware datetime"),
        ({"until": datetime(2026, 1, 1)}, ValueError, "no time zone"),
        ({"start": at("2027-01-01 00:00"), "until": at("2027-01-01 00:00")}, ValueError, "not after start"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_is_written(
    client: WorkflowClient, wrong: dict[str, Any], error: type[Exception], message: str
) -> None:
    good: dict[str, Any] = {"name": "s", "cron": "15 3 * * *", "spec": SPEC}
    with pytest.raises(error, match=re.escape(message)):
        client.schedule(**(good | wrong))
    assert client.schedules() == []


def test_a_name_may_have_a_hundred_characters_and_its_runs_have_names(
    client: WorkflowClient, runtime: WorkflowRuntime, clock: ManualClock
) -> None:
    name = "a" * 100
    client.schedule(name, every=MINUTE, spec=SPEC)
    assert client.trigger(name).startswith(f"{name}-")
    clock.advance(MINUTE)
    assert runtime.run_until_idle(PATIENCE).succeeded == 2


def test_an_input_that_a_submit_would_refuse_is_refused(tmp_path: Any) -> None:
    with Queue.open(tmp_path / "small", max_payload_bytes=10) as queue:
        client = WorkflowClient(queue)
        with pytest.raises(PayloadTooLargeError, match="input has 11 bytes"):
            client.schedule("s", every=MINUTE, spec=RunSpec(input=b"x" * 11))
        assert client.schedules() == []


def test_a_part_of_a_spec_that_cannot_be_stored_is_refused(client: WorkflowClient) -> None:
    from dataclasses import dataclass

    @dataclass(frozen=True, slots=True, kw_only=True)
    class NewerSpec(RunSpec):
        newer: object = None

    with pytest.raises(ValueError, match=r"spec has newer, a object, which cannot be part of a schedule"):
        client.schedule("s", every=MINUTE, spec=NewerSpec(newer=object()))
    with pytest.raises(ValueError, match=r"spec has effects, .*, which cannot be part of a schedule"):
        client.schedule("s", every=MINUTE, spec=RunSpec(effects=Effects()))
    assert client.schedules() == []
    client.schedule("s", every=MINUTE, spec=NewerSpec())
    assert only(client).spec == RunSpec(), "a field that is not given is not stored"


def test_what_a_schedule_submits_has_its_settings_and_its_limits(
    client: WorkflowClient, runtime: WorkflowRuntime, clock: ManualClock
) -> None:
    spec = RunSpec(
        label="first", backoff=(1, 60), step_timeout=30.5, deadline=timedelta(hours=2), expires_after=timedelta(hours=1)
    )
    client.schedule("s", every=DAY, spec=spec)
    assert only(client).spec == spec
    run_id = client.trigger("s")
    status = client.status(run_id)
    assert status is not None and status.label == "first"
    clock.advance(HOUR - timedelta(seconds=1))
    in_time = client.trigger("s")
    clock.advance(timedelta(seconds=1))
    counts = runtime.run_until_idle(PATIENCE)
    assert (state(client, run_id), state(client, in_time)) == (RunState.CANCELLED, RunState.SUCCEEDED)
    assert counts.steps == 1


# Firing


def test_run_until_idle_fires_what_is_due_at_its_start_once(
    client: WorkflowClient, runtime: WorkflowRuntime, clock: ManualClock
) -> None:
    client.schedule("s", cron="15 3 * * *", spec=RunSpec(input=b"in", headers={"h": "v"}))
    assert runtime.run_until_idle(PATIENCE).steps == 0
    clock.advance(15 * MINUTE - timedelta(milliseconds=1))
    assert runtime.run_until_idle(PATIENCE).steps == 0
    clock.advance(0.001)
    assert runtime.run_until_idle(PATIENCE).succeeded == 1
    assert runtime.run_until_idle(PATIENCE).steps == 0
    outcome = client.outcome("s-20261122T031500Z")
    assert outcome is not None and (outcome.result, outcome.headers["h"]) == (b"in", "v")
    assert names(client) == ["s-20261122T031500Z"]


def test_what_becomes_due_while_it_runs_is_left_to_the_next_one(still: Queue, clock: ManualClock) -> None:
    def run_step(step: Any) -> Succeed:
        clock.advance(MINUTE)
        assert runtime._dispatcher is not None
        maintenance = runtime._dispatcher._maintenance
        for _ in range(2):  # a runtime that is started would have fired by then
            before = maintenance._next_probe
            wait_until(lambda before=before: maintenance._next_probe != before, "a look")  # type: ignore[misc]
        return Succeed()

    runtime = WorkflowRuntime(still, run_step)
    runtime.schedule("s", every=MINUTE, spec=SPEC)
    clock.advance(MINUTE)
    assert runtime.run_until_idle(PATIENCE).steps == 1
    assert runtime.run_until_idle(PATIENCE).steps == 1
    assert fired(runtime) == ["20261122T030100Z", "20261122T030200Z"]


def test_a_runtime_fires_what_becomes_due(client: WorkflowClient, runtime: WorkflowRuntime, clock: ManualClock) -> None:
    client.schedule("s", cron="15 3 * * *", spec=SPEC)
    with runtime:
        clock.advance(15 * MINUTE)
        wait_until(lambda: names(client), "the firing")
        assert ended(client, "s-20261122T031500Z").result == b"in"
        clock.advance(DAY)
        wait_until(lambda: len(names(client)) == 2, "the next one")
        assert ended(client, "s-20261123T031500Z").result == b"in"


def test_a_runtime_fires_what_is_defined_while_it_runs(
    still: Queue, runtime: WorkflowRuntime, clock: ManualClock
) -> None:
    with Queue.open(still.path, clock=clock) as other, runtime:
        WorkflowClient(other).schedule("s", every=MINUTE, spec=SPEC)
        clock.advance(MINUTE)
        wait_until(lambda: names(runtime), "the firing")


def test_a_runtime_fires_by_the_wall_clock(queue: Queue) -> None:
    with WorkflowRuntime(queue, echo) as runtime:
        runtime.schedule("s", every=1, spec=SPEC)
        wait_until(lambda: len(names(runtime)) >= 2, "two firings")


def test_a_runtime_whose_threads_are_all_busy_fires_all_the_same(still: Queue, clock: ManualClock) -> None:
    gate = Gate()
    with WorkflowRuntime(still, gate, max_concurrent_steps=1) as runtime:
        runtime.submit(run_id="busy")
        assert gate.started.wait(PATIENCE)
        runtime.schedule("s", every=MINUTE, spec=SPEC)
        clock.advance(MINUTE)
        wait_until(lambda: len(names(runtime)) == 2, "the firing")
        gate.go.set()


def test_a_runtime_that_stops_fires_no_more(still: Queue, clock: ManualClock) -> None:
    gate = Gate()
    runtime = WorkflowRuntime(still, gate)
    runtime.schedule("s", every=MINUTE, spec=SPEC)
    runtime.start()
    runtime.submit(run_id="running")
    assert gate.started.wait(PATIENCE)
    assert not runtime.stop(timeout=0)
    dispatcher = runtime._dispatcher
    assert dispatcher is not None
    wait_until(lambda: dispatcher._firing.next_due == float("inf"), "the end of firing")
    clock.advance(MINUTE)
    gate.go.set()
    assert runtime.stop()
    assert names(runtime) == ["running"]


def test_a_runtime_of_another_queue_does_not_fire(still: Queue, client: WorkflowClient, clock: ManualClock) -> None:
    client.schedule("s", every=MINUTE, spec=SPEC)
    clock.advance(MINUTE)
    WorkflowRuntime(still, echo, queue_name="other").run_until_idle(PATIENCE)
    assert names(client) == []


def test_every_fires_one_interval_after_the_definition_and_each_interval_after_it(
    client: WorkflowClient, runtime: WorkflowRuntime, clock: ManualClock
) -> None:
    clock.advance(17)
    client.schedule("s", every=timedelta(seconds=90), spec=SPEC)
    assert only(client).next_at == at("2026-11-22 03:01:47")
    for _ in range(4):
        clock.advance(60)
        runtime.run_until_idle(PATIENCE)
    assert fired(client) == ["20261122T030147Z", "20261122T030317Z"]


def test_every_fires_at_its_start(client: WorkflowClient, runtime: WorkflowRuntime, clock: ManualClock) -> None:
    client.schedule("s", every=HOUR, spec=SPEC, start=at("2026-11-22 03:00:30"))
    client.schedule("past", every=HOUR, spec=SPEC, start=at("2020-01-01 00:10"))
    assert only(client, "past").next_at == at("2026-11-22 03:10")
    clock.advance(30)
    runtime.run_until_idle(PATIENCE)
    assert names(client) == ["s-20261122T030030Z"]
    assert only(client).next_at == at("2026-11-22 04:00:30")


def test_until_is_exclusive_and_what_is_over_stays_listed(
    client: WorkflowClient, runtime: WorkflowRuntime, clock: ManualClock
) -> None:
    client.schedule("s", every=MINUTE, spec=SPEC, until=at("2026-11-22 03:02"))
    client.schedule("c", cron="* * * * *", spec=SPEC, until=at("2026-11-22 03:02"))
    for _ in range(3):
        clock.advance(MINUTE)
        runtime.run_until_idle(PATIENCE)
    assert sorted(names(client)) == ["c-20261122T030100Z", "s-20261122T030100Z"]
    assert [each.next_at for each in client.schedules()] == [None, None]


def test_a_cron_schedule_begins_at_its_start(
    client: WorkflowClient, runtime: WorkflowRuntime, clock: ManualClock
) -> None:
    client.schedule("s", cron="0 * * * *", spec=SPEC, start=at("2026-11-22 05:00"))
    clock.advance(3 * HOUR)
    runtime.run_until_idle(PATIENCE)
    assert only(client).next_at == at("2026-11-22 07:00")
    assert fired(client) == ["20261122T060000Z"]


def test_a_time_that_the_clocks_skip_is_fired_at_the_first_minute_after(still: Queue) -> None:
    clock = ManualClock(at("2026-03-29 00:59"))
    with Queue.open(still.path.with_name("spring"), clock=clock) as queue:
        runtime = WorkflowRuntime(queue, echo)
        runtime.schedule("s", cron="30 2 * * *", timezone="Europe/Berlin", spec=SPEC)
        assert only(runtime).next_at == at("2026-03-29 01:00")
        clock.advance(MINUTE)
        runtime.run_until_idle(PATIENCE)
        assert names(runtime) == ["s-20260329T010000Z"]
        assert only(runtime).next_at == at("2026-03-30 00:30")


def test_a_time_that_the_clocks_repeat_is_fired_once(still: Queue) -> None:
    clock = ManualClock(at("2026-10-25 00:00"))
    with Queue.open(still.path.with_name("autumn"), clock=clock) as queue:
        runtime = WorkflowRuntime(queue, echo)
        runtime.schedule("s", cron="30 2 * * *", timezone="Europe/Berlin", spec=SPEC)
        for _ in range(8):
            clock.advance(30 * MINUTE)
            runtime.run_until_idle(PATIENCE)
        assert names(runtime) == ["s-20261025T003000Z"]
        assert only(runtime).next_at == at("2026-10-26 01:30")


def test_the_last_run_is_told(client: WorkflowClient, runtime: WorkflowRuntime, clock: ManualClock) -> None:
    client.schedule("s", every=MINUTE, spec=SPEC)
    assert only(client).last_run_id is None
    clock.advance(MINUTE)
    runtime.run_until_idle(PATIENCE)
    assert only(client).last_run_id == "s-20261122T030100Z"
    client.schedule("s", every=HOUR, spec=SPEC)
    assert only(client).last_run_id == "s-20261122T030100Z", "a redefinition leaves it"
    assert client.trigger("s") == only(client).last_run_id


def test_runs_are_kept_as_by_the_client_that_defined_the_schedule(still: Queue, clock: ManualClock) -> None:
    WorkflowClient(still, keep_runs=HOUR).schedule("s", every=MINUTE, spec=SPEC)
    runtime = WorkflowRuntime(still, echo, keep_runs=30 * DAY)
    clock.advance(MINUTE)
    runtime.run_until_idle(PATIENCE)
    triggered = runtime.trigger("s")
    runtime.run_until_idle(PATIENCE)
    assert runtime.status(triggered) is not None
    clock.advance(HOUR)
    assert runtime.status("s-20261122T030100Z") is None
    assert runtime.status(triggered) is None


def test_the_hook_is_told_of_a_scheduled_run(still: Queue, clock: ManualClock) -> None:
    hook = RecordingHook()
    runtime = WorkflowRuntime(still, echo, hook)
    runtime.schedule("s", every=MINUTE, spec=SPEC)
    clock.advance(MINUTE)
    runtime.run_until_idle(PATIENCE)
    assert [outcome.run_id for outcome in hook.outcomes] == ["s-20261122T030100Z"]


def test_two_runtimes_do_not_fire_twice(still: Queue, clock: ManualClock) -> None:
    with Queue.open(still.path, clock=clock) as other:
        runtimes = [WorkflowRuntime(each, echo) for each in (still, still, other, other)]
        runtimes[0].schedule("s", every=MINUTE, spec=SPEC)
        for runtime in runtimes:
            runtime.start()
        for number in range(1, 21):
            clock.advance(MINUTE)
            wait_until(lambda number=number: len(names(runtimes[0])) == number, "the firing")  # type: ignore[misc]
        wait_until(lambda: still.stats(runtimes[0].queue_name).pending == 0, "the last run's claim")
        for runtime in runtimes:
            runtime.stop()
        assert len(set(fired(runtimes[0]))) == len(fired(runtimes[0])) == 20
        assert still.stats(runtimes[0].queue_name).done == 20


# Catching up


@pytest.mark.parametrize(
    ("catch_up", "expected"),
    [
        ("one", ["030500Z"]),
        ("all", ["030100Z", "030200Z", "030300Z", "030400Z", "030500Z"]),
        ("none", ["030500Z"]),
    ],
)
def test_what_nobody_was_there_for_is_caught_up_with(
    client: WorkflowClient, runtime: WorkflowRuntime, clock: ManualClock, catch_up: str, expected: list[str]
) -> None:
    client.schedule("s", cron="* * * * *", spec=SPEC, catch_up=catch_up)
    clock.advance(5 * MINUTE + timedelta(seconds=30))
    runtime.run_until_idle(PATIENCE)
    assert fired(client) == [f"20261122T{each}" for each in expected]
    clock.advance(30)
    runtime.run_until_idle(PATIENCE)
    assert fired(client)[-1] == "20261122T030600Z", "then it goes on as if nothing had been"


@pytest.mark.parametrize(("late", "fires"), [(timedelta(seconds=60), 1), (timedelta(seconds=60, milliseconds=1), 0)])
def test_none_leaves_out_what_is_late_by_over_sixty_seconds(
    client: WorkflowClient, runtime: WorkflowRuntime, clock: ManualClock, late: timedelta, fires: int
) -> None:
    client.schedule("s", cron="15 3 * * *", spec=SPEC, catch_up="none")
    clock.advance(15 * MINUTE + late)
    runtime.run_until_idle(PATIENCE)
    assert len(names(client)) == fires
    assert only(client).next_at == at("2026-11-23 03:15")


def test_one_fires_the_latest_even_if_it_is_missed(
    client: WorkflowClient, runtime: WorkflowRuntime, clock: ManualClock
) -> None:
    client.schedule("s", cron="15 3 * * *", spec=SPEC)
    clock.advance(3 * DAY + 20 * HOUR)
    runtime.run_until_idle(PATIENCE)
    assert fired(client) == ["20261125T031500Z"]


def test_all_fires_the_last_thousand_and_at_most_a_hundred_a_commit(still: Queue, clock: ManualClock) -> None:
    client = WorkflowClient(still)
    client.schedule("s", every=MINUTE, spec=SPEC, catch_up="all")
    clock.advance(1_234 * MINUTE)
    commits: list[int] = []
    fire = still.handle.fire

    def counting(queue_name: str, name: str, seen: Any, jobs: Any, mark: Any, **options: Any) -> Any:
        commits.append(len(jobs))
        return fire(queue_name, name, seen, jobs, mark, **options)

    still.handle.fire = counting  # type: ignore[method-assign]
    client._scheduling.fire()
    assert commits == [MOST_FIRED] * 10
    assert len(names(client)) == 1_000
    assert fired(client)[-1] == f"{clock.now():%Y%m%dT%H%M%SZ}"
    assert fired(client)[0] == f"{clock.now() - 999 * MINUTE:%Y%m%dT%H%M%SZ}"


def test_a_catch_up_that_was_cut_short_goes_on_where_it_was(
    still: Queue, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = WorkflowClient(still)
    client.schedule("s", every=MINUTE, spec=SPEC, catch_up="all")
    clock.advance(250 * MINUTE)
    fire, commits = still.handle.fire, iter(range(10))

    def failing(*args: Any, **options: Any) -> Any:
        if next(commits) == 1:
            raise StorageError("no")
        return fire(*args, **options)

    monkeypatch.setattr(still.handle, "fire", failing)
    client._scheduling.fire()
    assert len(names(client)) == 100
    client._scheduling.fire()
    assert len(names(client)) == len(set(names(client))) == 250


def test_large_inputs_are_fired_a_few_a_commit(still: Queue, clock: ManualClock) -> None:
    client = WorkflowClient(still)
    client.schedule("s", every=MINUTE, spec=RunSpec(input=bytes(3 * 2**20)), catch_up="all")
    clock.advance(5 * MINUTE)
    sizes: list[int] = []
    fire = still.handle.fire
    still.handle.fire = lambda *args, **options: (sizes.append(len(args[3])), fire(*args, **options))[1]  # type: ignore[method-assign]
    client._scheduling.fire()
    assert sizes == [2, 2, 1]


# Overlap, names that are taken


def test_skip_passes_over_a_firing_while_the_last_run_is_active(still: Queue, clock: ManualClock) -> None:
    client = WorkflowClient(still)
    client.schedule("s", every=MINUTE, spec=SPEC, overlap="skip")
    for _ in range(3):
        clock.advance(MINUTE)
        client._scheduling.fire()
    assert fired(client) == ["20261122T030100Z"]
    assert only(client).next_at == at("2026-11-22 03:04"), "what was passed over is not made up for"
    runtime = WorkflowRuntime(still, echo)
    clock.advance(30)
    runtime.run_until_idle(PATIENCE)
    clock.advance(30)
    runtime.run_until_idle(PATIENCE)
    assert fired(client) == ["20261122T030100Z", "20261122T030400Z"]


def test_skip_counts_what_was_triggered_too(still: Queue, clock: ManualClock) -> None:
    client = WorkflowClient(still)
    client.schedule("s", every=MINUTE, spec=SPEC, overlap="skip")
    triggered = client.trigger("s")
    assert client.trigger("s") != triggered, "a trigger is not a firing"
    clock.advance(MINUTE)
    client._scheduling.fire()
    assert len(names(client)) == 2


def test_allow_fires_beside_the_last_run(still: Queue, clock: ManualClock) -> None:
    client = WorkflowClient(still)
    client.schedule("s", every=MINUTE, spec=SPEC)
    for _ in range(3):
        clock.advance(MINUTE)
        client._scheduling.fire()
    assert len(client.list_runs(RunState.PENDING).runs) == 3


def test_a_name_taken_by_a_run_of_other_input_is_logged_and_passed_over(
    client: WorkflowClient, runtime: WorkflowRuntime, clock: ManualClock, warnings: list[str]
) -> None:
    client.submit(run_id="s-20261122T030100Z", input=b"mine")
    client.schedule("s", every=MINUTE, spec=SPEC)
    clock.advance(MINUTE)
    runtime.run_until_idle(PATIENCE)
    assert warnings == [
        "schedule s of queue workflow-steps passed over s-20261122T030100Z: a run with another input has that name"
    ]
    assert ended(client, "s-20261122T030100Z").result == b"mine"
    clock.advance(MINUTE)
    runtime.run_until_idle(PATIENCE)
    assert fired(client)[-1] == "20261122T030200Z"


# Unscheduling, triggering, pausing


def test_unschedule_removes_it_and_leaves_its_runs(
    client: WorkflowClient, runtime: WorkflowRuntime, clock: ManualClock
) -> None:
    client.schedule("s", every=MINUTE, spec=SPEC)
    clock.advance(MINUTE)
    runtime.run_until_idle(PATIENCE)
    client.unschedule("s")
    clock.advance(HOUR)
    assert runtime.run_until_idle(PATIENCE).steps == 0
    assert client.schedules() == []
    assert state(client, "s-20261122T030100Z") is RunState.SUCCEEDED


def test_a_trigger_submits_a_run_now_and_leaves_the_watermark(
    client: WorkflowClient, runtime: WorkflowRuntime, clock: ManualClock
) -> None:
    client.schedule("s", cron="15 3 * * *", spec=SPEC)
    clock.advance(20 * MINUTE)
    run_id = client.trigger("s")
    assert re.fullmatch(r"s-[0-9A-HJKMNP-TV-Z]{26}", run_id)
    assert only(client).next_at == at("2026-11-22 03:15")
    runtime.run_until_idle(PATIENCE)
    assert names(client) == [run_id, "s-20261122T031500Z"]
    assert ended(client, run_id).result == b"in"


def test_a_paused_schedule_does_not_fire_until_it_is_resumed_and_then_from_now(
    client: WorkflowClient, runtime: WorkflowRuntime, clock: ManualClock
) -> None:
    client.schedule("s", every=MINUTE, spec=SPEC, catch_up="all")
    for _ in range(2):
        client.pause_schedule("s")
        assert only(client).paused and only(client).next_at is None
    clock.advance(HOUR)
    assert runtime.run_until_idle(PATIENCE).steps == 0
    for _ in range(2):
        client.resume_schedule("s")
        assert not only(client).paused and only(client).next_at == at("2026-11-22 04:01")
    assert runtime.run_until_idle(PATIENCE).steps == 0
    clock.advance(MINUTE)
    runtime.run_until_idle(PATIENCE)
    assert fired(client) == ["20261122T040100Z"]


def test_what_is_due_when_it_is_paused_does_not_fire(
    client: WorkflowClient, runtime: WorkflowRuntime, clock: ManualClock
) -> None:
    client.schedule("s", every=MINUTE, spec=SPEC)
    clock.advance(MINUTE)
    client.pause_schedule("s")
    assert runtime.run_until_idle(PATIENCE).steps == 0


def test_a_redefinition_leaves_a_pause_as_it_is(
    client: WorkflowClient, runtime: WorkflowRuntime, clock: ManualClock
) -> None:
    client.schedule("s", every=MINUTE, spec=SPEC)
    client.pause_schedule("s")
    client.schedule("s", every=2 * MINUTE, spec=SPEC)
    client.schedule("s", every=2 * MINUTE, spec=SPEC)
    assert only(client).paused
    clock.advance(HOUR)
    assert runtime.run_until_idle(PATIENCE).steps == 0
    client.trigger("s")
    assert runtime.run_until_idle(PATIENCE).steps == 1, "a trigger fires what is paused"


def test_a_pause_survives_a_restart(still: Queue, client: WorkflowClient, clock: ManualClock) -> None:
    client.schedule("s", every=MINUTE, spec=SPEC)
    client.pause_schedule("s")
    with Queue.open(still.path, clock=clock) as other:
        assert only(WorkflowClient(other)).paused


@pytest.mark.parametrize("method", ["unschedule", "trigger", "pause_schedule", "resume_schedule"])
def test_a_schedule_that_is_not_there_is_not_found(client: WorkflowClient, method: str) -> None:
    with pytest.raises(ScheduleNotFoundError, match="queue 'workflow-steps' has no schedule 'nobody'"):
        getattr(client, method)("nobody")
    with pytest.raises(InvalidNameError):
        getattr(client, method)("no body")
    with pytest.raises(TypeError):
        getattr(client, method)(5)


def test_what_races_with_a_firing_is_tried_again(still: Queue, client: WorkflowClient, clock: ManualClock) -> None:
    """Between its read and its write another process fires, each time."""
    client.schedule("s", every=MINUTE, spec=SPEC)
    other = WorkflowClient(still)
    find = still.handle.find_schedules
    rounds = iter(range(3))

    def racing(*args: Any, **options: Any) -> Any:
        found = find(*args, **options)
        if next(rounds, None) is not None:
            still.handle.find_schedules = find  # type: ignore[method-assign]
            clock.advance(MINUTE)
            other._scheduling.fire()
            still.handle.find_schedules = racing  # type: ignore[method-assign]
        return found

    still.handle.find_schedules = racing  # type: ignore[method-assign]
    run_id = client.trigger("s")
    client.pause_schedule("s")
    still.handle.find_schedules = find  # type: ignore[method-assign]
    assert only(client).paused
    assert run_id in names(client) and len(fired(client)) == 4


# The clock


def test_a_watermark_more_than_a_day_ahead_of_the_clock_is_reset_with_a_warning(
    client: WorkflowClient, runtime: WorkflowRuntime, clock: ManualClock, warnings: list[str]
) -> None:
    client.schedule("s", every=HOUR, spec=SPEC)
    clock.advance(400 * DAY)  # the clock was wrong
    runtime.run_until_idle(PATIENCE)
    clock.advance(-400 * DAY)
    runtime.run_until_idle(PATIENCE)
    assert warnings == [
        f"schedule s of queue workflow-steps had fired {400 * 86_400} s ahead of the clock; it goes on from now"
    ]
    clock.advance(HOUR)
    runtime.run_until_idle(PATIENCE)
    assert fired(client)[-1] == "20261122T040000Z"


def test_a_clock_that_was_put_back_by_less_repeats_nothing(
    client: WorkflowClient, runtime: WorkflowRuntime, clock: ManualClock, warnings: list[str]
) -> None:
    client.schedule("s", every=HOUR, spec=SPEC)
    clock.advance(2 * HOUR)
    runtime.run_until_idle(PATIENCE)
    clock.advance(-90 * MINUTE)
    for _ in range(3):
        runtime.run_until_idle(PATIENCE)
        clock.advance(30 * MINUTE)
    assert fired(client) == ["20261122T050000Z"] and warnings == []


# Without the extra, and what cannot be read


@pytest.fixture
def without_cron(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the extra away: its import fails as it does where it is not installed."""
    for name in [each for each in sys.modules if each == "cronsim" or each.startswith("cronsim.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cronsim", None)


def test_a_process_without_the_extra_leaves_cron_schedules_alone_and_says_so_once(
    still: Queue, client: WorkflowClient, clock: ManualClock, warnings: list[str], request: pytest.FixtureRequest
) -> None:
    client.schedule("c", cron="* * * * *", spec=SPEC)
    client.schedule("e", every=MINUTE, spec=SPEC)
    request.getfixturevalue("without_cron")
    runtime = WorkflowRuntime(still, echo)
    for _ in range(3):
        clock.advance(MINUTE)
        runtime.run_until_idle(PATIENCE)
    assert [name[0] for name in names(client)] == ["e", "e", "e"]
    assert len(warnings) == 1
    assert "cron schedules, which this process leaves alone" in warnings[0]
    assert "taquba-workflow-sync[cron]" in warnings[0]
    assert only(client, "c").next_at == at("2026-11-22 03:01"), "for one that has it"


def test_without_the_extra_a_definition_says_what_to_install(client: WorkflowClient, without_cron: None) -> None:
    with pytest.raises(ImportError, match=re.escape("pip install 'taquba-workflow-sync[cron]'")):
        client.schedule("s", cron="* * * * *", spec=SPEC)
    client.schedule("s", every=MINUTE, spec=SPEC)
    assert [each.name for each in client.schedules()] == ["s"]


def test_a_schedule_of_a_zone_that_is_not_known_here_is_left_alone_and_said_once(
    still: Queue, client: WorkflowClient, clock: ManualClock, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client.schedule("c", cron="* * * * *", timezone="Europe/Berlin", spec=SPEC)
    client.schedule("e", cron="* * * * *", spec=SPEC)
    runtime = WorkflowRuntime(still, echo)
    with monkeypatch.context() as context:
        context.setattr("zoneinfo.ZoneInfo", lambda name: (_ for _ in ()).throw(KeyError(name)))
        for _ in range(3):
            clock.advance(MINUTE)
            runtime.run_until_idle(PATIENCE)
    assert [name[0] for name in names(client)] == ["e", "e", "e"]
    assert len(warnings) == 1 and "schedule c of queue workflow-steps is left alone by this process" in warnings[0]
    WorkflowRuntime(still, echo).run_until_idle(PATIENCE)
    assert "c-20261122T030300Z" in names(client), "another process knows it"


def test_a_definition_that_a_newer_program_has_written_is_left_alone(
    still: Queue, client: WorkflowClient, runtime: WorkflowRuntime, clock: ManualClock, warnings: list[str]
) -> None:
    client.schedule("s", every=MINUTE, spec=SPEC)
    client.schedule("e", every=MINUTE, spec=SPEC)
    row = still.handle.find_schedules(client.queue_name, name="s").rows[0]
    from taquba_workflow_sync.storage.port.schedule import Mark, NewSchedule, ScheduleKind

    now = to_ms(clock.now())
    newer = row.definition.replace('"spec": {', '"spec": {"colour": "red", ')
    still.handle.define_schedule(
        NewSchedule(client.queue_name, "s", ScheduleKind.EVERY, newer, b"", now, Mark(now, now + 1)), row.seen.revision
    )
    for _ in range(2):
        clock.advance(MINUTE)
        runtime.run_until_idle(PATIENCE)
    assert [name[0] for name in names(client)] == ["e", "e"]
    assert len(warnings) == 1
    assert [each.name for each in client.schedules()] == ["e"]
    client.pause_schedule("s")
    for refused in (client.trigger, client.resume_schedule):
        with pytest.raises(StorageError, match="cannot be read by this version"):
            refused("s")
    client.schedule("s", every=MINUTE, spec=SPEC)
    assert only(client).every == MINUTE, "defining it anew mends it"


def test_one_schedule_that_the_store_refuses_keeps_no_other_from_firing(
    still: Queue, client: WorkflowClient, runtime: WorkflowRuntime, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        client.schedule(name, every=MINUTE, spec=SPEC)
    clock.advance(MINUTE)
    fire = still.handle.fire

    def failing(queue_name: str, name: str, *args: Any, **options: Any) -> Any:
        if name == "a":
            raise StorageError("no")
        return fire(queue_name, name, *args, **options)

    monkeypatch.setattr(still.handle, "fire", failing)
    runtime.run_until_idle(PATIENCE)
    assert [name[0] for name in names(client)] == ["b", "c"]
    monkeypatch.undo()
    runtime.run_until_idle(PATIENCE)
    assert [name[0] for name in names(client)] == ["b", "c", "a"]


def test_a_store_that_refuses_all_firing_is_told_of_once_the_rest_is_done(
    still: Queue, runtime: WorkflowRuntime, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime.schedule("s", every=MINUTE, spec=SPEC)
    runtime.submit(run_id="r")

    def failing(*_: Any) -> Any:
        raise StorageError("no schedules today")

    monkeypatch.setattr(still.handle, "next_firing", failing)
    with pytest.raises(StorageError, match="no schedules today"):
        runtime.run_until_idle(PATIENCE)
    assert state(runtime, "r") is RunState.SUCCEEDED


def test_a_runtime_goes_on_beside_a_store_that_refuses_all_firing(
    still: Queue, runtime: WorkflowRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = threading.Event()

    def failing(*_: Any) -> Any:
        called.set()
        raise StorageError("no schedules today")

    monkeypatch.setattr(still.handle, "next_firing", failing)
    with runtime:
        assert called.wait(PATIENCE)
        runtime.submit(run_id="r")
        assert ended(runtime, "r").result == b""


def test_ten_thousand_schedules_are_not_looked_at_while_none_is_due(
    still: Queue, client: WorkflowClient, runtime: WorkflowRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an idle look reads does not grow: one question for each kind, and no schedule."""
    for number in range(200):
        client.schedule(f"s{number}", every=HOUR, spec=SPEC)
    asked: list[str] = []
    for name in ("next_firing", "due_schedules", "find_schedules"):
        real = getattr(still.handle, name)
        monkeypatch.setattr(
            still.handle,
            name,
            lambda *args, _name=name, _real=real, **options: (asked.append(_name), _real(*args, **options))[1],
        )
    assert client._scheduling.fire() == HOUR.total_seconds()
    assert asked == ["next_firing", "next_firing"]


def test_the_library_of_the_extra_is_imported_only_when_a_cron_schedule_is_met() -> None:
    import subprocess

    code = """
import sys
from datetime import timedelta
from taquba_workflow_sync import Queue, RunSpec, Succeed, WorkflowRuntime
with Queue.temporary() as queue:
    runtime = WorkflowRuntime(queue, lambda step: Succeed())
    runtime.schedule("e", every=timedelta(hours=1), spec=RunSpec())
    runtime.run_until_idle()
    assert "cronsim" not in sys.modules and "zoneinfo" not in sys.modules
    runtime.schedule("c", cron="@daily", spec=RunSpec())
    assert "cronsim" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE)


def test_the_bounds_are_those_of_the_contract() -> None:
    assert (firing.MOST_FIRED, firing.MOST_BYTES, firing.FAR_AHEAD_MS) == (100, 8 * 2**20, 86_400_000)
