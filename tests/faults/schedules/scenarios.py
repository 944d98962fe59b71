"""What races what: each scenario by name, as its preparation and the operations of its actors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from taquba_workflow_sync.clock import to_ms
from taquba_workflow_sync.errors import CancelRequestedError, TaqubaError
from taquba_workflow_sync.storage.embedded.presence import Evidence
from taquba_workflow_sync.storage.embedded.sql import names
from taquba_workflow_sync.storage.embedded.sql.upgrade import OLD_NAMES_1
from taquba_workflow_sync.storage.port.cancellation import Cancellation, CancelOutcome
from taquba_workflow_sync.storage.port.claim import ClaimedRow, LaneClaim
from taquba_workflow_sync.storage.port.job import Inserted
from taquba_workflow_sync.storage.port.run import IfFinished
from taquba_workflow_sync.storage.port.settlement import (
    Ack,
    Action,
    Advance,
    DeadLetter,
    Nack,
    Release,
    SettleCancelled,
)
from taquba_workflow_sync.storage.port.status import Verdict
from taquba_workflow_sync.workflow.spec import RunSpec
from tests.storage import bench
from tests.storage.bench import LANE, LEASE_MS, QUEUE, subscribe

from .explorer import Operation, Scenario, World
from .instruments import connect_unseen

_LEASE_S: Final = LEASE_MS / 1000


# -- preparations -----------------------------------------------------------------------------------------------------


def _claimed_run(world: World, *, by: str = "a", is_bare: bool = False, **fields: Any) -> None:
    """A run whose end is told of, claimed by a handle."""
    store = world.stores[by]
    subscribe(store)
    store.insert([_run("J1", **fields)])
    world.known["held"] = bench.claim(store, is_bare=is_bare)


def _run(job_id: str, run_id: str = "r", **fields: Any) -> Any:
    return replace(bench.run(run_id, **fields), id=job_id)


def _overdue(world: World) -> None:
    """A claim of the living handle ``a`` that ``b`` has watched for long enough to take it over."""
    _claimed_run(world)
    world.clock.advance(_LEASE_S + 1)
    # In short steps: one long gap between two looks does not count as having watched.
    for _ in range(12):
        world.stores["b"].abandoned_claims()
        world.instruments.monotonic_now += _LEASE_S


def _of_the_dead(world: World, **fields: Any) -> None:
    """A claim whose owner died: its lock file is there, its lock is free."""
    dead = world.open("dead")
    _claimed_run(world, by="dead", **fields)
    del world.stores["dead"]
    dead.close()


def _failed_run(world: World) -> None:
    _claimed_run(world)
    bench.settle(world.stores["a"], world.known["held"], DeadLetter("broken"))


def _waiting_run(world: World) -> None:
    subscribe(world.stores["a"])
    world.stores["a"].insert([_run("J1")])


# -- operations -------------------------------------------------------------------------------------------------------


def _settle(action: Action, name: str = "a", held: str = "held") -> Operation:
    return lambda world: bench.settle(world.stores[name], world.known[held], action)


def _conclude(action: Action, name: str = "a") -> Operation:
    """What a runtime does at the end of a step: a requested cancellation goes first."""

    return lambda world: _conclude_one(world, name, world.known["held"], action)


def _conclude_one(world: World, name: str, held: ClaimedRow, action: Action) -> str:
    try:
        bench.settle(world.stores[name], held, action, yields_to_cancel=True)
    except CancelRequestedError:
        bench.settle(world.stores[name], held, SettleCancelled())
        return "cancelled"
    return "concluded"


def _hold(name: str = "a", *, tries: int = 1, **leave: Any) -> Operation:
    """What a runtime does at the end of a step that continues: it would go on, and says again what it was not told."""

    def act(world: World) -> str:
        store, held = world.stores[name], world.known["held"]
        settlement = bench.holding(store, held, **leave)
        for _ in range(tries):
            ((answer,), _) = store.settle_and_claim([settlement], ())
        if isinstance(answer, CancelRequestedError):
            bench.settle(store, held, SettleCancelled())
            return "cancelled"
        if isinstance(answer, TaqubaError):
            raise answer
        if answer is None:
            return "let go of"
        assert settlement.leave is not None
        world.passed[name] = held._replace(token=settlement.leave.token, step=held.step + 1, attempts=1)
        return "held"

    return act


def _end_held(action: Action, name: str = "a") -> Operation:
    """The end of the step after, under the token that the claim has then."""
    return lambda world: _conclude_one(world, name, world.passed.get(name, world.known["held"]), action)


def _find_abandoned(name: str) -> Operation:
    """Look who has died: what was found is what the actor's next claim is told."""

    def find(world: World) -> None:
        world.passed[name] = world.stores[name].abandoned_claims()

    return find


def _find_nothing(_: World) -> None:
    """A look that met another's probe of the same lock, and took it for the owner: the next look finds the death."""


def _claim(name: str, *, is_bare: bool = False, queue: str = QUEUE, limit: int = 1) -> Operation:
    """Claim with what the actor found abandoned before."""
    return lambda world: bench.claims(
        world.stores[name],
        limit,
        queue=queue,
        is_bare=is_bare,
        abandoned=world.passed.get(name),
        never_reap=world.running,
    )


def _cancel(name: str) -> Operation:
    return lambda world: world.client(name).cancel("r")


def _cancel_and_tell(name: str, job_id: str = "J1") -> Operation:
    """As a runtime with a hook cancels: the notification comes back claimed."""
    return lambda world: world.stores[name].cancel(job_id, never_reap=world.running, deliver=LaneClaim(LANE, LEASE_MS))


def _retry(name: str) -> Operation:
    return lambda world: world.client(name).retry("r")


def _requeue(name: str, job_id: str = "J1", *, failed_run: bool = False) -> Operation:
    return lambda world: world.stores[name].requeue(job_id, failed_run=failed_run)


def _submit(name: str, if_finished: IfFinished = IfFinished.KEEP) -> Operation:
    def submit(world: World) -> Inserted:
        handle = world.client(name).submit(RunSpec(run_id="r", input=b"input", if_finished=if_finished))
        return Inserted(handle.first_job_id, handle.newly_submitted)

    return submit


def _sweep(name: str) -> Operation:
    return lambda world: world.stores[name].sweep()


def _renew(name: str) -> Operation:
    """Renew, and answer until when; a claim that is lost has no such time."""

    def renew(world: World) -> int | None:
        until, renewed = world.stores[name].renew([world.known["held"].token], LEASE_MS)
        return until if renewed else None

    return renew


def _put(name: str, job_id: str, **fields: Any) -> Operation:
    return lambda world: world.stores[name].insert([bench.job(id=job_id, **fields)])[0]


def _put_named(name: str, job_id: str) -> Operation:
    """Under an id that the caller chose, which may be taken."""
    return _put(name, job_id, id_given=True)


def _take(name: str, queue: str) -> Operation:
    def take(world: World) -> list[Any]:
        world.passed[f"{name} has"] = rows = bench.claims(world.stores[name], 1, queue=queue, never_reap=world.running)
        return rows

    return take


def _finish(name: str, action: Action) -> Operation:
    def finish(world: World) -> list[str]:
        return [_conclude_one(world, name, row, action) for row in world.passed[f"{name} has"]]

    return finish


def _open(name: str, **options: Any) -> Operation:
    def open_one(world: World) -> str:
        world.open(name, **options)
        return "opened"

    return open_one


def _close(name: str) -> Operation:
    def close(world: World) -> str:
        world.stores[name].close()
        return "closed"

    return close


def _stop_running(world: World) -> None:
    world.running.discard(world.known["held"].token)


# -- who may win ------------------------------------------------------------------------------------------------------

Answers = Mapping[str, tuple[Any, ...]]
Rule = Callable[[Answers], bool]


def _anything(_: Answers) -> bool:
    return True


def _one_won(answers: Answers) -> bool:
    """Exactly one actor did what all of them were to do."""
    return sum(has_won(each[0]) for each in answers.values()) == 1


def has_won(answer: Any) -> bool:
    """Whether an answer says that something was done."""
    if isinstance(answer, Inserted):
        return answer.is_new
    if isinstance(answer, str):
        return not answer.endswith("Error")
    if isinstance(answer, Cancellation):
        return answer.outcome is CancelOutcome.REMOVED
    return answer is None or answer is True or (isinstance(answer, (int, tuple)) and bool(answer))


def _settled_or_reaped(answers: Answers) -> bool:
    """The claim ended once: whoever got the job back because of its lease, the other was refused."""
    reaped = [row for row in answers["b"][-1] if row.last_error is not None and "lease" in row.last_error]
    return bool(reaped) == (answers["a"][-1] == "ClaimLostError")


def _never_reaped(answers: Answers) -> bool:
    return answers["a"][0] is None and all(row.step == 0 and row.attempts == 1 for row in answers["b"][0])


def _renewed_is_spared(answers: Answers) -> bool:
    """Who was told that the claim is renewed still has it."""
    return answers["a"][0] is None or answers["a"][1] is None


def _first_is_refused(answers: Answers) -> bool:
    return has_error(answers["a"][0]) and answers["b"] == (None,)


def _ended_once(answers: Answers) -> bool:
    """The run was cancelled if and only if the cancel said so."""
    return answers["a"][-1] == ("cancelled" if answers["b"][0] else "concluded")


def _cancel_is_kept(answers: Answers) -> bool:
    return answers["b"] == (True,)


def _never_both(answers: Answers) -> bool:
    """No job was claimed by both."""
    ids = [row.id for each in answers.values() for row in each[-1] if isinstance(row, ClaimedRow)]
    return len(ids) == len(set(ids))


def _all_opened(answers: Answers) -> bool:
    return all(not has_error(answer) for each in answers.values() for answer in each)


def has_error(answer: Any) -> bool:
    return isinstance(answer, str) and answer.endswith("Error")


# -- the scenarios ----------------------------------------------------------------------------------------------------


def _bare_and_over(world: World) -> None:
    _claimed_run(world, is_bare=True)
    world.clock.advance(_LEASE_S + 1)


def _runs_here(world: World) -> None:
    _claimed_run(world)
    world.running.tokens.add(world.known["held"].token)


def _expired_dead_job(world: World) -> None:
    store = world.stores["a"]
    store.insert([bench.job(id="J1", keep_dead_ms=1_000, payload=b"x" * 5_000)])
    bench.settle(store, bench.claim(store), DeadLetter("broken"))
    world.clock.advance(2)


def _expired_failed_run(world: World) -> None:
    _failed_run(world)
    world.clock.advance(bench.KEEP_MS / 1000 + 1)


def _ended_and_told(world: World) -> None:
    """A failed run whose notification nobody has taken yet."""
    _failed_run(world)


def _due(world: World) -> None:
    store = world.stores["a"]
    store.insert([_run("J1", run_at_ms=to_ms(world.clock.now()) + 1_000)])
    world.clock.advance(2)


def _two_jobs(world: World) -> None:
    world.stores["a"].insert([bench.job(id="J1"), bench.job(id="J2")])


def _suspect(world: World) -> None:
    held = world.known["held"]
    world.passed["b"] = Evidence(tokens={held.token: held.lease_until_ms})


def _suspect_owner(world: World) -> None:
    world.passed["b"] = Evidence(owners=frozenset({world.stores["a"]._lifecycle.owner.id}))


SETTLE_VS_REAP: Final = (
    Scenario(
        "settle vs reap of an owner's step that runs in this process",
        _runs_here,
        {"a": [_settle(Ack(result=b"x")), _stop_running], "b": [_claim("b")]},
        begin=_suspect_owner,
        rule=_never_reaped,
    ),
    Scenario(
        "settle vs reap of a bare claim",
        _bare_and_over,
        {"a": [_settle(Ack(result=b"x"))], "b": [_claim("b", is_bare=True)]},
        rule=_settled_or_reaped,
    ),
    Scenario(
        "settle vs reap of a claim watched for ten leases",
        _overdue,
        {"a": [_settle(Ack(result=b"x"))], "b": [_find_abandoned("b"), _claim("b")]},
        rule=_settled_or_reaped,
    ),
    Scenario(
        "settle vs reap of a step that runs in this process",
        _runs_here,
        {"a": [_settle(Ack(result=b"x")), _stop_running], "b": [_claim("b")]},
        begin=_suspect,
        rule=_never_reaped,
    ),
    Scenario(
        "nack vs reap",
        _bare_and_over,
        {"a": [_settle(Nack("boom"))], "b": [_claim("b", is_bare=True)]},
        rule=_settled_or_reaped,
    ),
    Scenario(
        "advance vs reap",
        _overdue,
        {"a": [_conclude(Advance(b"y" * 5_000))], "b": [_find_abandoned("b"), _claim("b")]},
        rule=_settled_or_reaped,
    ),
)
SETTLE_VS_CANCEL: Final = (
    Scenario(
        "settle vs cancel", _claimed_run, {"a": [_conclude(Ack(result=b"x"))], "b": [_cancel("b")]}, rule=_ended_once
    ),
    Scenario(
        "failure vs cancel",
        _claimed_run,
        {"a": [_conclude(Ack(Verdict.FAILED, None, "no"))], "b": [_cancel("b")]},
        rule=_ended_once,
    ),
    Scenario(
        "nack vs cancel",
        _claimed_run,
        {"a": [_settle(Nack("boom", 5_000))], "b": [_cancel("b")]},
        rule=_cancel_is_kept,
    ),
    Scenario("dead letter vs cancel", _claimed_run, {"a": [_settle(DeadLetter("broken"))], "b": [_cancel("b")]}),
)
ADVANCE_VS_CANCEL: Final = (
    Scenario(
        "advance vs cancel",
        _claimed_run,
        {"a": [_conclude(Advance(b"next"))], "b": [_cancel("b")]},
        rule=_cancel_is_kept,
    ),
    Scenario(
        "advance with wide parts vs cancel",
        lambda world: _claimed_run(world, payload=b"z" * 3_000),
        {"a": [_conclude(Advance(b"y" * 5_000, headers='{"a":"b"}'))], "b": [_cancel("b")]},
        rule=_cancel_is_kept,
    ),
    Scenario(
        "two advances and a cancel",
        _claimed_run,
        {"a": [_conclude(Advance(b"next")), _take("a", QUEUE), _finish("a", Ack())], "b": [_cancel("b")]},
    ),
)
HOLD: Final = (
    Scenario("hold vs cancel", _claimed_run, {"a": [_hold()], "b": [_cancel("b")]}, rule=_cancel_is_kept),
    Scenario(
        "hold of a large row vs cancel",
        lambda world: _claimed_run(world, payload=b"z" * 3_000),
        {"a": [_hold(payload=b"y" * 3_000)], "b": [_cancel("b")]},
        rule=_cancel_is_kept,
    ),
    Scenario(
        "a hold that is tried again vs cancel",
        _claimed_run,
        {"a": [_hold(tries=2), _end_held(Ack())], "b": [_cancel("b")]},
    ),
    Scenario(
        "hold vs reap",
        _overdue,
        {"a": [_hold(), _end_held(Ack(result=b"x"))], "b": [_find_abandoned("b"), _claim("b")]},
        rule=_settled_or_reaped,
    ),
    Scenario(
        "hold vs renew of the claim before",
        _claimed_run,
        {"a": [_hold(), _end_held(Ack())], "b": [_renew("b")]},
    ),
    Scenario(
        "hold vs what comes to wait",
        _claimed_run,
        {"a": [_hold(), _take("a", QUEUE)], "b": [_put("b", "J2"), _claim("b")]},
        rule=_never_both,
    ),
)
CANCEL_VS_CANCEL: Final = (
    Scenario(
        "cancel vs cancel of a waiting run",
        _waiting_run,
        {"a": [_cancel_and_tell("a")], "b": [_cancel_and_tell("b")]},
        rule=_one_won,
    ),
    Scenario(
        "cancel vs cancel of a running step",
        _claimed_run,
        {"a": [_cancel("a")], "b": [_cancel("b")]},
        rule=_cancel_is_kept,
    ),
    Scenario(
        "cancel vs cancel of a dead owner's claim",
        _of_the_dead,
        {"a": [_cancel("a")], "b": [_cancel("b")]},
        rule=_one_won,
    ),
)
RETRY_VS_SUBMIT: Final = (
    Scenario(
        "retry vs submit",
        _failed_run,
        {"a": [_retry("a")], "b": [_submit("b", IfFinished.RERUN_FAILED)]},
        rule=_one_won,
    ),
    Scenario("retry vs submit that keeps", _failed_run, {"a": [_retry("a")], "b": [_submit("b")]}),
    Scenario("retry vs retry", _failed_run, {"a": [_retry("a")], "b": [_retry("b")]}, rule=_one_won),
    Scenario(
        "requeue of an old life vs submit",
        _failed_run,
        {"a": [_requeue("a")], "b": [_submit("b", IfFinished.RERUN_FAILED)]},
        rule=_one_won,
    ),
)
REQUEUE_VS_SWEEP: Final = (
    Scenario("requeue vs sweep", _expired_dead_job, {"a": [_requeue("a")], "b": [_sweep("b")]}, rule=_one_won),
    Scenario("requeue of a run vs sweep", _expired_failed_run, {"a": [_requeue("a")], "b": [_sweep("b")]}),
    Scenario("submit vs sweep of the run's last life", _expired_failed_run, {"a": [_submit("a")], "b": [_sweep("b")]}),
)
NOTIFICATION_VS_RESUBMIT: Final = (
    Scenario(
        "notification vs resubmit",
        _ended_and_told,
        {
            "a": [_take("a", LANE), _finish("a", Ack())],
            "b": [_submit("b", IfFinished.RERUN_FAILED), _take("b", QUEUE), _finish("b", Ack(result=b"y"))],
        },
    ),
    Scenario(
        "notification vs retry",
        _ended_and_told,
        {
            "a": [_take("a", LANE), _finish("a", Ack())],
            "b": [_retry("b"), _take("b", QUEUE), _finish("b", DeadLetter("again"))],
        },
    ),
)
OTHERS: Final = (
    Scenario("claim vs claim", _two_jobs, {"a": [_claim("a")], "b": [_claim("b", limit=2)]}, rule=_never_both),
    Scenario("claim vs cancel", _waiting_run, {"a": [_claim("a")], "b": [_cancel("b")]}, rule=_cancel_is_kept),
    Scenario(
        "renew vs reap",
        _overdue,
        {"a": [_renew("a"), _settle(Ack())], "b": [_find_abandoned("b"), _claim("b")]},
        rule=_renewed_is_spared,
    ),
    Scenario(
        "claim vs the end of a bare lease",
        lambda world: _claimed_run(world, is_bare=True),
        {"a": [_renew("a")], "b": [_claim("b", is_bare=True)], "c": [lambda world: world.clock.advance(_LEASE_S)]},
    ),
    Scenario("release vs cancel", _claimed_run, {"a": [_settle(Release())], "b": [_cancel("b")]}, rule=_cancel_is_kept),
    Scenario(
        "reap vs reap",
        _of_the_dead,
        {"a": [_find_abandoned("a"), _claim("a")], "b": [_find_abandoned("b"), _claim("b")]},
        as_good=(
            {"a": [_find_nothing, _claim("a")], "b": [_find_abandoned("b"), _claim("b")]},
            {"a": [_find_abandoned("a"), _claim("a")], "b": [_find_nothing, _claim("b")]},
        ),
        rule=_never_both,
    ),
    Scenario(
        "reap vs cancel of a dead owner's claim",
        _of_the_dead,
        {"a": [_find_abandoned("a"), _claim("a")], "b": [_cancel("b")]},
        as_good=({"a": [_find_nothing, _claim("a")], "b": [_cancel("b")]},),
    ),
    Scenario("submit vs submit", lambda _: None, {"a": [_submit("a")], "b": [_submit("b")]}, rule=_one_won),
    Scenario(
        "enqueue vs enqueue under one dedup key",
        lambda _: None,
        {"a": [_put("a", "JA", dedup_key="k")], "b": [_put("b", "JB", dedup_key="k")]},
        rule=_one_won,
    ),
    Scenario(
        "enqueue under a dedup key vs the claim that frees it",
        lambda world: _put("a", "J1", dedup_key="k")(world),
        {"a": [_claim("a")], "b": [_put("b", "JB", dedup_key="k")]},
    ),
    Scenario(
        "settle vs settle of one claim",
        _claimed_run,
        {"a": [_settle(Ack(result=b"x"))], "b": [_settle(Nack("boom"), name="b")]},
        rule=_one_won,
    ),
    Scenario("promotion vs promotion", _due, {"a": [_claim("a")], "b": [_claim("b")]}, rule=_never_both),
)


# -- one handle, two threads ------------------------------------------------------------------------------------------


def _two_claimed(world: World) -> None:
    world.stores["a"].insert([bench.job(id="J1"), bench.job(id="J2")])
    world.known["first"], world.known["second"] = bench.claims(world.stores["a"])


def _shared(
    name: str, prepare: Callable[[World], None], first: Operation, second: Operation, rule: Rule = _anything
) -> Scenario:
    actors = {"a": [first], "b": [second]}
    return Scenario(name, prepare, actors, handles=("a",), shares_commits=True, with_expiries=True, rule=rule)


def _settle_yielding(held: str, action: Action) -> Operation:
    def settle(world: World) -> None:
        bench.settle(world.stores["a"], world.known[held], action, yields_to_cancel=True)

    return settle


# These keep their places: a refused advance that went in bulk leaves a gap in the counter of places, and nothing else.
def _first_asked_to_cancel(world: World) -> None:
    _two_claimed(world)
    world.stores["a"].cancel("J1")


def _first_taken_over(world: World) -> None:
    """The first claim was abandoned, and its job claimed anew."""
    _two_claimed(world)
    lost = world.known["first"]
    bench.claim(world.stores["a"], abandoned=Evidence(tokens={lost.token: lost.lease_until_ms}))


GROUP_COMMIT: Final = (
    _shared(
        "group commit of two advances, one asked to cancel",
        _first_asked_to_cancel,
        _settle_yielding("first", Advance(b"x", keeps_place=True)),
        _settle_yielding("second", Advance(b"y", keeps_place=True)),
        rule=_first_is_refused,
    ),
    _shared(
        "group commit of two advances, one by a claim that was lost",
        _first_taken_over,
        _settle_yielding("first", Advance(b"x", keeps_place=True)),
        _settle_yielding("second", Advance(b"y", keeps_place=True)),
        rule=_first_is_refused,
    ),
    _shared("group commit of two inserts", lambda _: None, _put("a", "JA"), _put("a", "JB")),
    _shared(
        "group commit of two inserts of one id",
        lambda _: None,
        _put_named("a", "J1"),
        _put_named("a", "J1"),
        rule=_one_won,
    ),
    _shared(
        "group commit of two advances",
        _two_claimed,
        _settle_yielding("first", Advance(b"x")),
        _settle_yielding("second", Advance(b"y")),
    ),
    _shared(
        "group commit of an advance and another end of the same claim",
        _two_claimed,
        _settle_yielding("first", Advance(b"x")),
        _settle_yielding("first", Advance(b"y")),
        rule=_one_won,
    ),
    _shared("group commit of two claims", _two_jobs, _claim("a"), _claim("a"), rule=_never_both),
    _shared("group commit of a settlement and a cancel", _claimed_run, _conclude(Ack()), _cancel("a")),
)

# -- opening and closing ----------------------------------------------------------------------------------------------


def _no_store(_: World) -> None:
    """Not even a directory of its own."""


def _made(world: World) -> None:
    """A store with one job, closed."""
    world.open("p").insert([bench.job(id="J1")])


def _reset_by_diskcache(world: World) -> None:
    """A store whose settings another program put back to diskcache's own."""
    _made(world)
    world.stores.pop("p").close()
    _spoil(world, "UPDATE Settings SET value = 'least-recently-stored' WHERE key = 'eviction_policy'")
    _spoil(world, "UPDATE Settings SET value = 10 WHERE key = 'cull_limit'")


def _cut_short(world: World) -> None:
    """A store whose creation was interrupted: diskcache's tables are there, ours are not."""
    world.open("p").close()
    del world.stores["p"]
    for view in OLD_NAMES_1:
        _spoil(world, f"DROP VIEW {view}")
    for table in (names.ATTEMPT, names.JOB, names.OVERFLOW, names.QUEUE, names.META):
        _spoil(world, f"DROP TABLE {table}")


def _spoil(world: World, statement: str) -> None:
    connection = connect_unseen(world.directory / "store" / "db" / "cache.db")
    try:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute(statement)
    finally:
        connection.close()


def _fresh(
    name: str,
    prepare: Callable[[World], None],
    actors: dict[str, list[Operation]],
    begin: Callable[[World], None] = lambda _: None,
    rule: Rule = _anything,
) -> Scenario:
    return Scenario(name, prepare, actors, handles=(), begin=begin, rule=rule)


def _writer_of_a_spoilt_store(world: World) -> None:
    world.open("w").counts()
    _spoil(world, "UPDATE Settings SET value = 10 WHERE key = 'cull_limit'")


def _dead_without_claims(world: World) -> None:
    """A lock file that an owner without claims left behind, as a kill does."""
    _made(world)
    world.stores.pop("p").close()
    (world.directory / "store" / "owners" / "1-feed.lock").touch(mode=0o600)


OPEN_VS_OPEN: Final = (
    _fresh(
        "open vs open of nothing",
        _no_store,
        {"a": [_open("a"), _put("a", "JA")], "b": [_open("b"), _put("b", "JB")]},
        rule=_all_opened,
    ),
    _fresh(
        "open vs open of a store",
        _made,
        {"a": [_open("a"), _put("a", "JA")], "b": [_open("b"), _put("b", "JB")]},
        rule=_all_opened,
    ),
    _fresh(
        "open vs open with a dead owner's lock file to clear",
        _dead_without_claims,
        {"a": [_open("a")], "b": [_open("b")]},
        rule=_all_opened,
    ),
    _fresh("exclusive open vs open", _made, {"a": [_open("a", is_exclusive=True)], "b": [_open("b")]}, rule=_one_won),
    _fresh(
        "exclusive open vs exclusive open",
        _made,
        {"a": [_open("a", is_exclusive=True)], "b": [_open("b", is_exclusive=True)]},
        rule=_one_won,
    ),
)
OPEN_VS_CLOSE: Final = (
    _fresh(
        "open vs the last close",
        _made,
        {"a": [_put("c", "JA"), _close("c")], "b": [_open("b"), _put("b", "JB")]},
        begin=lambda world: world.open("c").counts() and None,
        rule=_all_opened,
    ),
    _fresh(
        "close vs a write on the same handle",
        _made,
        {"a": [_close("c")], "b": [_put("c", "JB")]},
        begin=lambda world: world.open("c").counts() and None,
    ),
    replace(
        _fresh(
            "close vs a write that a clerk commits",
            _made,
            {"a": [_close("c")], "b": [_put("c", "JB")]},
            begin=lambda world: world.open("c").counts() and None,
        ),
        shares_commits=True,
    ),
)
MIGRATE_VS_OPEN: Final = (
    _fresh(
        "completing a store cut short vs open",
        _cut_short,
        {"a": [_open("a")], "b": [_open("b"), _put("b", "JB")]},
        rule=_all_opened,
    ),
    _fresh(
        "mending the settings vs open",
        _reset_by_diskcache,
        {"a": [_open("a")], "b": [_open("b"), _put("b", "JB")]},
        rule=_all_opened,
    ),
    _fresh(
        "mending the settings vs a writer",
        _made,
        {"a": [_open("a")], "b": [_put("w", "JB"), _claim("w")]},
        begin=_writer_of_a_spoilt_store,
        rule=_all_opened,
    ),
)

NAMED: Final = {
    "settle vs reap": SETTLE_VS_REAP,
    "settle vs cancel": SETTLE_VS_CANCEL,
    "advance vs cancel": ADVANCE_VS_CANCEL,
    "hold": HOLD,
    "cancel vs cancel": CANCEL_VS_CANCEL,
    "retry vs submit": RETRY_VS_SUBMIT,
    "requeue vs sweep": REQUEUE_VS_SWEEP,
    "notification vs resubmit": NOTIFICATION_VS_RESUBMIT,
    "open vs open": OPEN_VS_OPEN,
    "open vs close": OPEN_VS_CLOSE,
    "migrate vs open": MIGRATE_VS_OPEN,
    "group commit": GROUP_COMMIT,
    "others": OTHERS,
}
EVERY_SCENARIO: Final = tuple(scenario for group in NAMED.values() for scenario in group)

# -- three at once ----------------------------------------------------------------------------------------------------

_THREE: Final = ("a", "b", "c")
WITH_THREE_ACTORS: Final = (
    Scenario(
        "settle vs reap vs cancel",
        _bare_and_over,
        {"a": [_settle(Ack(result=b"x"))], "b": [_claim("b", is_bare=True)], "c": [_cancel("c")]},
        handles=_THREE,
    ),
    Scenario(
        "advance vs cancel vs claim",
        _claimed_run,
        {"a": [_conclude(Advance(b"next"))], "b": [_cancel("b")], "c": [_claim("c")]},
        handles=_THREE,
    ),
    Scenario(
        "retry vs submit vs sweep",
        _expired_failed_run,
        {"a": [_requeue("a", failed_run=True)], "b": [_submit("b", IfFinished.RERUN)], "c": [_sweep("c")]},
        handles=_THREE,
    ),
    Scenario(
        "submit vs submit vs cancel",
        lambda _: None,
        {"a": [_submit("a")], "b": [_submit("b")], "c": [_cancel("c")]},
        handles=_THREE,
    ),
    Scenario(
        "group commit of three inserts",
        lambda _: None,
        {name: [_put("a", f"J{name}")] for name in _THREE},
        handles=("a",),
        shares_commits=True,
        with_expiries=True,
    ),
    Scenario(
        "three opens of nothing",
        _no_store,
        {name: [_open(name), _put(name, f"J{name}")] for name in _THREE},
        handles=(),
    ),
)
