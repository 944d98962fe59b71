"""A claim that goes on at the next step, in the commit that ends the one before, where nothing goes before it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from taquba_workflow_sync.errors import CancelRequestedError, ClaimLostError
from taquba_workflow_sync.storage.port.claim import ClaimedRow, ClaimRequest, LaneClaim
from taquba_workflow_sync.storage.port.settings import Backoff, StepSettings
from taquba_workflow_sync.storage.port.settlement import Ack, Advance, Answer, Nack, Ongoing, Release, Settlement
from taquba_workflow_sync.storage.port.status import JobStatus
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.testing import ManualClock

from .bench import (
    LANE,
    LEASE_MS,
    QUEUE,
    check_counters,
    claim,
    claims,
    counts_of,
    dump,
    ending,
    holding,
    job,
    new_id,
    put,
    put_run,
    refusal,
    run,
    settle,
    stored,
    subscribe,
    writes_nothing,
)

HELD = Ongoing.HELD


def held_as(settlement: Settlement) -> str:
    """The token that a settlement asks to go on under."""
    action = settlement.action
    assert isinstance(action, Advance) and action.hold is not None
    return action.hold.token


def answer(store: Store, settlement: Settlement) -> Answer:
    ((only,), claimed) = store.settle_and_claim([settlement], [])
    assert claimed == []
    return only


def go_on(store: Store, held: ClaimedRow, payload: bytes = b"next") -> ClaimedRow:
    """Hold a claim, which must be possible; returns it as its worker knows it then."""
    settlement = holding(store, held, payload)
    assert answer(store, settlement) is HELD
    return held._replace(token=held_as(settlement), step=held.step + 1, attempts=1, payload=payload)


# What a hold is


def test_a_claim_goes_on_at_the_next_step_under_another_token(store: Store, clock: ManualClock) -> None:
    job_id = put_run(store)
    settle(store, claim(store), Nack("once"))
    held = claim(store)
    before = stored(store, job_id)
    clock.advance(1)
    after = go_on(store, held, b"two")

    row = stored(store, job_id)
    assert (row.status, row.step, row.attempts, row.payload) == (JobStatus.CLAIMED, 1, 1, b"two")
    assert (row.owner, row.lease_until_ms, row.last_error) == (before.owner, before.lease_until_ms, None)
    assert after.token != held.token
    assert [each.token for each in store.running()] == [after.token]
    assert row.claimed_ms == before.claimed_ms + 1_000 if before.claimed_ms is not None else False
    check_counters(store)


def test_the_history_tells_each_step_that_a_held_claim_has_done(store: Store, clock: ManualClock) -> None:
    job_id = put_run(store)
    start = stored(store, job_id).enqueued_ms
    held = claim(store)
    for _ in range(2):
        clock.advance(1)
        held = go_on(store, held)
    clock.advance(1)
    settle(store, held, Ack())
    assert [tuple(each)[1:] for each in store.history(job_id)] == [
        (0, 1, start, start + 1_000, "continued", None),
        (1, 1, start + 1_000, start + 2_000, "continued", None),
        (2, 1, start + 2_000, start + 3_000, "succeeded", None),
    ]


@pytest.mark.parametrize("together", [1, 2], ids=["alone", "with another"])
def test_the_history_keeps_the_first_hundred_and_the_last_thousand(store: Store, together: int) -> None:
    put(store, *(run(f"r{number}") for number in range(together)))
    held = claims(store)
    for _ in range(1_250):
        settlements = [holding(store, row) for row in held]
        assert store.settle_and_claim(settlements, [])[0] == [HELD] * together
        held = [row._replace(token=held_as(each)) for row, each in zip(held, settlements, strict=True)]
    for row in held:
        assert [each.step + 1 for each in store.history(row.id)] == [*range(1, 101), *range(251, 1_251)]


def test_the_token_before_is_fenced_off_and_the_new_one_ends_the_claim(store: Store) -> None:
    put_run(store)
    before = claim(store)
    after = go_on(store, before)
    with writes_nothing(store):
        assert isinstance(refusal(store, before, Ack()), ClaimLostError)
        assert store.renew([before.token], LEASE_MS)[1] == frozenset()
    assert store.renew([after.token], LEASE_MS)[1] == {after.token}
    settle(store, after, Ack(result=b"end"))
    assert stored(store, before.id).result == b"end"


def test_what_was_held_and_not_begun_is_released_uncharged(store: Store) -> None:
    job_id = put_run(store)
    settle(store, go_on(store, claim(store)), Release())
    row = stored(store, job_id)
    assert (row.status, row.step, row.attempts) == (JobStatus.PENDING, 1, 0)
    assert len(store.history(job_id)) == 1


def test_a_held_claim_of_the_dead_is_taken_back_at_its_step(make_store: Callable[[], Store]) -> None:
    first, second = make_store(), make_store()
    put_run(first, max_attempts=2)
    go_on(first, claim(first), b"two")
    first.close()
    (again,) = claims(second, abandoned=second.abandoned_claims())
    assert (again.step, again.attempts, again.payload) == (1, 2, b"two")


def test_a_request_to_cancel_goes_before_a_hold(store: Store) -> None:
    put_run(store)
    held = claim(store)
    store.cancel(held.id)
    with writes_nothing(store):
        assert isinstance(answer(store, holding(store, held)), CancelRequestedError)


def test_a_cancel_finds_the_claim_that_goes_on(store: Store) -> None:
    put_run(store)
    held = go_on(store, claim(store))
    assert store.cancel(held.id).token == held.token
    assert isinstance(answer(store, holding(store, held)), CancelRequestedError)


@pytest.mark.parametrize("payload", [b"L" * 3_000, b""], ids=["large", "none"])
def test_a_payload_of_any_size_is_the_next_steps(store: Store, payload: bytes) -> None:
    put_run(store)
    assert answer(store, holding(store, claim(store), payload)) is HELD
    (shown,) = [stored(store, each.job_id) for each in store.running()]
    assert (shown.step, shown.payload) == (1, payload)


# A try that was stored, though nobody was told


def test_a_settlement_that_was_stored_is_adopted_when_it_is_tried_again(store: Store) -> None:
    put_run(store)
    settlement = holding(store, claim(store))
    assert answer(store, settlement) is HELD
    with writes_nothing(store):
        assert answer(store, settlement) is HELD


def test_a_hold_that_was_stored_is_adopted_whatever_waits_now(store: Store) -> None:
    put_run(store)
    settlement = holding(store, claim(store))
    assert answer(store, settlement) is HELD
    put(store, run("urgent", priority=1))
    store.cancel(settlement.job_id)
    before = dump(store)
    assert answer(store, settlement) is HELD
    assert dump(store) == before


def test_a_hold_that_has_gone_on_since_is_not_adopted(store: Store) -> None:
    put_run(store)
    first = holding(store, claim(store))
    assert answer(store, first) is HELD
    held = claim_of(store, first)
    go_on(store, held)
    with writes_nothing(store):
        assert isinstance(answer(store, first), ClaimLostError)


def claim_of(store: Store, settlement: Settlement) -> ClaimedRow:
    row = stored(store, settlement.job_id)
    return ClaimedRow(
        row.id, held_as(settlement), row.step, row.attempts, row.max_attempts, row.payload, row.headers, row.priority,
        False, row.run_id, row.enqueued_ms, None, None, row.queue, 0, 0, 1, row.priority,
    )  # fmt: skip


# When a claim is let go of


def _held_beside(store: Store, waiting: str, **fields: object) -> ClaimedRow:
    put_run(store, "held", priority=5)
    held = claim(store)
    put(store, run(waiting, **fields))  # type: ignore[arg-type]
    return held


def test_nothing_waits(store: Store) -> None:
    put_run(store)
    assert answer(store, holding(store, claim(store))) is HELD


def test_a_better_priority_waits(store: Store) -> None:
    held = _held_beside(store, "urgent", priority=4)
    assert answer(store, holding(store, held, is_within_slice=True, keeps_place=True)) is None
    assert stored(store, held.id).status is JobStatus.PENDING


def test_a_worse_priority_waits(store: Store) -> None:
    held = _held_beside(store, "later", priority=6)
    assert answer(store, holding(store, held)) is HELD


@pytest.mark.parametrize("is_within_slice", [True, False])
def test_another_of_its_priority_waits(store: Store, is_within_slice: bool) -> None:
    held = _held_beside(store, "equal", priority=5)
    expected = HELD if is_within_slice else None
    assert answer(store, holding(store, held, is_within_slice=is_within_slice)) is expected


def test_an_older_one_waits_and_the_oldest_go_first(store: Store) -> None:
    put(store, run("old"), run("young"))
    old, young = claims(store)
    settle(store, old, Nack("again"))
    assert answer(store, holding(store, young, keeps_place=True, is_within_slice=True)) is None


def test_a_younger_one_waits_and_the_oldest_go_first(store: Store) -> None:
    put(store, run("old"), run("young"))
    old, young = claims(store)
    settle(store, young, Nack("again"))
    assert answer(store, holding(store, old, keeps_place=True)) is HELD


def test_what_fits_into_the_room_beside_it_is_no_reason(store: Store) -> None:
    put_run(store, "held")
    held = claim(store)
    put(store, run("a"), run("b"))
    assert answer(store, holding(store, held, room=1)) is None
    held = claim(store)
    put(store, run("c"))
    assert answer(store, holding(store, held, room=3)) is HELD


def test_what_is_due_waits(store: Store, clock: ManualClock) -> None:
    put_run(store, "held")
    held = claim(store)
    put(store, run("due", run_at_ms=stored(store, held.id).enqueued_ms + 1_000))
    held = go_on(store, held)
    clock.advance(2)
    assert answer(store, holding(store, held)) is None


def test_what_waits_in_a_lane_that_is_served_first(store: Store) -> None:
    put_run(store, "held")
    held = claim(store)
    put(store, job(LANE))
    assert answer(store, holding(store, held, lanes=(LANE, QUEUE), room=1, is_within_slice=True)) is HELD
    (shown,) = [each.token for each in store.running()]
    held = held._replace(token=shown)
    assert answer(store, holding(store, held, lanes=(LANE, QUEUE), is_within_slice=True)) is None


@pytest.mark.parametrize("lanes", [(QUEUE,), (LANE, QUEUE)])
def test_what_waits_in_another_queue_is_no_reason(store: Store, lanes: tuple[str, ...]) -> None:
    put_run(store, "held")
    held = claim(store)
    put(store, job(LANE))
    claims(store, queue=LANE)
    put(store, job("elsewhere", priority=1))
    assert answer(store, holding(store, held, lanes=lanes)) is HELD


@pytest.mark.parametrize(("waiting", "room"), [(1, 0), (3, 1), (3, 0), (9, 0)])
def test_as_many_are_let_go_of_as_it_takes_the_first_first(store: Store, waiting: int, room: int) -> None:
    put(store, *(run(f"held-{number}") for number in range(4)))
    held = claims(store)
    put(store, *(run(f"waits-{number}") for number in range(waiting)))
    let_go = min(max(waiting - room, 0), 4)
    answers, claimed = store.settle_and_claim([holding(store, row, room=room) for row in held], [])
    assert answers == [None] * let_go + [HELD] * (4 - let_go)
    assert claimed == []
    assert counts_of(store).claimed == 4 - let_go
    check_counters(store)


@pytest.mark.parametrize("is_spare", [False, True])
def test_the_claims_of_the_same_call_take_the_room_of_what_was_let_go_of(store: Store, is_spare: bool) -> None:
    put(store, run("a"), run("b"))
    held = claims(store)
    put(store, run("c"))
    request = ClaimRequest((LaneClaim(QUEUE, LEASE_MS),), 0, is_spare=is_spare)
    answers, (row,) = store.settle_and_claim([holding(store, each) for each in held], [request])
    assert answers == [None, HELD]
    assert row.run_id == "c"


def test_a_claim_without_room_that_is_none_of_the_spare_ones_promotes_all_the_same(
    store: Store, clock: ManualClock
) -> None:
    put(store, run("a"), run("b"))
    held = claims(store)
    put(store, job("elsewhere", run_at_ms=stored(store, held[0].id).enqueued_ms + 1_000))
    clock.advance(2)
    request = ClaimRequest((LaneClaim("elsewhere", LEASE_MS),), 0)
    assert store.settle_and_claim([holding(store, each) for each in held], [request]) == ([HELD, HELD], [])
    assert counts_of(store, "elsewhere").pending == 1


def test_the_claims_of_other_queues_do_not(store: Store) -> None:
    put(store, run("a"))
    held = claim(store)
    put(store, run("b"), job("elsewhere"))
    request = ClaimRequest((LaneClaim("elsewhere", LEASE_MS),), 0)
    assert store.settle_and_claim([holding(store, held)], [request]) == ([None], [])


def test_one_that_was_let_go_of_goes_to_the_back_or_keeps_its_place(store: Store) -> None:
    put(store, run("a"), run("b"))
    first, second = claims(store)
    put(store, run("waits"), run("urgent", priority=1))
    answers, _ = store.settle_and_claim([holding(store, first), holding(store, second, keeps_place=True)], [])
    assert answers[0] is None
    line = [row.run_id for row in claims(store)]
    assert line.index("waits") < line.index("a")


def test_holds_and_other_ends_go_in_one_turn(store: Store) -> None:
    subscribe(store)
    put(store, *(run(f"r{number}") for number in range(5)))
    a, b, c, d, e = claims(store)
    store.cancel(d.id)
    settle(store, e, Release())
    settlements = [
        holding(store, a, room=1),
        ending(b, Ack()),
        ending(c, Advance(b"next"), yields_to_cancel=True),
        holding(store, d, room=1),
        holding(store, e, room=1),
    ]
    answers, _ = store.settle_and_claim(settlements, [])
    assert answers[:3] == [HELD, None, None]
    assert isinstance(answers[3], CancelRequestedError)
    assert isinstance(answers[4], ClaimLostError)
    assert stored(store, a.id).status is JobStatus.CLAIMED
    check_counters(store)


def test_of_two_holds_of_one_claim_exactly_one_holds(store: Store) -> None:
    put_run(store)
    held = claim(store)
    answers, _ = store.settle_and_claim([holding(store, held, b"a"), holding(store, held, b"b")], [])
    assert answers[0] is HELD
    assert isinstance(answers[1], ClaimLostError)
    assert stored(store, held.id).payload == b"a"


def test_a_token_after_is_never_the_same_and_finds_its_row(store: Store) -> None:
    put_run(store)
    held = claim(store)
    assert len({store.token_after(held.token) for _ in range(1_000)}) == 1_000


# What the next step is called


def labelled(store: Store, label: str, **given: object) -> tuple[str, ClaimedRow]:
    job_id = put_run(store, new_id(), settings=StepSettings(label=label), **given)
    return job_id, claim(store)


def test_a_claim_goes_on_at_a_step_that_is_given_another_label_alone(store: Store) -> None:
    job_id, held = labelled(store, "one")
    settlement = holding(store, held, b"next", settings=StepSettings(label="two"))
    assert answer(store, settlement) is HELD
    row = stored(store, job_id)
    assert (row.status, row.step, row.label) == (JobStatus.CLAIMED, 1, "two")
    after = held._replace(token=held_as(settlement), step=1, attempts=1)
    settle(store, after, Nack("once"))
    again = claim(store)
    assert again.settings is not None and again.settings.label == "two"


@pytest.mark.parametrize(
    "given",
    [
        StepSettings(label="two", max_attempts=5),
        StepSettings(label="two", step_timeout_ms=5_000),
        StepSettings(label="two", backoff=Backoff(1, 2)),
        StepSettings(label="two", priority=5),
        StepSettings(max_attempts=5),
    ],
)
def test_a_step_that_is_given_more_goes_back_in_line(store: Store, given: StepSettings) -> None:
    job_id, held = labelled(store, "one")
    assert answer(store, holding(store, held, b"next", settings=given)) is None
    assert stored(store, job_id).status is JobStatus.PENDING


def test_a_step_after_one_with_more_than_a_label_goes_back_in_line_and_loses_it(store: Store) -> None:
    for given in (StepSettings(label="two", max_attempts=5), StepSettings(label="two", backoff=Backoff(1, 2))):
        job_id, held = labelled(store, "one")
        settle(store, held, Advance(b"next", settings=given))
        held = claim(store)
        assert answer(store, holding(store, held, b"next", settings=StepSettings(label="three"))) is None
        row = stored(store, job_id)
        assert (row.status, row.label, row.max_attempts) == (JobStatus.PENDING, "three", 3)
        settle(store, claim(store), Ack())


def test_a_step_of_a_run_with_a_timeout_or_without_settings_is_not_named_under_the_same_claim(store: Store) -> None:
    first = put_run(store, "first", settings=StepSettings(label="one", step_timeout_ms=60_000))
    held = claim(store)
    assert answer(store, holding(store, held, b"next", settings=StepSettings(label="two"))) is None
    assert stored(store, first).label == "two"
    settle(store, claim(store), Ack())
    second = put_run(store, "second")
    held = claim(store)
    assert answer(store, holding(store, held, b"next", settings=StepSettings(label="two"))) is None
    assert stored(store, second).label == "two"


def test_a_lost_claim_names_nothing(store: Store) -> None:
    job_id, held = labelled(store, "one")
    lost = held._replace(token=held.token + "x")
    assert isinstance(answer(store, holding(store, lost, b"next", settings=StepSettings(label="two"))), ClaimLostError)
    assert stored(store, job_id).label == "one"


def test_claims_of_labelled_and_of_plain_runs_go_on_in_one_commit(store: Store) -> None:
    settings = [StepSettings(label="one"), None, StepSettings(label="one", backoff=Backoff(1, 2)), None]
    ids = [put_run(store, f"r{number}", settings=each) for number, each in enumerate(settings)]
    given = [StepSettings(label="two"), None, StepSettings(label="two"), StepSettings(label="two")]
    ends = [holding(store, held, b"next", settings=each) for held, each in zip(claims(store), given, strict=True)]
    answers, _ = store.settle_and_claim(ends, [])
    assert answers == [HELD, HELD, HELD, None]
    rows = [stored(store, job_id) for job_id in ids]
    assert [row.label for row in rows] == ["two", None, "two", "two"]
    assert [row.status for row in rows] == [JobStatus.CLAIMED] * 3 + [JobStatus.PENDING]
    assert [row.payload for row in rows] == [b"next"] * 4
    check_counters(store)


def test_what_a_step_had_of_its_own_ends_with_it_though_its_claim_goes_on(store: Store) -> None:
    job_id, held = labelled(store, "one")
    go_on(store, held)
    row = stored(store, job_id)
    assert (row.status, row.step, row.label) == (JobStatus.CLAIMED, 1, None)
