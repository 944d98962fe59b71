"""What operators ask at the port: counts, filters, and many runs cancelled or retried in bounded commits."""

from __future__ import annotations

from typing import Any

import pytest

from taquba_workflow_sync.storage.port.headers import encode_headers
from taquba_workflow_sync.storage.port.operators import MOST_ROWS, Piece
from taquba_workflow_sync.storage.port.reads import Filter
from taquba_workflow_sync.storage.port.run import IfFinished
from taquba_workflow_sync.storage.port.settlement import (
    Ack,
    Advance,
    DeadLetter,
    Nack,
    Release,
    SettleCancelled,
)
from taquba_workflow_sync.storage.port.status import JobStatus, Verdict
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.storage.port.tally import Tally
from taquba_workflow_sync.testing import ManualClock

from .bench import (
    KEEP_MS,
    QUEUE,
    claim,
    claims,
    ending,
    now_ms,
    put,
    put_one,
    put_run,
    run,
    settle,
    status,
    stored,
    subscribe,
    tally_by_looking,
)
from .deaths import Deaths

RUNS = Filter(runs_only=True)


def names(store: Store, which: Filter, limit: int = 1_000) -> list[str]:
    """The run ids of all pages."""
    found: list[str] = []
    cursor = None
    for _ in range(1_000):
        page = store.page(QUEUE, which, limit, cursor, with_payload=False)
        assert len(page.rows) <= limit
        found += [str(row.run_id) for row in page.rows]
        cursor = page.next_cursor
        if cursor is None:
            return found
    raise AssertionError("the pages never end")


def submit(store: Store, *run_ids: str, **fields: Any) -> list[str]:
    return put(store, *(run(run_id, **fields) for run_id in run_ids))


# Counting


def test_a_queue_that_was_never_used_has_no_runs(store: Store) -> None:
    assert store.tally("nowhere") == Tally()


def test_every_state_of_a_run_is_counted(store: Store, clock: ManualClock) -> None:
    submit(store, "good", "failed", "dead", "cancelled", "stopping", "running")
    good, failed, dead, cancelled, stopping, _ = claims(store)
    settle(store, good, Ack(result=b"x"), yields_to_cancel=True)
    settle(store, failed, Ack(Verdict.FAILED, None, "no"))
    settle(store, dead, DeadLetter("broken"))
    settle(store, cancelled, SettleCancelled())
    store.cancel(stopping.id)
    submit(store, "waits")
    submit(store, "later", run_at_ms=now_ms(clock) + 10_000)
    put_one(store)
    assert store.tally(QUEUE) == Tally(2, 1, 1, 1, 2, 1) == tally_by_looking(store, QUEUE)


def test_bare_jobs_are_no_runs_wherever_they_stand(store: Store) -> None:
    for action in (Nack("boom"), Release(), Advance(b"x"), Ack()):
        put_one(store)
        settle(store, claim(store), action, yields_to_cancel=True)
        assert store.tally(QUEUE) == Tally()
    put(store, *(run(f"r{number}") for number in range(2)))
    held = claims(store)
    assert store.tally(QUEUE) == Tally(running=2)
    ends = [ending(row, Advance(b"x"), yields_to_cancel=True) for row in held]
    store.settle_and_claim(ends, [])
    assert store.tally(QUEUE) == Tally(pending=2)


def test_what_was_asked_to_stop_counts_as_such_once_and_until_it_ends(store: Store) -> None:
    job_id = put_run(store)
    held = claim(store)
    for _ in range(2):
        store.cancel(job_id)
        assert store.tally(QUEUE) == Tally(cancelling=1)
    settle(store, held, Release())
    assert store.tally(QUEUE) == Tally(cancelling=1), "it waits, and is to stop"
    again = claim(store)
    assert store.tally(QUEUE) == Tally(cancelling=1)
    settle(store, again, SettleCancelled())
    assert store.tally(QUEUE) == Tally(cancelled=1)


def test_a_retry_and_a_sweep_count_back(store: Store, clock: ManualClock) -> None:
    job_id = put_run(store)
    settle(store, claim(store), DeadLetter("x"))
    store.requeue(job_id, failed_run=True)
    assert store.tally(QUEUE) == Tally(pending=1)
    settle(store, claim(store), Ack(result=b"x"), yields_to_cancel=True)
    assert store.tally(QUEUE) == Tally(succeeded=1)
    clock.advance(KEEP_MS / 1000 + 1)
    assert store.tally(QUEUE) == Tally(succeeded=1), "until it is swept"
    while store.sweep():
        pass
    assert store.tally(QUEUE) == Tally()


def test_notifications_are_no_runs(store: Store) -> None:
    subscribe(store)
    put_run(store)
    settle(store, claim(store), Ack())
    assert store.tally("steps.terminal") == Tally()
    claim(store, queue="steps.terminal")
    assert store.tally("steps.terminal") == Tally()


def test_a_run_whose_owner_died_is_counted_where_it_went(store: Store, deaths: Deaths) -> None:
    put_run(store)
    held = deaths.take("owner")
    claims(store, 0, abandoned=deaths.let_die("owner", held))
    assert store.tally(QUEUE) == Tally(pending=1)


# Finding


def test_a_prefix_finds_the_names_that_begin_so(store: Store) -> None:
    submit(store, "a-1", "b-1", "a-2", "a", "A-3", "b")
    assert names(store, Filter(runs_only=True, prefix="a-")) == ["a-1", "a-2"]
    assert names(store, Filter(runs_only=True, prefix="a")) == ["a-1", "a-2", "a"]
    assert names(store, Filter(runs_only=True, prefix="zzz")) == []


@pytest.mark.parametrize("large", [False, True], ids=["small headers", "large headers"])
def test_a_header_finds_its_name_with_its_value_and_nothing_like_it(store: Store, large: bool) -> None:
    more = {"zz": "x" * 5_000} if large else {}
    hard = 'q"uo,te\\'

    def with_headers(name: str, **headers: str) -> None:
        submit(store, name, headers=encode_headers(headers | more))

    with_headers("first", tenant="7", other="8")
    with_headers("second", other="8", tenant="7")
    with_headers("longer", tenant="77")
    with_headers("another", xtenant="7")
    with_headers("inside", other=',"tenant":"7"')
    submit(store, "none")
    submit(store, "hard", headers=encode_headers({hard: hard} | more))
    submit(store, "odd", headers=encode_headers({'x"tenant': "7"} | more))
    assert names(store, Filter(runs_only=True, header=("tenant", "7"))) == ["first", "second"]
    assert names(store, Filter(runs_only=True, header=(hard, hard))) == ["hard"]
    assert names(store, Filter(runs_only=True, header=("tenant", ""))) == []


def test_since_is_inclusive_and_until_is_not(store: Store, clock: ManualClock) -> None:
    moments = []
    for name in ("a", "b", "c"):
        moments.append(now_ms(clock))
        submit(store, name)
        clock.advance(1)
    assert names(store, Filter(runs_only=True, since_ms=moments[1])) == ["b", "c"]
    assert names(store, Filter(runs_only=True, until_ms=moments[1])) == ["a"]
    assert names(store, Filter(runs_only=True, since_ms=moments[1], until_ms=moments[2])) == ["b"]


def test_a_part_of_an_error_finds_the_failed_and_nobody_else(store: Store) -> None:
    submit(store, "failed", "dead", "cancelled", "other", "retried", "nul")
    failed, dead, cancelled, other, retried, nul = claims(store)
    settle(store, failed, Ack(Verdict.FAILED, None, "no 100%_sure thing"))
    settle(store, dead, DeadLetter("a 100%_sure thing"))
    settle(store, cancelled, SettleCancelled("a 100%_sure thing"))
    settle(store, other, DeadLetter("a 100x_sure thing"))
    settle(store, retried, Nack("a 100%_sure thing"))
    settle(store, nul, DeadLetter("a\0b"))
    assert names(store, Filter(runs_only=True, failed_with="100%_sure")) == ["failed", "dead"]
    assert names(store, Filter(runs_only=True, failed_with="A 100")) == []
    assert names(store, Filter(runs_only=True, failed_with="\0")) == ["nul"]


def test_filters_narrow_each_other(store: Store, clock: ManualClock) -> None:
    submit(store, "a-1", "a-2", headers='{"t":"1"}')
    submit(store, "a-3", "b-1", headers='{"t":"2"}')
    settle(store, claim(store), DeadLetter("boom"))
    assert names(store, Filter(runs_only=True, prefix="a-", header=("t", "1"), verdict=Verdict.FAILED)) == ["a-1"]
    assert names(store, Filter(runs_only=True, prefix="a-", header=("t", "1"), is_waiting=True)) == ["a-2"]
    assert names(store, Filter(runs_only=True, prefix="b-", header=("t", "1"))) == []
    assert names(store, Filter(runs_only=True, parent="a-1")) == [], "nobody is its child"


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("examined", [None, 1, 2, 5])
@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("narrow", ["nothing", "prefix", "header", "waiting", "failed", "finished"])
def test_pages_lead_through_all_that_is_found_once_and_in_order(
    store: Store, limit: int, examined: int | None, newest_first: bool, narrow: str
) -> None:
    for number in range(12):
        headers = encode_headers({"third": str(number % 3)})
        submit(store, f"{'ab'[number % 2]}-{number:02}", headers=headers)
    for row in claims(store, 6):
        settle(store, row, DeadLetter("x") if row.run_id and row.run_id < "b" else Ack())
    fields: dict[str, tuple[dict[str, Any], Any]] = {
        "nothing": ({}, lambda n: True),
        "prefix": ({"prefix": "a-"}, lambda n: n % 2 == 0),
        "header": ({"header": ("third", "1")}, lambda n: n % 3 == 1),
        "waiting": ({"is_waiting": True}, lambda n: n >= 6),
        "failed": ({"verdict": Verdict.FAILED}, lambda n: n < 6 and n % 2 == 0),
        "finished": ({"status": JobStatus.DONE}, lambda n: n < 6 and n % 2 == 1),
    }
    narrowed, is_found = fields[narrow]
    wanted = [f"{'ab'[number % 2]}-{number:02}" for number in range(12) if is_found(number)]
    which = Filter(runs_only=True, newest_first=newest_first, most_examined=examined, **narrowed)
    assert names(store, which, limit) == (wanted[::-1] if newest_first else wanted)


def test_a_page_looks_at_so_many_rows_and_no_more_and_leads_on(store: Store) -> None:
    for number in range(10):
        submit(store, f"r{number}", headers=encode_headers({"n": str(number)}))
    which = Filter(runs_only=True, header=("n", "9"), most_examined=4)
    first = store.page(QUEUE, which, 10, None)
    assert first.rows == [] and first.next_cursor is not None
    second = store.page(QUEUE, which, 10, first.next_cursor)
    assert second.rows == [] and second.next_cursor is not None
    third = store.page(QUEUE, which, 10, second.next_cursor)
    assert [row.run_id for row in third.rows] == ["r9"]
    assert third.next_cursor is None


def test_a_cursor_stays_good_when_its_row_is_gone_and_others_come(store: Store, clock: ManualClock) -> None:
    submit(store, *(f"r{number}" for number in range(6)), keep_done_ms=1_000)
    which = Filter(runs_only=True, newest_first=True)
    page = store.page(QUEUE, which, 2, None)
    for row in claims(store):
        settle(store, row, Ack() if row.run_id == "r4" else Nack("boom"))
    clock.advance(61)
    assert store.sweep() == 1
    submit(store, "new")
    rest = store.page(QUEUE, which, 10, page.next_cursor)
    assert [row.run_id for row in (*page.rows, *rest.rows)] == ["r5", "r4", "r3", "r2", "r1", "r0"]


def test_a_page_without_payloads_shows_everything_else(store: Store) -> None:
    put_run(store, payload=b"x" * 5_000, headers='{"a":"b"}')
    (row,) = store.page(QUEUE, RUNS, 10, None, with_payload=False).rows
    assert row.payload == b""
    assert (row.headers, row.damage) == ('{"a":"b"}', None)


# Many at once


def cancel_all(store: Store, which: Filter, **options: Any) -> list[Piece]:
    pieces: list[Piece] = []
    cursor = None
    while not pieces or cursor is not None:
        pieces.append(store.cancel_some(QUEUE, which, cursor, **options))
        cursor = pieces[-1].next_cursor
    return pieces


def retry_all(store: Store, which: Filter = RUNS) -> list[Piece]:
    pieces: list[Piece] = []
    cursor = None
    while not pieces or cursor is not None:
        pieces.append(
            store.retry_some(QUEUE, Filter(runs_only=True, verdict=Verdict.FAILED, prefix=which.prefix), cursor)
        )
        cursor = pieces[-1].next_cursor
    return pieces


ACTIVE = Filter(runs_only=True, is_active=True, newest_first=True)


def test_many_waiting_runs_end_and_running_ones_are_asked_to(store: Store) -> None:
    running, *waiting = submit(store, "a", "b", "c")
    held = claim(store)
    done = submit(store, "done", priority=1)
    settle(store, claim(store), Ack())
    (piece,) = cancel_all(store, ACTIVE, reason="closing")
    assert (piece.changed, piece.tokens) == (3, [held.token])
    assert [stored(store, each).last_error for each in waiting] == ["closing"] * 2
    assert stored(store, running).cancel_requested
    assert status(store, done[0]) is JobStatus.DONE
    settle(store, held, SettleCancelled())
    assert stored(store, running).last_error == "closing"


def test_what_is_done_to_many_goes_in_bounded_commits(store: Store) -> None:
    many = MOST_ROWS + 100
    submit(store, *(f"r{number}" for number in range(many)))
    pieces = cancel_all(store, ACTIVE)
    assert [piece.changed for piece in pieces] == [MOST_ROWS, 100]
    assert store.tally(QUEUE) == Tally(cancelled=many)


def test_notifications_of_many_wait_in_their_lane(store: Store) -> None:
    subscribe(store)
    submit(store, "a", "b")
    cancel_all(store, ACTIVE)
    assert store.counts()["steps.terminal"].pending == 2


def test_a_claim_whose_owner_died_ends_at_once(store: Store, deaths: Deaths) -> None:
    job_id = put_run(store)
    held = deaths.take("owner")
    evidence = deaths.let_die("owner", held)
    (piece,) = cancel_all(store, ACTIVE, abandoned=evidence, reason="enough")
    assert (piece.changed, piece.tokens) == (1, [])
    assert (status(store, job_id), stored(store, job_id).last_error) == (JobStatus.CANCELLED, "enough")


def test_many_failed_runs_go_back_in_line_in_the_order_of_their_submission(store: Store) -> None:
    submit(store, "a", "b", "good")
    first, second, good = claims(store)
    settle(store, second, DeadLetter("x"))
    settle(store, first, Ack(Verdict.FAILED, None, "no"))
    settle(store, good, Ack())
    (piece,) = retry_all(store)
    assert (piece.changed, piece.tokens) == (2, [])
    assert [row.run_id for row in claims(store)] == ["a", "b"]


def test_of_a_name_only_the_newest_run_is_retried_and_none_that_is_active(store: Store) -> None:
    for name in ("again", "active"):
        submit(store, name)
        settle(store, claim(store), DeadLetter("x"))
    (newest,) = submit(store, "again", if_finished=IfFinished.RERUN)
    settle(store, claim(store), DeadLetter("x"))
    submit(store, "active", if_finished=IfFinished.RERUN)
    assert [piece.changed for piece in retry_all(store)] == [1]
    assert status(store, newest) is JobStatus.PENDING


def test_retries_of_many_go_in_bounded_commits(store: Store) -> None:
    many = MOST_ROWS + 50
    submit(store, *(f"r{number}" for number in range(many)))
    store.settle_and_claim([ending(row, DeadLetter("x")) for row in claims(store)], [])
    assert [piece.changed for piece in retry_all(store)] == [MOST_ROWS, 50]
    assert store.tally(QUEUE) == Tally(pending=many)


@pytest.mark.parametrize("cursor", ["", "x", "-1", "1.5", "\u0663"])
def test_a_cursor_that_is_none_is_refused(store: Store, cursor: str) -> None:
    put_run(store)
    with pytest.raises(ValueError, match="cursor"):
        store.cancel_some(QUEUE, ACTIVE, cursor)
    with pytest.raises(ValueError, match="cursor"):
        store.retry_some(QUEUE, RUNS, cursor)


def test_nothing_is_done_in_a_queue_that_is_not_there(store: Store) -> None:
    assert store.cancel_some("nowhere", ACTIVE, None) == Piece(0, [], None)
    assert store.retry_some("nowhere", RUNS, None) == Piece(0, [], None)


# One run, with more to say


def test_the_reason_of_a_cancel_is_the_error_of_the_run_that_waits(store: Store) -> None:
    job_id = put_run(store)
    store.cancel(job_id, reason="not needed")
    assert stored(store, job_id).last_error == "not needed"


def test_the_first_reason_that_was_given_stays(store: Store) -> None:
    job_id = put_run(store)
    held = claim(store)
    store.cancel(job_id)
    store.cancel(job_id, reason="first")
    store.cancel(job_id, reason="second")
    settle(store, held, SettleCancelled())
    assert stored(store, job_id).last_error == "first"


def test_a_runners_own_reason_goes_before_the_one_that_was_given(store: Store) -> None:
    job_id = put_run(store)
    held = claim(store)
    store.cancel(job_id, reason="theirs")
    settle(store, held, SettleCancelled("mine"))
    assert stored(store, job_id).last_error == "mine"


def test_a_retried_run_knows_nothing_of_the_reason_of_before(store: Store) -> None:
    job_id = put_run(store)
    held = claim(store)
    store.cancel(job_id, reason="of before")
    settle(store, held, DeadLetter("it was too late for that"))
    store.requeue(job_id, failed_run=True)
    store.cancel(job_id)
    assert (status(store, job_id), stored(store, job_id).last_error) == (JobStatus.CANCELLED, None)


def test_a_reason_survives_a_release_and_a_dead_owner(store: Store, deaths: Deaths) -> None:
    job_id = put_run(store)
    settled = claim(store)
    store.cancel(job_id, reason="enough")
    settle(store, settled, Release())
    held = deaths.take("owner")
    claims(store, 0, abandoned=deaths.let_die("owner", held))
    assert (status(store, job_id), stored(store, job_id).last_error) == (JobStatus.CANCELLED, "enough")


def test_a_notification_carries_the_reason(store: Store) -> None:
    subscribe(store)
    job_id = put_run(store)
    held = claim(store)
    store.cancel(job_id, reason="enough")
    settle(store, held, SettleCancelled())
    assert "enough" in claim(store, queue="steps.terminal").headers


@pytest.mark.parametrize("size", [1, 5_000])
@pytest.mark.parametrize("before", [1, 5_000])
def test_a_retry_takes_another_payload(store: Store, size: int, before: int) -> None:
    job_id = put_run(store, payload=b"i" * before)
    settle(store, claim(store), DeadLetter("x"))
    store.requeue(job_id, failed_run=True, payload=b"o" * size)
    assert claim(store).payload == b"o" * size
    assert store.check() == []


def test_another_payload_leaves_the_runs_name_its_input(store: Store) -> None:
    job_id = put_run(store, payload=b"input")
    settle(store, claim(store), DeadLetter("x"))
    store.requeue(job_id, failed_run=True, payload=b"other")
    assert put_run(store, payload=b"input") == job_id, "the same submit is the same run"


def test_a_step_after_another_payload_is_plain_again(store: Store) -> None:
    job_id = put_run(store)
    settle(store, claim(store), DeadLetter("x"))
    store.requeue(job_id, failed_run=True, payload=b"other")
    settle(store, claim(store), Advance(b"next"), yields_to_cancel=True)
    assert (stored(store, job_id).step, claim(store).payload) == (1, b"next")
