"""Schedules at the port: defined once, fired once, whoever else tries, and bounded in what a process looks at."""

from __future__ import annotations

from typing import Any

import pytest

from taquba_workflow_sync.storage.port.run import IfFinished
from taquba_workflow_sync.storage.port.schedule import (
    FAR_AHEAD_MS,
    DueSchedule,
    Fired,
    Mark,
    NewSchedule,
    NextFiring,
    ScheduleKind,
    ScheduleRow,
)
from taquba_workflow_sync.storage.port.settlement import Ack
from taquba_workflow_sync.storage.port.status import JobStatus
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.testing import ManualClock

from .bench import QUEUE, claim, counts_of, now_ms, put_run, rows_of, run, settle, status, writes_nothing
from .conftest import MakeStore

EVERY, CRON = ScheduleKind.EVERY, ScheduleKind.CRON
HOUR = 3_600_000


def schedule(
    clock: ManualClock, name: str = "s", *, queue: str = QUEUE, in_ms: int | None = HOUR, **fields: Any
) -> NewSchedule:
    now = now_ms(clock)
    new = NewSchedule(
        queue, name, EVERY, "definition", b"input", now, Mark(now, None if in_ms is None else now + in_ms)
    )
    return new._replace(**fields)


def defined(store: Store, clock: ManualClock, name: str = "s", **fields: Any) -> ScheduleRow:
    assert store.define_schedule(schedule(clock, name, **fields), None)
    return shown(store, name)


def shown(store: Store, name: str = "s") -> ScheduleRow:
    (row,) = store.find_schedules(QUEUE, name=name).rows
    return row


def fire(store: Store, row: ScheduleRow, *run_ids: str, skips_active: bool = False, **fields: Any) -> Fired | None:
    mark = fields.pop("mark", Mark(row.seen.watermark_ms + HOUR, row.seen.watermark_ms + 2 * HOUR))
    jobs = [run(each, **fields) for each in run_ids]
    return store.fire(QUEUE, row.name, row.seen, jobs, mark, skips_active=skips_active)


# Defining


def test_a_schedule_is_there_for_every_handle_from_its_commit_on(make_store: MakeStore, clock: ManualClock) -> None:
    mine, other = make_store(), make_store()
    new = schedule(clock)
    assert mine.define_schedule(new, None)
    view = other.find_schedules(QUEUE, name="s")
    (row,) = view.rows
    assert row == (
        "s", EVERY, row.seen, new.mark.next_ms, new.defined_ms, False, None, "definition", b"input", None,
    )  # fmt: skip
    assert row.seen.watermark_ms == view.now_ms == now_ms(clock)


def test_a_definition_replaces_the_one_that_was_read_and_no_other(store: Store, clock: ManualClock) -> None:
    first = defined(store, clock)
    with writes_nothing(store):
        assert not store.define_schedule(schedule(clock, definition="other"), None)
        assert not store.define_schedule(schedule(clock, definition="other"), first.seen.revision + 1)
    assert store.define_schedule(schedule(clock, definition="other", payload=b"", kind=CRON), first.seen.revision)
    second = shown(store)
    assert (second.definition, second.payload, second.kind) == ("other", b"", CRON)
    assert second.seen.revision != first.seen.revision
    with writes_nothing(store):
        assert not store.define_schedule(schedule(clock), first.seen.revision)


def test_a_redefinition_leaves_the_pause_and_the_last_run(store: Store, clock: ManualClock) -> None:
    row = defined(store, clock)
    fire(store, row, "r1")
    row = shown(store)
    store.move_schedule(QUEUE, "s", row.seen, Mark(0, None), is_paused=True)
    assert store.define_schedule(schedule(clock, definition="other"), shown(store).seen.revision)
    assert (shown(store).is_paused, shown(store).last_run_id) == (True, "r1")


def test_names_belong_to_their_queue(store: Store, clock: ManualClock) -> None:
    defined(store, clock)
    assert store.define_schedule(schedule(clock, queue="other"), None)
    assert store.drop_schedule("other", "s")
    assert shown(store).name == "s"
    assert store.find_schedules("nowhere", name="s").rows == []


def test_a_large_input_is_kept_whole(store: Store, clock: ManualClock) -> None:
    row = defined(store, clock, payload=b"L" * 100_000)
    assert row.payload == b"L" * 100_000


def test_schedules_are_listed_by_name_in_pieces(store: Store, clock: ManualClock) -> None:
    for name in ("c", "a", "b"):
        defined(store, clock, name)
    assert [row.name for row in store.find_schedules(QUEUE, limit=2).rows] == ["a", "b"]
    assert [row.name for row in store.find_schedules(QUEUE, after="b", limit=2).rows] == ["c"]
    assert store.find_schedules(QUEUE, after="c", limit=2).rows == []


def test_a_dropped_schedule_is_gone_and_its_runs_are_not(store: Store, clock: ManualClock) -> None:
    row = defined(store, clock)
    fire(store, row, "r1")
    assert store.drop_schedule(QUEUE, "s")
    assert store.find_schedules(QUEUE, limit=10).rows == []
    with writes_nothing(store):
        assert not store.drop_schedule(QUEUE, "s")
        assert fire(store, row, "r2") is None
    assert [each.run_id for each in rows_of(store, QUEUE)] == ["r1"]
    assert store.find_schedules(QUEUE, limit=10).rows == []


def test_a_schedule_dropped_and_defined_again_is_another_one(store: Store, clock: ManualClock) -> None:
    before = defined(store, clock)
    store.drop_schedule(QUEUE, "s")
    after = defined(store, clock)
    assert before.seen != after.seen
    assert fire(store, before, "r1") is None


# Firing


def test_a_firing_submits_its_run_and_moves_the_mark_in_one_commit(store: Store, clock: ManualClock) -> None:
    row = defined(store, clock)
    assert fire(store, row, "r1") == (["r1"], [], [])
    after = shown(store)
    assert after.seen == (row.seen.revision, row.seen.watermark_ms + HOUR)
    assert (after.next_ms, after.last_run_id) == (row.seen.watermark_ms + 2 * HOUR, "r1")
    assert claim(store).run_id == "r1"


def test_what_was_fired_is_never_fired_again_by_whoever_saw_the_same(make_store: MakeStore, clock: ManualClock) -> None:
    mine, other = make_store(), make_store()
    row = defined(mine, clock)
    assert fire(mine, row, "r1") is not None
    with writes_nothing(mine):
        assert fire(other, row, "r1") is None
        assert fire(mine, row, "r2") is None
    assert counts_of(mine).pending == 1


def test_a_firing_computed_before_a_pause_or_a_redefinition_is_not_stored(store: Store, clock: ManualClock) -> None:
    row = defined(store, clock)
    assert store.move_schedule(QUEUE, "s", row.seen, Mark(row.seen.watermark_ms, row.next_ms), is_paused=True)
    assert fire(store, row, "r1") is None
    row = shown(store)
    assert store.define_schedule(schedule(clock, definition="other"), row.seen.revision)
    assert fire(store, row, "r1") is None
    assert counts_of(store).pending == 0


def test_a_trigger_submits_and_leaves_the_mark(store: Store, clock: ManualClock) -> None:
    row = defined(store, clock)
    assert fire(store, row, "r1", mark=None) == (["r1"], [], [])
    after = shown(store)
    assert (after.seen, after.next_ms, after.last_run_id) == (row.seen, row.next_ms, "r1")
    assert fire(store, row, "r2") is not None, "what was computed before it is still good"


def test_a_name_that_is_there_with_the_same_input_counts_as_fired(store: Store, clock: ManualClock) -> None:
    job_id = put_run(store, "r1")
    row = defined(store, clock)
    assert fire(store, row, "r1") == (["r1"], [], [])
    assert [each.id for each in rows_of(store, QUEUE)] == [job_id]
    assert shown(store).last_run_id == "r1"


def test_a_name_taken_by_another_input_is_passed_over_and_the_others_fire(store: Store, clock: ManualClock) -> None:
    put_run(store, "r2", payload=b"another")
    row = defined(store, clock)
    assert fire(store, row, "r1", "r2", "r3") == (["r1", "r3"], [], ["r2"])
    assert shown(store).seen.watermark_ms == row.seen.watermark_ms + HOUR
    assert counts_of(store).pending == 3


def test_a_kept_run_of_the_name_is_run_again_if_the_spec_says_so(store: Store, clock: ManualClock) -> None:
    put_run(store, "r1", payload=b"another")
    settle(store, claim(store), Ack())
    row = defined(store, clock)
    assert fire(store, row, "r1", if_finished=IfFinished.RERUN) == (["r1"], [], [])
    assert counts_of(store).pending == 1


def test_while_the_last_run_is_active_a_firing_is_passed_over(store: Store, clock: ManualClock) -> None:
    row = defined(store, clock)
    assert fire(store, row, "r1", "r2", skips_active=True) == (["r1"], ["r2"], [])
    row = shown(store)
    held = claim(store)
    assert fire(store, row, "r3", skips_active=True) == ([], ["r3"], [])
    row = shown(store)
    assert row.last_run_id == "r1"
    settle(store, held, Ack())
    assert fire(store, row, "r4", skips_active=True) == (["r4"], [], [])
    assert status(store, held.id) is JobStatus.DONE


def test_without_that_it_fires_beside_an_active_run(store: Store, clock: ManualClock) -> None:
    row = defined(store, clock)
    assert fire(store, row, "r1", "r2") == (["r1", "r2"], [], [])


def test_a_run_to_come_later_is_scheduled(store: Store, clock: ManualClock) -> None:
    row = defined(store, clock)
    fire(store, row, "r1", run_at_ms=now_ms(clock) + HOUR)
    assert counts_of(store).scheduled == 1


# What a process waits for


def test_nothing_is_to_be_waited_for_without_a_schedule_of_the_kind(store: Store, clock: ManualClock) -> None:
    assert store.next_firing(QUEUE, EVERY) is None
    defined(store, clock)
    assert store.next_firing(QUEUE, CRON) is None
    assert store.next_firing("other", EVERY) is None


def test_the_next_firing_is_the_first_of_those_to_come(store: Store, clock: ManualClock) -> None:
    defined(store, clock, "late", in_ms=2 * HOUR)
    defined(store, clock, "soon", in_ms=HOUR)
    defined(store, clock, "never", in_ms=None)
    assert store.next_firing(QUEUE, EVERY) == NextFiring(False, HOUR)
    clock.advance(HOUR / 1000)
    assert store.next_firing(QUEUE, EVERY) == NextFiring(True, HOUR)
    clock.advance(HOUR / 1000)
    assert store.next_firing(QUEUE, EVERY) == NextFiring(True, None)


def test_a_paused_schedule_is_neither_due_nor_waited_for(store: Store, clock: ManualClock) -> None:
    row = defined(store, clock)
    assert store.move_schedule(QUEUE, "s", row.seen, Mark(row.seen.watermark_ms, row.next_ms), is_paused=True)
    clock.advance(2 * HOUR / 1000)
    assert store.next_firing(QUEUE, EVERY) is None
    assert store.due_schedules(QUEUE, EVERY, None, 10) == []
    row = shown(store)
    assert store.move_schedule(QUEUE, "s", row.seen, Mark(now_ms(clock), now_ms(clock) + 1), is_paused=False)
    assert store.next_firing(QUEUE, EVERY) == NextFiring(False, 1)
    with writes_nothing(store):
        assert not store.move_schedule(QUEUE, "s", row.seen, Mark(0, None), is_paused=True)


def test_what_is_due_comes_the_longest_first_and_in_pieces(store: Store, clock: ManualClock) -> None:
    for place, name in enumerate(("c", "a", "b", "later")):
        defined(store, clock, name, in_ms=(place + 1) * HOUR)
    clock.advance(3 * HOUR / 1000)
    first = store.due_schedules(QUEUE, EVERY, None, 2)
    assert [each.name for each in first] == ["c", "a"]
    assert [each.name for each in store.due_schedules(QUEUE, EVERY, first[-1], 2)] == ["b"]
    assert store.due_schedules(QUEUE, CRON, None, 2) == []


def test_schedules_that_are_due_at_the_same_moment_all_come(store: Store, clock: ManualClock) -> None:
    for name in "abc":
        defined(store, clock, name)
    clock.advance(HOUR / 1000)
    found: list[str] = []
    place: DueSchedule | None = None
    while piece := store.due_schedules(QUEUE, EVERY, place, 1):
        found += [each.name for each in piece]
        place = piece[-1]
    assert found == ["a", "b", "c"]


@pytest.mark.parametrize("ms", [FAR_AHEAD_MS, FAR_AHEAD_MS + 1])
def test_a_watermark_more_than_a_day_ahead_is_told_of(store: Store, clock: ManualClock, ms: int) -> None:
    now = now_ms(clock)
    defined(store, clock, mark=Mark(now + ms, now + 2 * ms))
    is_ahead = ms > FAR_AHEAD_MS
    assert store.next_firing(QUEUE, EVERY) == NextFiring(is_ahead, 2 * ms)
    assert [each.name for each in store.due_schedules(QUEUE, EVERY, None, 10)] == ["s"] * is_ahead


def test_whoever_waits_for_work_hears_of_a_definition(make_store: MakeStore, clock: ManualClock) -> None:
    store, heard = make_store(), []
    with store.on_commit(lambda woken, ended: heard.append(woken)):
        row = defined(store, clock)
        store.move_schedule(QUEUE, "s", row.seen, Mark(0, None), is_paused=True)
    assert heard == [frozenset({QUEUE})] * 2


def test_a_schedule_survives_a_restart(make_store: MakeStore, clock: ManualClock) -> None:
    first = make_store()
    row = defined(first, clock)
    fire(first, row, "r1")
    before = shown(first)
    first.close()
    assert shown(make_store()) == before


@pytest.mark.usefixtures("_backs_up")
def test_a_schedule_is_in_the_backup(make_store: MakeStore, clock: ManualClock, tmp_path: Any) -> None:
    store = make_store()
    row = defined(store, clock, payload=b"L" * 5_000)
    store.backup(str(tmp_path / "copy"))
    copy = make_store("copy")
    assert shown(copy) == row
    assert fire(copy, row, "r1") is not None
