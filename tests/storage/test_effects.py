"""Effects at the port: all or none, with the end of a claim or alone, behind the fence, checked before any write."""

from __future__ import annotations

from typing import Any

import pytest

from taquba_workflow_sync.errors import (
    CancelRequestedError,
    ClaimLostError,
    DuplicateJobIdError,
    EffectConflictError,
    InputMismatchError,
    TaqubaError,
)
from taquba_workflow_sync.storage.port.claim import ClaimedRow
from taquba_workflow_sync.storage.port.effects import Add, ComparePut, Delete, Effect, Insert, Put
from taquba_workflow_sync.storage.port.job import Inserted
from taquba_workflow_sync.storage.port.reads import DueIn, Ready
from taquba_workflow_sync.storage.port.run import IfFinished
from taquba_workflow_sync.storage.port.settlement import (
    Ack,
    Action,
    Advance,
    DeadLetter,
    Nack,
    Ongoing,
    PutBack,
    Release,
    SettleCancelled,
    Settlement,
)
from taquba_workflow_sync.storage.port.status import AttemptOutcome, JobStatus, Verdict
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.testing import ManualClock

from .bench import (
    ACTIONS,
    KEEP_MS,
    LANE,
    QUEUE,
    claim,
    claims,
    counts_of,
    holding,
    job,
    put_one,
    put_run,
    run,
    settle,
    stored,
    subscribe,
    writes_nothing,
)
from .conftest import MakeStore

ALL_OF_THEM: tuple[Effect, ...] = (
    Put("put", b"new"),
    Delete("deleted"),
    ComparePut("compared", b"old", b"new"),
    Add("added", 5),
    Insert(job("other", id="inserted", id_given=True)),
)


def prepared(store: Store) -> None:
    for key in ("put", "deleted", "compared"):
        store.kv_put(key, b"old", None)
    store.kv_put("added", b"10", None)


def values(store: Store) -> dict[str, bytes]:
    return dict(store.kv_scan("", 1_000, None, reverse=False).items)


def answer_to(
    store: Store, held: ClaimedRow, action: Action, *effects: Effect, yields_to_cancel: bool = False
) -> TaqubaError | Ongoing | None:
    settlement = Settlement(held.id, held.token, action, yields_to_cancel, effects)
    ((answer,), _) = store.settle_and_claim([settlement], [])
    return answer


def is_all_applied(store: Store) -> bool:
    return values(store) == {"put": b"new", "compared": b"new", "added": b"15"} and store.get("inserted") is not None


# -- of a program ------------------------------------------------------------------------------------------------------


def test_effects_of_a_program_are_applied_together(make_store: MakeStore) -> None:
    store, other = make_store(), make_store()
    prepared(store)
    assert store.commit_effects(ALL_OF_THEM) == [Inserted("inserted", True)]
    assert is_all_applied(other)


REFUSED: dict[str, tuple[tuple[Effect, ...], type[TaqubaError]]] = {
    "another value": ((ComparePut("compared", b"other", b"x"),), EffectConflictError),
    "no value": ((ComparePut("nothing", b"other", b"x"),), EffectConflictError),
    "a value": ((ComparePut("compared", None, b"x"),), EffectConflictError),
    "no integer": ((Add("compared", 1),), EffectConflictError),
    "a job of that id": ((Insert(job("other", id="there", id_given=True)),), DuplicateJobIdError),
    "an active run of other input": ((Insert(run("active", b"other")),), InputMismatchError),
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("is_last", [False, True])
def test_whatever_is_refused_nothing_is_written(store: Store, what: str, is_last: bool) -> None:
    prepared(store)
    put_one(store, "other", id="there")
    put_run(store, "active")
    before = values(store)
    refused, error = REFUSED[what]
    others = (Put("put", b"new"), Insert(job("other")))
    with writes_nothing(store), pytest.raises(error):
        store.commit_effects((*others, *refused) if is_last else (*refused, *others))
    assert values(store) == before


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_with_a_settlement_settles_nothing(store: Store, what: str) -> None:
    prepared(store)
    put_one(store, "other", id="there")
    put_run(store, "active", queue="runs")
    put_run(store)
    held = claim(store)
    before = values(store)
    refused, error = REFUSED[what]
    if what == "an active run of other input":
        refused = (Insert(run("active", b"other", queue="runs")),)
    with writes_nothing(store):
        assert isinstance(answer_to(store, held, Advance(b"next"), Put("put", b"x"), *refused), error)
    assert values(store) == before
    settle(store, held, Advance(b"next"))  # the claim is held as before


def test_an_effect_cannot_have_the_id_of_the_notification_that_comes_with_it(store: Store) -> None:
    subscribe(store)
    job_id = put_run(store)
    held = claim(store)
    taken = Insert(job("other", id=f"{job_id}-1", id_given=True))
    with writes_nothing(store):
        answer = answer_to(store, held, Ack(), Put("key", b"value"), taken)
    assert isinstance(answer, DuplicateJobIdError) and f"{job_id}-1" in str(answer)
    assert answer_to(store, held, Ack(), Insert(job("other", id=f"{job_id}-2", id_given=True))) is None
    assert claim(store, queue=LANE).id == f"{job_id}-1"


def test_where_no_notification_comes_its_id_is_one_like_any_other(store: Store) -> None:
    job_id = put_run(store)
    taken = Insert(job("other", id=f"{job_id}-1", id_given=True))
    assert answer_to(store, claim(store), Ack(), taken) is None
    assert stored(store, f"{job_id}-1").status is JobStatus.PENDING


def test_a_refused_settlement_harms_no_other_of_its_call(store: Store) -> None:
    for name in ("one", "two", "three"):
        put_run(store, name)
    one, two, three = claims(store)
    settlements = [
        Settlement(one.id, one.token, Advance(b"next"), True, (ComparePut("key", None, b"one"),)),
        Settlement(two.id, two.token, Advance(b"next"), True, (ComparePut("key", None, b"two"),)),
        Settlement(three.id, three.token, Advance(b"next"), True),
    ]
    answers, claimed = store.settle_and_claim(settlements, [])
    assert [type(answer) for answer in answers] == [type(None), EffectConflictError, type(None)]
    assert [stored(store, each.id).step for each in (one, two, three)] == [1, 0, 1]
    assert values(store) == {"key": b"one"}
    assert claimed == []


@pytest.mark.parametrize(
    ("before", "delta", "after"),
    [(None, 3, b"3"), (b"0", -1, b"-1"), (b"-5", 5, b"0"), (b"+7", 1, b"8"), (b"007", 1, b"8"),
     (b"9" * 30, 1, b"1" + b"0" * 30), (None, -(2**63), b"-9223372036854775808")],
)  # fmt: skip
def test_an_integer_is_kept_as_decimal_text(store: Store, before: bytes | None, delta: int, after: bytes) -> None:
    if before is not None:
        store.kv_put("key", before, None)
    store.commit_effects([Add("key", delta)])
    assert store.kv_get("key") == after


@pytest.mark.parametrize(
    "value", [b"", b" 1", b"1.0", b"1e3", b"one", b"1_000", b"--1", b"\xd9\xa1", b"1" * 4_001, b"1\n"]
)
def test_an_add_to_what_is_no_integer_is_refused_for_good(store: Store, value: bytes) -> None:
    store.kv_put("key", value, None)
    with pytest.raises(EffectConflictError) as caught:
        store.commit_effects([Add("key", 1)])
    assert caught.value.is_permanent
    assert store.kv_get("key") == value


def test_an_add_leaves_the_time_to_live_alone(store: Store, clock: ManualClock) -> None:
    store.kv_put("key", b"1", 1_000)
    store.commit_effects([Add("key", 1)])
    assert store.kv_get("key") == b"2"
    clock.advance(1)
    assert store.kv_get("key") is None
    store.commit_effects([Add("key", 1)])  # what has expired is nothing, and its end is over
    clock.advance(1_000)
    assert store.kv_get("key") == b"1"


def test_an_expired_value_is_nothing_to_an_expectation(store: Store, clock: ManualClock) -> None:
    store.kv_put("key", b"old", 1_000)
    clock.advance(1)
    with pytest.raises(EffectConflictError):
        store.commit_effects([ComparePut("key", b"old", b"new")])
    store.commit_effects([ComparePut("key", None, b"new")])
    clock.advance(1_000)
    assert store.kv_get("key") == b"new"


def test_a_put_lives_for_so_long_from_its_commit_on(store: Store, clock: ManualClock) -> None:
    store.commit_effects([Put("key", b"value", 1_000)])
    clock.advance(0.999)
    assert store.kv_get("key") == b"value"
    clock.advance(0.001)
    assert store.kv_get("key") is None


def test_a_held_dedup_key_enqueues_nothing(store: Store) -> None:
    holder = put_one(store, "other", dedup_key="k")
    (answer,) = store.commit_effects([Insert(job("other", dedup_key="k", id_given=True)), Put("key", b"value")])
    assert answer == Inserted(holder, False)
    assert (counts_of(store, "other").pending, store.kv_get("key")) == (1, b"value")


def test_effects_of_a_submission_are_applied_if_it_is_new(store: Store) -> None:
    once = (Put("key", b"value"), Insert(job("other")))
    (first,) = store.commit_effects([Insert(run("r"), once)])
    assert first.is_new and store.kv_get("key") == b"value"
    store.kv_delete("key")
    assert store.commit_effects([Insert(run("r"), once)]) == [Inserted(first.job_id, False)]
    assert store.kv_get("key") is None and counts_of(store, "other").pending == 1


def test_several_submissions_apply_theirs_one_after_the_other(store: Store) -> None:
    store.commit_effects([Insert(run(f"r{number}"), (Add("submitted", 1),)) for number in range(3)])
    assert store.kv_get("submitted") == b"3"
    with writes_nothing(store), pytest.raises(EffectConflictError):
        store.commit_effects([Insert(run(f"s{number}"), (ComparePut("one", None, b"x"),)) for number in range(2)])
    assert store.kv_get("one") is None


# -- of a step ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ACTIONS)
def test_effects_are_applied_with_whatever_ends_the_claim(store: Store, name: str) -> None:
    prepared(store)
    put_run(store)
    assert answer_to(store, claim(store), ACTIONS[name], *ALL_OF_THEM) is None
    assert is_all_applied(store)


def test_effects_are_applied_with_a_claim_that_is_held_on(store: Store) -> None:
    prepared(store)
    put_run(store)
    held = claim(store)
    settlement = holding(store, held)._replace(effects=ALL_OF_THEM)
    assert store.settle_and_claim([settlement], []) == ([Ongoing.HELD], [])
    assert is_all_applied(store)


def test_a_settlement_that_is_told_again_applies_its_effects_once(store: Store) -> None:
    put_run(store, "held")
    held = claim(store)
    put_run(store, "settled")
    settled = claim(store)
    hold = holding(store, held, room=5)._replace(effects=(Add("holds", 1),))
    ack = Settlement(settled.id, settled.token, Ack(), True, (Add("acks", 1),))
    for answers in ([Ongoing.HELD, None], [Ongoing.HELD, ClaimLostError]):
        found, _ = store.settle_and_claim([hold, ack], [])
        assert [type(each) if isinstance(each, TaqubaError) else each for each in found] == answers
    assert values(store) == {"holds": b"1", "acks": b"1"}


def test_a_zombie_applies_nothing_and_is_told_of_its_loss_first(store: Store) -> None:
    put_run(store)
    zombie = claim(store)
    settle(store, zombie, Nack("boom"))
    claim(store)
    for effect in (Put("key", b"value"), ComparePut("key", b"other", b"value")):
        with writes_nothing(store):
            assert isinstance(answer_to(store, zombie, Ack(), effect), ClaimLostError)
    assert values(store) == {}


def test_a_requested_cancellation_is_told_before_a_conflict_and_drops_the_effects(store: Store) -> None:
    put_run(store)
    held = claim(store)
    store.cancel(held.id)
    for effect in (Put("key", b"value"), ComparePut("key", b"other", b"value")):
        answer = answer_to(store, held, Ack(), effect, yields_to_cancel=True)
        assert isinstance(answer, CancelRequestedError)
    assert values(store) == {}


ENDINGS: dict[str, Action] = {
    "success": Ack(result=b"x"),
    "failure": Ack(Verdict.FAILED, None, "no"),
    "cancellation": SettleCancelled("enough"),
    "dead letter": DeadLetter("broken"),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_a_run_that_ends_may_submit_its_own_name(store: Store, name: str) -> None:
    first = put_run(store, "r", payload=b"input")
    held = claim(store)
    again = run("r", b"other", if_finished=IfFinished.RERUN)
    assert answer_to(store, held, ENDINGS[name], Insert(again)) is None
    assert stored(store, first).status.is_finished
    assert (stored(store, again.id).status, stored(store, again.id).payload) == (JobStatus.PENDING, b"other")
    found = store.find_run(QUEUE, "r")
    assert found is not None and found.id == again.id


@pytest.mark.parametrize("name", ENDINGS)
def test_a_run_that_ends_and_is_kept_answers_for_its_own_name(store: Store, name: str) -> None:
    put_run(store, "r", payload=b"input")
    held = claim(store)
    with writes_nothing(store):
        assert isinstance(answer_to(store, held, ENDINGS[name], Insert(run("r", b"other"))), InputMismatchError)
    assert answer_to(store, held, ENDINGS[name], Insert(run("r", b"input")), Put("key", b"")) is None
    assert counts_of(store).pending == 0 and store.kv_get("key") == b""


@pytest.mark.parametrize("name", ENDINGS)
def test_only_what_failed_is_rerun_as_failed(store: Store, name: str) -> None:
    put_run(store, "r", payload=b"input")
    again = run("r", b"input", if_finished=IfFinished.RERUN_FAILED)
    assert answer_to(store, claim(store), ENDINGS[name], Insert(again)) is None
    assert counts_of(store).pending == (name in ("failure", "dead letter"))


def test_a_run_that_is_not_kept_frees_its_name_with_its_end(store: Store) -> None:
    put_run(store, "r", payload=b"input", keep_done_ms=None)
    assert answer_to(store, claim(store), Ack(), Insert(run("r", b"other"))) is None
    assert counts_of(store).pending == 1


def test_a_run_that_goes_on_holds_its_own_name(store: Store) -> None:
    put_run(store, "r", payload=b"input")
    held = claim(store)
    assert isinstance(answer_to(store, held, Advance(b""), Insert(run("r", b"other"))), InputMismatchError)
    assert answer_to(store, held, Advance(b""), Insert(run("r", b"input"), (Put("key", b""),))) is None
    assert store.kv_get("key") is None and counts_of(store).pending == 1


def test_a_notification_is_acked_with_its_effects(store: Store) -> None:
    subscribe(store)
    put_run(store)
    settle(store, claim(store), Ack())
    told = claim(store, queue=LANE)
    assert answer_to(store, told, Ack(), Add("told", 1)) is None
    assert store.kv_get("told") == b"1"
    assert isinstance(answer_to(store, told, Ack(), Add("told", 1)), ClaimLostError)


# -- refusals ----------------------------------------------------------------------------------------------------------


def refuse(store: Store, held: ClaimedRow, *, put_back: bool = True) -> int:
    """Have a claim's effects be refused, and put it back; returns how often in a row it was refused before."""
    answer = answer_to(store, held, Ack(), ComparePut("refused", b"never", b""))
    assert isinstance(answer, EffectConflictError) and not answer.is_permanent
    if put_back:
        settle(store, held, PutBack(0, "refused", is_refusal=True))
    return answer.refusals


def test_refusals_in_a_row_are_counted_with_the_row(make_store: MakeStore) -> None:
    store = make_store()
    put_run(store)
    assert [refuse(store, claim(store)) for _ in range(3)] == [0, 1, 2]
    store.close()
    again = make_store()
    held = claim(again)
    assert (refuse(again, held), held.attempts) == (3, 1)
    assert {each.outcome for each in again.history(held.id)} == {AttemptOutcome.PUT_BACK}


def test_each_row_has_a_count_of_refusals_of_its_own(store: Store) -> None:
    for name in ("one", "two", "three"):
        put_run(store, name)
    one, two, three = claims(store)
    assert (refuse(store, one), refuse(store, two)) == (0, 0)
    one, two = claims(store)
    assert (refuse(store, one), refuse(store, three), refuse(store, two, put_back=False)) == (1, 0, 1)
    settle(store, two, Nack("boom"))  # ends the row of one of them
    assert [refuse(store, held) for held in sorted(claims(store), key=lambda held: held.id)] == [2, 0, 1]
    one, two, three = sorted(claims(store), key=lambda held: held.id)
    settle(store, three, Ack())
    assert (refuse(store, one), refuse(store, two)) == (3, 1)


RESETTING: dict[str, Action] = {
    "advance": Advance(b"next"),
    "nack": Nack("boom"),
}


@pytest.mark.parametrize("name", RESETTING)
def test_what_ends_a_claim_otherwise_ends_the_row_of_refusals(store: Store, name: str) -> None:
    put_run(store)
    assert [refuse(store, claim(store)) for _ in range(2)] == [0, 1]
    settle(store, claim(store), RESETTING[name])
    assert refuse(store, claim(store)) == 0


def test_a_claim_that_is_held_on_ends_the_row_of_refusals(store: Store) -> None:
    put_run(store)
    refuse(store, claim(store))
    settlement = holding(store, claim(store))
    store.settle_and_claim([settlement], [])
    following = claim_of(store)
    assert refuse(store, following) == 0


def claim_of(store: Store) -> ClaimedRow:
    """The claim that this handle holds, as far as a settlement needs it."""
    (running,) = store.running()
    return ClaimedRow(running.job_id, running.token, *[None] * 16)  # type: ignore[arg-type]  # nothing else is looked at


def test_a_release_keeps_the_count_of_refusals(store: Store) -> None:
    put_run(store)
    refuse(store, claim(store))
    settle(store, claim(store), Release())
    assert refuse(store, claim(store)) == 1


def test_a_step_put_back_for_another_reason_was_not_refused(store: Store) -> None:
    put_run(store)
    refuse(store, claim(store))
    settle(store, claim(store), PutBack(0, "not now"))
    assert refuse(store, claim(store)) == 1


@pytest.mark.parametrize("action", [DeadLetter("broken"), Ack(Verdict.FAILED, None, "no")])
def test_a_retry_begins_to_count_anew(store: Store, action: Action) -> None:
    job_id = put_run(store)
    refuse(store, claim(store))
    settle(store, claim(store), action)
    store.requeue(job_id, failed_run=True)
    assert refuse(store, claim(store)) == 0


def test_a_refused_step_is_waited_for_like_a_retry(store: Store) -> None:
    put_run(store)
    settle(store, claim(store), PutBack(50, "refused", is_retry=True, is_refusal=True))
    assert store.next_work(QUEUE, retries_only=True) == DueIn(50)
    assert stored(store, store.find_run(QUEUE, "r").id).attempts == 0  # type: ignore[union-attr]  # it is there


def test_one_put_back_for_another_reason_is_not(store: Store, clock: ManualClock) -> None:
    put_run(store)
    settle(store, claim(store), PutBack(50, "not now"))
    assert store.next_work(QUEUE, retries_only=True) is None
    clock.advance(1)
    assert store.next_work(QUEUE) == Ready()


def test_a_refused_run_that_is_swept_leaves_nothing(store: Store, clock: ManualClock) -> None:
    job_id = put_run(store)
    refuse(store, claim(store))
    store.cancel(job_id)
    clock.advance(KEEP_MS / 1000 + 1)
    while store.sweep():
        pass
    assert store.get(job_id) is None


def test_a_refused_step_that_has_ended_well_is_no_retry_any_more(store: Store) -> None:
    put_run(store)
    refuse(store, claim(store))
    settle(store, claim(store), Advance(b"next", delay_ms=50))
    assert store.next_work(QUEUE, retries_only=True) is None


def test_a_refused_bare_job_that_is_done_leaves_nothing(store: Store) -> None:
    job_id = put_one(store)
    refuse(store, claim(store))
    settle(store, claim(store), Ack())
    assert store.get(job_id) is None


def test_many_steps_of_one_counter_end_each_once(store: Store) -> None:
    many: list[Any] = [put_run(store, f"r{number}") for number in range(20)]
    ended = 0
    while rows := claims(store):
        seen = store.kv_get("count")
        effects = (ComparePut("count", seen, b"%d" % (int(seen or 0) + 1)),)
        answers, _ = store.settle_and_claim([Settlement(r.id, r.token, Ack(), True, effects) for r in rows], [])
        ended += answers.count(None)
        for row, answer in zip(rows, answers, strict=True):
            if answer is not None:
                settle(store, row, PutBack(0, "refused", is_refusal=True))
    assert ended == len(many) and store.kv_get("count") == b"%d" % len(many)
