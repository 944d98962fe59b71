"""What races what: each scenario by name, as its preparation and the operations of its actors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from taquba_workflow_sync.clock import to_ms
from taquba_workflow_sync.errors import CancelRequestedError, TaqubaError
from taquba_workflow_sync.storage.port.cancellation import Cancellation, CancelOutcome
from taquba_workflow_sync.storage.port.claim import ClaimedRow, LaneClaim
from taquba_workflow_sync.storage.port.effects import Add, ComparePut, Effect, Insert, Put
from taquba_workflow_sync.storage.port.group import NewGroup, OnFailure
from taquba_workflow_sync.storage.port.job import Inserted
from taquba_workflow_sync.storage.port.limit import Limit
from taquba_workflow_sync.storage.port.run import IfFinished
from taquba_workflow_sync.storage.port.schedule import Mark
from taquba_workflow_sync.storage.port.settlement import (
    Ack,
    Action,
    Advance,
    DeadLetter,
    Nack,
    PutBack,
    Release,
    SettleCancelled,
    Settlement,
)
from taquba_workflow_sync.storage.port.status import Verdict
from taquba_workflow_sync.storage.port.timing import LimitPassedError, TimeLimits
from taquba_workflow_sync.storage.port.wait import Wait, WaitKind
from taquba_workflow_sync.storage.relational.presence import Evidence
from taquba_workflow_sync.storage.relational.sql import features, names
from taquba_workflow_sync.storage.relational.sql.upgrade import OLD_NAMES
from taquba_workflow_sync.workflow.spec import RunSpec
from tests.storage import bench
from tests.storage.bench import LANE, LEASE_MS, QUEUE, subscribe

from .explorer import Operation, Scenario, World
from .instruments import connect_unseen

_WAIT: Final = Advance(b"next", wait=Wait(WaitKind.SIGNAL, "go", 60_000))
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


def _conclude_in_time(action: Action, name: str = "a") -> Operation:
    """What a runtime does at the end of a step: what a settlement yields to, a deadline too, is settled next."""

    def act(world: World) -> str:
        held = world.known["held"]
        settlement, said = Settlement(held.id, held.token, action, True), "concluded"
        while True:
            ((answer,), _) = world.stores[name].settle_and_claim([settlement], ())
            if isinstance(answer, LimitPassedError):
                settlement, said = (
                    Settlement(held.id, held.token, DeadLetter(str(answer)), True, ignores_deadline=True),
                    "late",
                )
            elif isinstance(answer, CancelRequestedError):
                settlement, said = Settlement(held.id, held.token, SettleCancelled()), "cancelled"
            elif isinstance(answer, TaqubaError):
                raise answer
            else:
                return said

    return act


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


def _put_run_of_the_firing(name: str) -> Operation:
    return lambda world: world.stores[name].insert([_run(f"J{name}", "s-20260101T000100Z")])[0]


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


def _send(name: str, id: str | None = None, *, submits: bool = False) -> Operation:
    def send(world: World) -> str:
        spec = RunSpec(input=b"input") if submits else None
        return str(world.client(name).signal("r", "go", b"yes", signal_id=id, submit=spec))

    return send


def _clear(name: str) -> Operation:
    return lambda world: world.client(name).clear_signals("r", "go")


def _wake(name: str) -> Operation:
    return lambda world: world.client(name).wake("r")


def _stop_running(world: World) -> None:
    world.running.discard(world.known["held"].token)


def _with_effects(action: Action, *effects: Effect, name: str = "a", held: str = "held") -> Operation:
    """The end of a step with effects."""

    def settle(world: World) -> str:
        store, row = world.stores[name], world.known[held]
        ((answer,), _) = store.settle_and_claim([Settlement(row.id, row.token, action, True, effects)], ())
        world.passed[name] = answer
        if isinstance(answer, TaqubaError):
            raise answer
        return "applied"

    return settle


def _after_refusal(name: str = "a", held: str = "held") -> Operation:
    """What a runtime settles instead: as cancelled if asked to, put back if the effects were refused."""

    def settle(world: World) -> str:
        refusal = world.passed.get(name)
        if refusal is None:
            return "applied before"
        other: Action = PutBack(50, "refused", is_refusal=True)
        if isinstance(refusal, CancelRequestedError):
            other = SettleCancelled()
        world.passed[name] = None
        try:
            bench.settle(world.stores[name], world.known[held], other, yields_to_cancel=True)
        except CancelRequestedError as error:
            world.passed[name] = error
            raise
        return "settled otherwise"

    return settle


def _commit_effects(name: str, *effects: Effect) -> Operation:
    def commit(world: World) -> str:
        world.stores[name].commit_effects(effects)
        return "applied"

    return commit


def _compare_put(name: str, expected: bytes | None, value: bytes) -> Operation:
    return lambda world: world.stores[name].kv_compare_put("key", expected, value)


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


def _late_or_cancelled(answers: Answers) -> bool:
    """A step past its deadline never ends as it says: a cancellation that came in time goes before."""
    return answers["a"] == ("cancelled" if answers["b"][0] else "late",)


def _never_as_it_says(answers: Answers) -> bool:
    return answers["a"] == ("late",) and not answers["b"][0]


def _never_started(answers: Answers) -> bool:
    """Nobody works on a run whose time is over."""
    return not any(each[-1] for each in answers.values())


def _never_both(answers: Answers) -> bool:
    """No job was claimed by both."""
    ids = [row.id for each in answers.values() for row in each[-1] if isinstance(row, ClaimedRow)]
    return len(ids) == len(set(ids))


def _signals_in(rows: Any) -> int:
    return sum(row.wait is not None and row.wait.signal is not None for row in rows)


def _signal_or_timeout(answers: Answers) -> bool:
    """The claim brought the signal if and only if that was delivered."""
    (rows,) = answers["b"]
    return len(rows) == 1 and (answers["a"] == ("delivered",)) == (_signals_in(rows) == 1)


def _received_once(answers: Answers) -> bool:
    """Whether it was buffered or delivered, one claim brought it."""
    return _signals_in([*answers["a"][1], *answers["b"][1]]) == 1


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


def _late_run(world: World) -> None:
    """A run that waits, and whose time is over."""
    store = world.stores["a"]
    subscribe(store)
    store.insert([_run("J1", limits=TimeLimits(deadline_after_ms=1_000))])
    world.clock.advance(2)


def _late_step(world: World) -> None:
    """A step that runs, of a run whose time is over."""
    _claimed_run(world, limits=TimeLimits(deadline_after_ms=1_000))
    world.clock.advance(2)


def _two_jobs(world: World) -> None:
    world.stores["a"].insert([bench.job(id="J1"), bench.job(id="J2")])


def _suspect(world: World) -> None:
    held = world.known["held"]
    world.passed["b"] = Evidence(tokens={held.token: held.lease_until_ms})


def _suspect_owner(world: World) -> None:
    world.passed["b"] = Evidence(owners=frozenset({world.stores["a"]._lifecycle.owner.id}))


def _waits(world: World) -> None:
    """A run whose end is told of waits for a signal, and for a minute."""
    _claimed_run(world)
    bench.settle(world.stores["a"], world.known["held"], _WAIT)


def _timed_out(world: World) -> None:
    _waits(world)
    world.clock.advance(61)


def _in_line(world: World) -> None:
    _timed_out(world)
    bench.claims(world.stores["a"], 0)


def _found_timeout(world: World) -> None:
    _timed_out(world)
    world.known["held"] = bench.claim(world.stores["a"])


def _signalled(world: World) -> None:
    """A run in line with a signal that it waited for, and one more."""
    _waits(world)
    for _ in range(2):
        _send("a")(world)


def _delayed(world: World) -> None:
    _claimed_run(world)
    bench.settle(world.stores["a"], world.known["held"], Advance(b"next", delay_ms=60_000))


_KEY: Final = "customer-7"


def _keyed_claims(world: World) -> None:
    """Three runs of a key with two slots: each handle has claimed one, the third is parked."""
    a, b = world.stores["a"], world.stores["b"]
    a.set_limit(QUEUE, Limit(_KEY, concurrency=2))
    while a.settle_limits(QUEUE):
        pass
    a.insert([_run(f"J{number}", f"r{number}", limit_key=_KEY) for number in (1, 2, 3)])
    world.known["held"], world.known["other"] = bench.claim(a), bench.claim(b)


def _keyed_line(world: World) -> None:
    world.stores["a"].insert([_run(f"J{number}", f"r{number}", limit_key=_KEY) for number in (1, 2)])


def _limit(name: str, concurrency: int) -> Operation:
    return lambda world: world.stores[name].set_limit(QUEUE, Limit(_KEY, concurrency=concurrency))


def _settle_limits(name: str) -> Operation:
    """See to what a changed limit asks for; who had to do it is nobody's answer."""

    def settle(world: World) -> None:
        while world.stores[name].settle_limits(QUEUE):
            pass

    return settle


def _pause(name: str) -> Operation:
    return lambda world: world.stores[name].pause(QUEUE, is_paused=True)


def _within_limit(most: int) -> Rule:
    """No more were claimed, of those that entered the line, than the limit lets."""
    return lambda answers: sum(isinstance(row, ClaimedRow) for row in answers["b"][-1]) <= most


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
TIME_LIMITS: Final = (
    Scenario(
        "settle vs deadline",
        _late_step,
        {"a": [_conclude_in_time(Ack(result=b"x"))], "b": [_claim("b")]},
        rule=_never_as_it_says,
    ),
    Scenario(
        "advance vs deadline",
        _late_step,
        {"a": [_conclude_in_time(Advance(b"next"))], "b": [_claim("b")]},
        rule=_never_as_it_says,
    ),
    Scenario(
        "settle vs cancel past the deadline",
        _late_step,
        {"a": [_conclude_in_time(Ack(result=b"x"))], "b": [_cancel("b")]},
        rule=_late_or_cancelled,
    ),
    Scenario(
        "release vs deadline",
        _late_step,
        {"a": [_settle(Release())], "b": [_claim("b"), _claim("b")]},
        rule=lambda answers: not any(answers["b"]),
    ),
    Scenario(
        "two claims of a run past its deadline",
        _late_run,
        {"a": [_claim("a")], "b": [_claim("b")]},
        rule=_never_started,
    ),
    Scenario(
        "claim vs cancel of a run past its deadline",
        _late_run,
        {"a": [_claim("a")], "b": [_cancel("b")]},
        rule=lambda answers: not answers["a"][0],
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
SIGNALS: Final = (
    Scenario(
        "signal vs the claim of a timeout that has passed",
        _timed_out,
        {"a": [_send("a")], "b": [_claim("b")]},
        rule=_signal_or_timeout,
    ),
    Scenario(
        "signal vs the claim of a run that its timeout has put in line",
        _in_line,
        {"a": [_send("a")], "b": [_claim("b")]},
        rule=_signal_or_timeout,
    ),
    Scenario("signal vs cancel of the run that waits for it", _waits, {"a": [_send("a")], "b": [_cancel("b")]}),
    Scenario(
        "signal vs signal of one id",
        _waits,
        {"a": [_send("a", "x")], "b": [_send("b", "x")]},
        rule=lambda answers: sorted(each[0] for each in answers.values()) == ["delivered", "duplicate"],
    ),
    Scenario(
        "signal vs signal",
        _waits,
        {"a": [_send("a"), _claim("a")], "b": [_send("b")]},
        rule=lambda answers: sorted((answers["a"][0], answers["b"][0])) == ["buffered", "delivered"],
    ),
    Scenario(
        "signal vs the step that comes to wait for it",
        _claimed_run,
        {"a": [_conclude(_WAIT), _claim("a")], "b": [_send("b"), _claim("b")]},
        rule=_received_once,
    ),
    Scenario(
        "signal vs the release of the claim that found the timeout",
        _found_timeout,
        {"a": [_settle(Release()), _claim("a")], "b": [_send("b")]},
        rule=lambda answers: (answers["b"] == ("delivered",)) == (_signals_in(answers["a"][1]) == 1),
    ),
    Scenario(
        "signal that submits vs submit",
        lambda _: None,
        {"a": [_send("a", submits=True)], "b": [_submit("b")]},
        rule=lambda answers: answers["a"] == ("buffered",),
    ),
    Scenario(
        "signal that submits vs another",
        lambda _: None,
        {"a": [_send("a", "x", submits=True)], "b": [_send("b", "x", submits=True)]},
        rule=lambda answers: sorted(each[0] for each in answers.values()) == ["buffered", "duplicate"],
    ),
    Scenario("signal vs the end of its run", _claimed_run, {"a": [_conclude(Ack())], "b": [_send("b", "x")]}),
    Scenario("clearing signals vs the claim that receives one", _signalled, {"a": [_clear("a")], "b": [_claim("b")]}),
    Scenario("wake vs wake", _delayed, {"a": [_wake("a")], "b": [_wake("b")]}, rule=_one_won),
    Scenario("wake vs cancel", _delayed, {"a": [_wake("a")], "b": [_cancel("b")]}, rule=_cancel_is_kept),
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


# -- groups -----------------------------------------------------------------------------------------------------------

_GROUP: Final = NewGroup("g", QUEUE, 2, b"f", OnFailure.COLLECT, bench.KEEP_MS)


def _members() -> list[Any]:
    return [_run("J1", "g-0"), _run("J2", "g-1")]


def _written(world: World) -> None:
    world.stores["a"].group_write(_GROUP, 0, _members())


def _half_written_by_the_dead(world: World) -> None:
    dead = world.open("dead")
    dead.group_write(_GROUP, 0, _members()[:1])
    del world.stores["dead"]
    dead.close()


def _one_member_claimed(world: World) -> None:
    """A group of two in line, the first of them claimed."""
    subscribe(world.stores["a"])
    _written(world)
    world.stores["a"].group_open("g", b"f")
    world.known["held"] = bench.claim(world.stores["a"])


def _last_member_and_parent_claimed(world: World) -> None:
    store = world.stores["a"]
    store.group_write(_GROUP._replace(total=1), 0, _members()[:1])
    store.group_open("g", b"f")
    world.known["held"] = bench.claim(store)
    store.insert([_run("J3", "parent")])
    world.known["parent"] = bench.claim(world.stores["b"])


def _parent_waits(world: World) -> None:
    _last_member_and_parent_claimed(world)
    bench.settle(world.stores["b"], world.known["parent"], _ON_GROUP)


_ON_GROUP: Final = Advance(b"", wait=Wait(WaitKind.GROUP, "g"))


def _write_the_rest(world: World) -> Any:
    """Go on where the dead one stopped, or begin anew, as the public call does."""
    store, position = world.stores["a"], 0
    while position < _GROUP.total:
        position = store.group_write(_GROUP, position, _members()[position:]).written
    return None


def _open_group(name: str) -> Operation:
    return lambda world: world.stores[name].group_open("g", b"f")


def _cancel_group(name: str) -> Operation:
    def cancel(world: World) -> None:
        while world.stores[name].group_cancel("g"):
            pass

    return cancel


def _nobody_is_left_waiting(world: World) -> str | None:
    """Say whether a parent waits for a group that has ended."""
    store = world.stores["a"]
    group, parent = store.group_get("g"), bench.stored(store, "J3")
    if group is not None and group.has_ended and parent.wait is not None:
        return "the group has ended, and its parent waits"
    return None


GROUPS: Final = (
    Scenario(
        "a member's end vs the cancellation of its group",
        _one_member_claimed,
        {"a": [_conclude(Ack(result=b"x"))], "b": [_cancel_group("b")]},
    ),
    Scenario(
        "the last member's end vs a parent that begins to wait",
        _last_member_and_parent_claimed,
        {"a": [_settle(Ack(result=b"x"))], "b": [_settle(_ON_GROUP, "b", "parent")]},
        also=_nobody_is_left_waiting,
    ),
    Scenario(
        "the last member's end vs the cancellation of the parent",
        _parent_waits,
        {"a": [_conclude(Ack(result=b"x"))], "b": [lambda world: world.stores["b"].cancel("J3")]},
    ),
    Scenario("opening a group vs opening it", _written, {"a": [_open_group("a")], "b": [_open_group("b")]}),
    Scenario("opening a group vs a claim", _written, {"a": [_open_group("a")], "b": [_claim("b", limit=2)]}),
    Scenario(
        "cancelling a group vs a claim",
        lambda world: (_written(world), _open_group("a")(world))[1],
        {"a": [_cancel_group("a")], "b": [_claim("b")]},
    ),
    Scenario(
        "going on with a group of the dead vs its sweep",
        _half_written_by_the_dead,
        {"a": [_write_the_rest, _open_group("a")], "b": [_sweep("b")]},
    ),
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
    for view in OLD_NAMES:
        _spoil(world, f"DROP VIEW {view}")
    for table in (text.split()[5] for text in features.SCHEMA if text.startswith("CREATE TABLE")):
        _spoil(world, f"DROP TABLE {table}")
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

# -- effects and values ----------------------------------------------------------------------------------------------


def _two_claimed_runs(world: World) -> None:
    store = world.stores["a"]
    subscribe(store)
    store.kv_put("key", b"0", None)
    store.insert([_run("J1", "r"), _run("J2", "s")])
    world.known["first"], world.known["second"] = bench.claims(store)


def _claimed_beside_a_failed_run(world: World) -> None:
    """A step under way, and another run that has failed and may be retried, or submitted anew."""
    _failed_run(world)
    store = world.stores["a"]
    store.insert([_run("J2", "s")])
    world.known["held"] = bench.claim(store)


def _counted(world: World) -> None:
    _claimed_run(world)
    world.stores["a"].kv_put("key", b"0", None)


def _expired_value(world: World) -> None:
    world.stores["a"].kv_put("key", b"0", 1_000)
    world.clock.advance(2)


_ONE: Final = ComparePut("key", b"0", b"1")
_TWO: Final = ComparePut("key", b"0", b"2")
_RERUN: Final = Insert(_run("J3", "r", if_finished=IfFinished.RERUN_FAILED))

EFFECTS: Final = (
    Scenario(
        "compare_put vs compare_put",
        lambda world: world.stores["a"].kv_put("key", b"0", None),
        {"a": [_compare_put("a", b"0", b"1")], "b": [_compare_put("b", b"0", b"2")]},
        rule=_one_won,
    ),
    Scenario(
        "compare_put of nothing vs compare_put of nothing",
        lambda _: None,
        {"a": [_compare_put("a", None, b"1")], "b": [_compare_put("b", None, b"2")]},
        rule=_one_won,
    ),
    Scenario(
        "the effects of a step vs those of another",
        _two_claimed_runs,
        {
            "a": [_with_effects(Advance(b"x"), _ONE, Add("steps", 1), held="first"), _after_refusal("a", "first")],
            "b": [
                _with_effects(Ack(result=b"y"), _TWO, Add("steps", 1), name="b", held="second"),
                _after_refusal("b", "second"),
            ],
        },
        rule=_one_won,
    ),
    Scenario(
        "the effects of a step vs a program's",
        _counted,
        {"a": [_with_effects(Ack(), _ONE, Put("mine", b"1"))], "b": [_commit_effects("b", _TWO, Put("yours", b"1"))]},
        rule=_one_won,
    ),
    Scenario(
        "retry vs effects that submit the run",
        _claimed_beside_a_failed_run,
        {"a": [_with_effects(Ack(), _RERUN, Add("count", 1))], "b": [_retry("b")]},
    ),
    Scenario(
        "retry vs the effects of the step that fails and submits its own run",
        _claimed_run,
        {
            "a": [_with_effects(Ack(Verdict.FAILED, None, "no"), _RERUN, Add("count", 1))],
            "b": [_retry("b")],
        },
        rule=lambda answers: answers["b"] == ("InvalidStateError",),
        least=6,  # the retry only reads
    ),
    Scenario(
        "submit vs effects that submit the run",
        _counted,
        {
            "a": [_with_effects(Advance(b"x"), Insert(_run("J3", "s"), (Add("submitted", 1),)))],
            "b": [lambda world: world.stores["b"].insert([_run("J4", "s")])[0]],
        },
    ),
    Scenario(
        "effects vs cancel",
        _counted,
        {"a": [_with_effects(Ack(), _ONE, Add("count", 1)), _after_refusal()], "b": [_cancel("b")]},
    ),
    Scenario(
        "refused effects vs cancel",
        _claimed_run,
        {"a": [_with_effects(Advance(b"x"), _ONE), _after_refusal(), _after_refusal()], "b": [_cancel("b")]},
        rule=_cancel_is_kept,
    ),
    Scenario(
        "effects vs reap",
        _overdue,
        {"a": [_with_effects(Advance(b"x"), Add("count", 1))], "b": [_find_abandoned("b"), _claim("b")]},
        rule=_settled_or_reaped,
    ),
    Scenario(
        "put vs the sweep of what has expired",
        _expired_value,
        {"a": [_compare_put("a", None, b"1")], "b": [_sweep("b")]},
    ),
    _shared(
        "group commit of two steps with effects on one key",
        _two_claimed_runs,
        _with_effects(Advance(b"x", keeps_place=True), _ONE, held="first"),
        _with_effects(Advance(b"y", keeps_place=True), _TWO, held="second"),
        rule=_one_won,
    ),
    _shared(
        "group commit of a plain advance and one with refused effects",
        _two_claimed_runs,
        _settle_yielding("first", Advance(b"x", keeps_place=True)),
        _with_effects(Advance(b"y", keeps_place=True), ComparePut("key", b"never", b""), held="second"),
    ),
)


def _schedule_due(world: World) -> None:
    """A schedule whose first moment has come; who fires it has read it before."""
    client = world.client("a")
    client.schedule("s", every=60, spec=RunSpec(input=b"input"))
    world.clock.advance(61)
    (row,) = world.stores["a"].find_schedules(QUEUE, name="s").rows
    world.known["seen"] = row.seen
    world.known["mark"] = Mark(row.seen.watermark_ms + 61_000, row.seen.watermark_ms + 120_000)


def _fire(name: str) -> Operation:
    """Fire what was seen; False: it was not any more."""

    def fire(world: World) -> Any:
        jobs = [_run(f"J{name}", "s-20260101T000100Z")]
        fired = world.stores[name].fire(QUEUE, "s", world.known["seen"], jobs, world.known["mark"], skips_active=False)
        return False if fired is None else fired

    return fire


def _fire_what_is_due(name: str) -> Operation:
    """What a runtime does: look, compute, and fire. When it is to look again depends on what it saw."""

    def fire(world: World) -> str:
        world.client(name)._scheduling.fire()
        return "looked"

    return fire


def _pause_schedule(name: str) -> Operation:
    return lambda world: world.client(name).pause_schedule("s")


def _redefine(name: str) -> Operation:
    return lambda world: world.client(name).schedule("s", every=90, spec=RunSpec(input=b"other"))


FIRE: Final = (
    Scenario("fire vs fire", _schedule_due, {"a": [_fire("a")], "b": [_fire("b")]}, rule=_one_won),
    Scenario(
        "a runtime fires vs another runtime fires",
        _schedule_due,
        {"a": [_fire_what_is_due("a")], "b": [_fire_what_is_due("b")]},
    ),
    Scenario("a runtime fires vs pause", _schedule_due, {"a": [_fire_what_is_due("a")], "b": [_pause_schedule("b")]}),
    Scenario("a runtime fires vs redefine", _schedule_due, {"a": [_fire_what_is_due("a")], "b": [_redefine("b")]}),
    Scenario("redefine vs redefine", _schedule_due, {"a": [_redefine("a")], "b": [_redefine("b")]}),
    Scenario(
        "fire vs a submit of its name",
        _schedule_due,
        {"a": [_fire("a")], "b": [_put_run_of_the_firing("b")]},
        rule=_anything,
    ),
)

# -- limits ----------------------------------------------------------------------------------------------------

LIMITS: Final = (
    Scenario(
        "a limit lowered vs entering the line",
        _keyed_line,
        {"a": [_limit("a", 2), _settle_limits("a")], "b": [_put("b", "J3", limit_key=_KEY), _settle_limits("b")]},
    ),
    Scenario(
        "a limit lowered vs claim",
        _keyed_line,
        {"a": [_limit("a", 1), _settle_limits("a")], "b": [_claim("b", limit=2)]},
        rule=_within_limit(2),
    ),
    Scenario(
        "un-park vs release",
        _keyed_claims,
        {"a": [_settle(Ack(result=b"x"))], "b": [_settle(Release(), "b", "other"), _claim("b", limit=3)]},
        rule=_within_limit(2),
    ),
    Scenario(
        "un-park vs un-park",
        _keyed_claims,
        {"a": [_settle(Nack("boom", 5_000))], "b": [_settle(Ack(), "b", "other"), _claim("b", limit=3)]},
        rule=_within_limit(2),
    ),
    Scenario("pause vs claim", _waiting_run, {"a": [_pause("a"), _claim("a")], "b": [_claim("b")]}, rule=_never_both),
)

NAMED: Final = {
    "effects": EFFECTS,
    "limits": LIMITS,
    "settle vs reap": SETTLE_VS_REAP,
    "settle vs cancel": SETTLE_VS_CANCEL,
    "advance vs cancel": ADVANCE_VS_CANCEL,
    "time limits": TIME_LIMITS,
    "hold": HOLD,
    "signals": SIGNALS,
    "cancel vs cancel": CANCEL_VS_CANCEL,
    "retry vs submit": RETRY_VS_SUBMIT,
    "requeue vs sweep": REQUEUE_VS_SWEEP,
    "notification vs resubmit": NOTIFICATION_VS_RESUBMIT,
    "open vs open": OPEN_VS_OPEN,
    "open vs close": OPEN_VS_CLOSE,
    "migrate vs open": MIGRATE_VS_OPEN,
    "group commit": GROUP_COMMIT,
    "fire": FIRE,
    "others": OTHERS,
    "groups": GROUPS,
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
