"""The one catalogue of how each transition of the table is made through the port; whoever needs one of each reads it.

A case makes a store ready through a :class:`Scene` and says the one call that then makes the transition; the call may
be made on another handle, or on a copy of the store. A new transition of the table fails a test until it is here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from taquba_workflow_sync.errors import TaqubaError
from taquba_workflow_sync.storage.port.claim import ClaimedRow, ClaimRequest, LaneClaim
from taquba_workflow_sync.storage.port.group import HeldBy, NewGroup, OnFailure
from taquba_workflow_sync.storage.port.memo import MemoScope
from taquba_workflow_sync.storage.port.notification import Subscription
from taquba_workflow_sync.storage.port.progress import ProgressReport
from taquba_workflow_sync.storage.port.schedule import Mark, NewSchedule, ScheduleKind
from taquba_workflow_sync.storage.port.settlement import (
    Ack,
    Action,
    Advance,
    DeadLetter,
    Hold,
    Nack,
    PutBack,
    Release,
    SettleCancelled,
    Settlement,
)
from taquba_workflow_sync.storage.port.signals import NewSignal
from taquba_workflow_sync.storage.port.status import JobStatus, Verdict
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.storage.port.timing import TimeLimits
from taquba_workflow_sync.storage.port.wait import Wait, WaitKind
from tests.storage.bench import LANE, QUEUE, job, run

LEASE_MS: Final = 3_600_000
LATER_MS: Final = 3_600_000

Act = Callable[[Store], object]


class Scene:
    """A store to make ready. Who keeps a log of what is submitted and begun derives from it."""

    #: A time that can be waited for; by the wall clock it must not pass between two calls.
    soon_ms = 20

    def __init__(self, store: Store, pass_ms: Callable[[int], None]) -> None:
        self.store = store
        #: Lets so much time of the store's clock pass.
        self.pass_ms = pass_ms

    def now_ms(self) -> int:
        """The store's time, as it shows it."""
        job_id = self.put("clock")
        row = self.store.get(job_id)
        assert row is not None
        self.store.cancel(job_id)
        return row.enqueued_ms

    def put(self, queue: str = QUEUE, **fields: Any) -> str:
        """Put in a bare job."""
        return self.store.insert([job(queue, **fields)])[0].job_id

    def put_run(self, **fields: Any) -> str:
        """Put in a run called r."""
        return self.store.insert([run("r", **fields)])[0].job_id

    def claim(self, *, is_bare: bool = False, lease_ms: int = LEASE_MS) -> ClaimedRow:
        """Claim the first job in line."""
        (row,) = _claim(self.store, is_bare=is_bare, lease_ms=lease_ms)
        return row

    def settle(self, held: ClaimedRow, action: Action) -> None:
        """End a claim."""
        settle(self.store, held, action)


class DamagingScene(Scene, ABC):
    """One that can damage rows, which the port cannot: what cases that need damage are prepared in."""

    @abstractmethod
    def damage(self, job_id: str) -> None:
        """Make a stored row invalid."""


class Prepared(NamedTuple):
    """A store that is ready: the job that will move (None: that is made), and the call that moves it."""

    job_id: str | None
    act: Act


@dataclass(frozen=True, slots=True)
class Case:
    """One way to make one transition: from where to where it goes (None: there is no row), and how."""

    name: str
    transition: str
    source: JobStatus | None
    target: JobStatus | None
    prepare: Callable[[Any], Prepared]  # in a Scene, or a DamagingScene
    needs_damage: bool = False


def settle(store: Store, held: ClaimedRow, action: Action) -> None:
    """End a claim, raising what the store answers."""
    answer = store.settle_and_claim([Settlement(held.id, held.token, action, isinstance(action, Advance))], ())[0][0]
    if isinstance(answer, TaqubaError):
        raise answer


def _claim(store: Store, *, is_bare: bool = False, lease_ms: int = LEASE_MS, limit: int = 1) -> list[ClaimedRow]:
    return store.settle_and_claim((), [ClaimRequest((LaneClaim(QUEUE, lease_ms),), limit, is_bare)])[1]


def _settling(action: Action, **fields: Any) -> Callable[[Scene], Prepared]:
    """A claimed run (or bare job, where ``is_run`` is False) that ends its claim so."""
    is_run = fields.pop("is_run", True)

    def prepare(scene: Scene) -> Prepared:
        job_id = scene.put_run(**fields) if is_run else scene.put(**fields)
        held = scene.claim()
        return Prepared(job_id, lambda store: settle(store, held, action))

    return prepare


def _hold(scene: Scene) -> Prepared:
    job_id, held = scene.put_run(), scene.claim()
    leave = Hold(scene.store.token_after(held.token), held.rank, held.place, (QUEUE,))
    return Prepared(job_id, lambda store: settle(store, held, Advance(_NEXT, hold=leave)))


def _enqueue(scene: Scene) -> Prepared:
    return Prepared(None, lambda store: store.insert([job(id="enqueued", id_given=True)]))


def _enqueue_later(scene: Scene) -> Prepared:
    due = scene.now_ms() + LATER_MS
    return Prepared(None, lambda store: store.insert([job(id="enqueued", id_given=True, run_at_ms=due)]))


def _fire(scene: Scene, **fields: Any) -> Prepared:
    now = scene.now_ms()
    new = NewSchedule(QUEUE, "schedule", ScheduleKind.EVERY, "definition", b"", now, Mark(now, now + LATER_MS))
    scene.store.define_schedule(new, None)
    seen = scene.store.find_schedules(QUEUE, name="schedule").rows[0].seen
    fired = replace(run("schedule-run", **fields), id="enqueued")
    mark = Mark(now + LATER_MS, None)
    return Prepared(None, lambda store: store.fire(QUEUE, "schedule", seen, [fired], mark, skips_active=False))


def _fire_later(scene: Scene) -> Prepared:
    return _fire(scene, run_at_ms=scene.now_ms() + LATER_MS)


def _claims(scene: Scene) -> Prepared:
    return Prepared(scene.put_run(), _claim)


def _promote(scene: Scene) -> Prepared:
    job_id = scene.put_run(run_at_ms=scene.now_ms() + scene.soon_ms)
    scene.pass_ms(scene.soon_ms)
    return Prepared(job_id, lambda store: _claim(store, limit=0))


def _renew(scene: Scene) -> Prepared:
    job_id, held = scene.put_run(), scene.claim()
    return Prepared(job_id, lambda store: store.renew([held.token], 2 * LEASE_MS))


def _memo(scene: Scene) -> Prepared:
    job_id, held = scene.put_run(), scene.claim()
    return Prepared(job_id, lambda store: store.memo_put(job_id, held.token, MemoScope.STEP, "key", b"value"))


def _progress(scene: Scene) -> Prepared:
    job_id, held = scene.put_run(), scene.claim()
    said = ProgressReport(job_id, held.token, 1, 2, "half")
    return Prepared(job_id, lambda store: store.report_progress([said]))


_GROUP: Final = NewGroup("g", QUEUE, 1, b"f", OnFailure.COLLECT, LATER_MS)


def _member(scene: Scene, writer: HeldBy | None = None, **fields: Any) -> str:
    """A group of one run, written and not open; returns the run's job."""
    member = run("member", **fields)
    scene.store.group_write(_GROUP, 0, [member], writer)
    return member.id


def _open(store: Store) -> None:
    """Open the group and have its member enter the line."""
    store.group_open("g", b"f")
    _claim(store, limit=0)


def _write_group(scene: Scene) -> Prepared:
    member = run("member", id="enqueued")
    return Prepared(None, lambda store: store.group_write(_GROUP, 0, [member]))


def _release(scene: Scene) -> Prepared:
    return Prepared(_member(scene), _open)


def _release_later(scene: Scene) -> Prepared:
    return Prepared(_member(scene, run_at_ms=scene.now_ms() + LATER_MS), _open)


def _deliver_group(scene: Scene) -> Prepared:
    job_id = scene.put_run()
    _member(scene)
    parent = scene.claim()
    scene.store.group_open("g", b"f")
    scene.settle(parent, Advance(_NEXT, wait=Wait(WaitKind.GROUP, "g")))
    held = scene.claim()
    return Prepared(job_id, lambda store: settle(store, held, Ack()))


def _drop_member(scene: Scene) -> Prepared:
    scene.put_run()
    held = scene.claim()
    job_id = _member(scene, HeldBy(held.id, held.token))
    scene.settle(held, Ack())
    return Prepared(job_id, lambda store: store.sweep())


def _cancel(scene: Scene) -> Prepared:
    job_id = scene.put_run()
    return Prepared(job_id, lambda store: store.cancel(job_id))


def _cancel_later(scene: Scene) -> Prepared:
    job_id = scene.put_run(run_at_ms=scene.now_ms() + LATER_MS)
    return Prepared(job_id, lambda store: store.cancel(job_id))


def _cancel_bare(scene: Scene) -> Prepared:
    job_id = scene.put()
    return Prepared(job_id, lambda store: store.cancel(job_id))


def _request_cancel(scene: Scene) -> Prepared:
    job_id, _ = scene.put_run(), scene.claim()
    return Prepared(job_id, lambda store: store.cancel(job_id))


def _cancel_abandoned(scene: Scene) -> Prepared:
    job_id, held = scene.put_run(), scene.claim()
    evidence = scene.store.abandoned_claims(own={held.token})
    return Prepared(job_id, lambda store: store.cancel(job_id, abandoned=evidence))


def _past(scene: Scene, job_id: str, times: int = 1) -> Prepared:
    """A run whose time is over by now; a claim finds it."""
    scene.pass_ms(times * scene.soon_ms)
    return Prepared(job_id, lambda store: _claim(store, limit=0))


def _exceed_deadline(scene: Scene) -> Prepared:
    return _past(scene, scene.put_run(limits=TimeLimits(deadline_after_ms=scene.soon_ms)))


def _exceed_deadline_later(scene: Scene) -> Prepared:
    now = scene.now_ms()
    limits = TimeLimits(deadline_ms=now + scene.soon_ms)
    return _past(scene, scene.put_run(run_at_ms=now + LATER_MS, limits=limits))


def _expire(scene: Scene) -> Prepared:
    return _past(scene, scene.put_run(limits=TimeLimits(expires_after_ms=scene.soon_ms)))


def _expire_later(scene: Scene) -> Prepared:
    run_at_ms = scene.now_ms() + scene.soon_ms
    return _past(scene, scene.put_run(run_at_ms=run_at_ms, limits=TimeLimits(expires_after_ms=scene.soon_ms)), 2)


def _request_stop(scene: Scene) -> Prepared:
    job_id = scene.put_run(limits=TimeLimits(deadline_after_ms=scene.soon_ms))
    scene.claim()
    return _past(scene, job_id)


def _reap(*, max_attempts: int = 3, is_cancelled: bool = False) -> Callable[[Scene], Prepared]:
    def prepare(scene: Scene) -> Prepared:
        job_id, _ = scene.put_run(max_attempts=max_attempts), scene.claim(is_bare=True, lease_ms=scene.soon_ms)
        if is_cancelled:
            scene.store.cancel(job_id)
        scene.pass_ms(scene.soon_ms)
        return Prepared(job_id, lambda store: _claim(store, limit=0))

    return prepare


def _put_back(action: Action, *, failed_run: bool) -> Callable[[Scene], Prepared]:
    def prepare(scene: Scene) -> Prepared:
        job_id = scene.put_run()
        scene.settle(scene.claim(), action)
        return Prepared(job_id, lambda store: store.requeue(job_id, failed_run=failed_run))

    return prepare


def _sweep(action: Action) -> Callable[[Scene], Prepared]:
    def prepare(scene: Scene) -> Prepared:
        job_id = scene.put(keep_done_ms=scene.soon_ms, keep_dead_ms=scene.soon_ms)
        scene.settle(scene.claim(), action)
        scene.pass_ms(scene.soon_ms)
        return Prepared(job_id, lambda store: store.sweep())

    return prepare


def _drop(scene: Scene) -> Prepared:
    scene.store.subscribe(QUEUE, Subscription(LANE, 3, None))
    job_id = scene.put_run()
    scene.settle(scene.claim(), Ack())
    return Prepared(f"{job_id}-1", lambda store: store.unsubscribe(QUEUE, drop_from=LANE))


def _drop_later(scene: Scene) -> Prepared:
    job_id = scene.put(LANE, run_at_ms=scene.now_ms() + LATER_MS)
    return Prepared(job_id, lambda store: store.unsubscribe(QUEUE, drop_from=LANE))


def _come_to(scene: Scene, status: JobStatus) -> None:
    """Have the run called r, which is in line, come to a status; what is scheduled waits for a signal."""
    ends = {_SCHEDULED: _WAITING, _DONE: Ack(), _DEAD: DeadLetter("broken"), _CANCELLED: SettleCancelled()}
    if status is not _PENDING:
        held = scene.claim()
        if status in ends:
            scene.settle(held, ends[status])


def _buffer(status: JobStatus) -> Callable[[Scene], Prepared]:
    def prepare(scene: Scene) -> Prepared:
        job_id = scene.put_run()
        _come_to(scene, status)
        return Prepared(job_id, lambda store: store.send_signal(QUEUE, "r", NewSignal("another", b"yes", "1")))

    return prepare


def _deliver(scene: Scene) -> Prepared:
    job_id = scene.put_run()
    scene.settle(scene.claim(), _WAITING)
    return Prepared(job_id, lambda store: store.send_signal(QUEUE, "r", NewSignal("go", b"yes")))


def _clear(status: JobStatus) -> Callable[[Scene], Prepared]:
    def prepare(scene: Scene) -> Prepared:
        job_id = scene.put_run()
        for number in range(2):
            scene.store.send_signal(QUEUE, "r", NewSignal("another", b"yes", str(number)))
        _come_to(scene, status)
        return Prepared(job_id, lambda store: store.clear_signals(job_id, "another"))

    return prepare


def _wait_again(scene: DamagingScene) -> Prepared:
    job_id = scene.put_run()
    scene.settle(scene.claim(), _WAITING)
    scene.damage(job_id)
    scene.pass_ms(LATER_MS)
    _claim(scene.store)  # which makes it a dead letter, before it could fix how the wait has ended
    return Prepared(job_id, lambda store: store.requeue(job_id, failed_run=True))


def _wake(scene: Scene) -> Prepared:
    job_id = scene.put_run(run_at_ms=scene.now_ms() + LATER_MS)
    return Prepared(job_id, lambda store: store.wake(job_id))


def _quarantine(scene: DamagingScene) -> Prepared:
    job_id = scene.put_run()
    scene.damage(job_id)
    return Prepared(job_id, _claim)


_PENDING, _SCHEDULED, _CLAIMED = JobStatus.PENDING, JobStatus.SCHEDULED, JobStatus.CLAIMED
_DONE, _DEAD, _CANCELLED = JobStatus.DONE, JobStatus.DEAD, JobStatus.CANCELLED
_NEXT: Final = b"0"  # what a step of the laboratory (tests.faults.lab) leaves to the one after it
_LARGE: Final = bytes(3_000)  # an engine may keep it elsewhere
_WAITING: Final = Advance(_NEXT, wait=Wait(WaitKind.SIGNAL, "go", LATER_MS))
_FAILED: Final = Ack(Verdict.FAILED, None, "no")

CASES: Final = (
    Case("enqueue", "enqueue", None, _PENDING, _enqueue),
    Case("enqueue later", "enqueue", None, _SCHEDULED, _enqueue_later),
    Case("fire", "fire", None, _PENDING, _fire),
    Case("fire later", "fire", None, _SCHEDULED, _fire_later),
    Case("claim", "claim", _PENDING, _CLAIMED, _claims),
    Case("promote", "promote", _SCHEDULED, _PENDING, _promote),
    Case("ack", "ack", _CLAIMED, _DONE, _settling(Ack(result=_LARGE))),
    Case("ack as failed", "ack", _CLAIMED, _DONE, _settling(_FAILED)),
    Case("ack a bare job", "ack", _CLAIMED, None, _settling(Ack(), is_run=False)),
    Case("advance", "advance", _CLAIMED, _PENDING, _settling(Advance(_NEXT))),
    Case("advance with a large payload", "advance", _CLAIMED, _PENDING, _settling(Advance(_LARGE))),
    Case("advance later", "advance", _CLAIMED, _SCHEDULED, _settling(Advance(_NEXT, delay_ms=LATER_MS))),
    Case("hold", "hold", _CLAIMED, _CLAIMED, _hold),
    Case("nack", "nack", _CLAIMED, _PENDING, _settling(Nack("boom"))),
    Case("nack later", "nack", _CLAIMED, _SCHEDULED, _settling(Nack("boom", LATER_MS))),
    Case("put_back", "put_back", _CLAIMED, _SCHEDULED, _settling(PutBack(LATER_MS, "not now"))),
    Case("put_back at once", "put_back", _CLAIMED, _PENDING, _settling(PutBack(0, "not now"))),
    Case("dead_letter", "dead_letter", _CLAIMED, _DEAD, _settling(DeadLetter("broken"))),
    Case("dead_letter, not kept", "dead_letter", _CLAIMED, None,
         _settling(DeadLetter("broken"), is_run=False, keep_dead_ms=0)),
    Case("settle_cancelled", "settle_cancelled", _CLAIMED, _CANCELLED, _settling(SettleCancelled("enough"))),
    Case("settle_cancelled, not kept", "settle_cancelled", _CLAIMED, None, _settling(SettleCancelled(), is_run=False)),
    Case("release", "release", _CLAIMED, _PENDING, _settling(Release())),
    Case("renew", "renew", _CLAIMED, _CLAIMED, _renew),
    Case("memo", "memo", _CLAIMED, _CLAIMED, _memo),
    Case("advance to a wait", "advance", _CLAIMED, _SCHEDULED, _settling(_WAITING)),
    Case("signal", "signal", _SCHEDULED, _PENDING, _deliver),
    Case("signal what does not wait", "signal", _PENDING, _PENDING, _buffer(_PENDING)),
    Case("signal what waits for another", "signal", _SCHEDULED, _SCHEDULED, _buffer(_SCHEDULED)),
    Case("signal what runs", "signal", _CLAIMED, _CLAIMED, _buffer(_CLAIMED)),
    Case("clear_signals", "clear_signals", _PENDING, _PENDING, _clear(_PENDING)),
    *(Case(f"clear_signals of what is {each}", "clear_signals", each, each, _clear(each))
      for each in JobStatus if each is not _PENDING),
    Case("wait_again", "wait_again", _DEAD, _SCHEDULED, _wait_again, needs_damage=True),
    Case("wake", "wake", _SCHEDULED, _PENDING, _wake),
    Case("progress", "progress", _CLAIMED, _CLAIMED, _progress),
    Case("write_group", "write_group", None, _PENDING, _write_group),
    Case("release_members", "release_members", _PENDING, _PENDING, _release),
    Case("release_members later", "release_members", _PENDING, _SCHEDULED, _release_later),
    Case("deliver_group", "deliver_group", _SCHEDULED, _PENDING, _deliver_group),
    Case("drop_member", "drop_member", _PENDING, None, _drop_member),
    Case("cancel", "cancel", _PENDING, _CANCELLED, _cancel),
    Case("cancel what is scheduled", "cancel", _SCHEDULED, _CANCELLED, _cancel_later),
    Case("cancel a bare job", "cancel", _PENDING, None, _cancel_bare),
    Case("request_cancel", "request_cancel", _CLAIMED, _CLAIMED, _request_cancel),
    Case("cancel an abandoned claim", "request_cancel", _CLAIMED, _CANCELLED, _cancel_abandoned),
    Case("exceed_deadline", "exceed_deadline", _PENDING, _DEAD, _exceed_deadline),
    Case("exceed_deadline before it is due", "exceed_deadline", _SCHEDULED, _DEAD, _exceed_deadline_later),
    Case("expire", "expire", _PENDING, _CANCELLED, _expire),
    Case("expire what is scheduled", "expire", _SCHEDULED, _CANCELLED, _expire_later),
    Case("request_stop", "request_stop", _CLAIMED, _CLAIMED, _request_stop),
    Case("reap", "reap", _CLAIMED, _PENDING, _reap()),
    Case("reap the last attempt", "reap", _CLAIMED, _DEAD, _reap(max_attempts=1)),
    Case("reap what was to cancel", "reap", _CLAIMED, _CANCELLED, _reap(is_cancelled=True)),
    Case("requeue", "requeue", _DEAD, _PENDING, _put_back(DeadLetter("broken"), failed_run=False)),
    Case("retry", "retry", _DONE, _PENDING, _put_back(_FAILED, failed_run=True)),
    Case("retry a dead run", "retry", _DEAD, _PENDING, _put_back(DeadLetter("broken"), failed_run=True)),
    Case("sweep", "sweep", _DONE, None, _sweep(Ack())),
    Case("sweep the dead", "sweep", _DEAD, None, _sweep(DeadLetter("broken"))),
    Case("sweep the cancelled", "sweep", _CANCELLED, None, _sweep(SettleCancelled())),
    Case("drop", "drop", _PENDING, None, _drop),
    Case("drop what is scheduled", "drop", _SCHEDULED, None, _drop_later),
    Case("quarantine", "quarantine", _PENDING, _DEAD, _quarantine, needs_damage=True),
)  # fmt: skip
#: Those that the port alone can bring about.
THROUGH_THE_PORT: Final = tuple(case for case in CASES if not case.needs_damage)


def case_of(name: str) -> Case:
    """The case of that name."""
    (found,) = (case for case in CASES if case.name == name)
    return found
