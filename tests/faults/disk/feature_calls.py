"""The calls of :mod:`.calls` that belong to what a run can do besides its steps."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from taquba_workflow_sync import Effects, Queue, RunSpec, WorkflowClient
from taquba_workflow_sync.storage.port.claim import ClaimedRow, ClaimRequest, LaneClaim
from taquba_workflow_sync.storage.port.group import NewGroup, OnFailure
from taquba_workflow_sync.storage.port.limit import Limit, Rate
from taquba_workflow_sync.storage.port.memo import MemoScope
from taquba_workflow_sync.storage.port.meter import Meter, Series
from taquba_workflow_sync.storage.port.settlement import Ack, Advance, Settlement
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.storage.port.wait import Wait, WaitKind
from tests.storage.bench import job, run

BARE = "bare"
STEPS = "workflow-steps"
WIDE = bytes(3000)
LATER_MS = 300

Act = Callable[[Queue], object]


def _claim(queue: Queue, lane: str = STEPS) -> ClaimedRow:
    _, rows = queue.handle.store.settle_and_claim((), [ClaimRequest((LaneClaim(lane, 3_600_000),), 1, is_bare=True)])
    return rows[0]


def _effects(_: Queue) -> Act:
    effects = Effects()
    effects.put("key", WIDE)
    effects.add("count", 1)
    effects.enqueue(BARE, WIDE, job_id="j")
    return lambda queue: queue.commit(effects)


def _meter(queue: Queue) -> Act:
    queue.handle.store.insert([run("r")])
    return lambda queue: queue.handle.store.add_to_meters({Series(STEPS, "", Meter.ATTEMPTS, "continued"): 2})


def _kv(queue: Queue) -> Act:
    queue.kv.put("key", b"old")
    return lambda queue: queue.kv.compare_put("key", b"old", WIDE)


def _collect(queue: Queue) -> Act:
    """The rows of a memo whose step is over."""
    WorkflowClient(queue).submit(run_id="r")
    row, store = _claim(queue), queue.handle.store
    store.memo_put(row.id, row.token, MemoScope.STEP, "key", WIDE)
    store.settle_and_claim([Settlement(row.id, row.token, Advance(b"1"))], ())
    return lambda queue: queue.handle.store.sweep()


def _limited(queue: Queue, limit: Limit, *, is_settled: bool) -> None:
    WorkflowClient(queue).submit_many([RunSpec(run_id=name, limit_key="k") for name in ("one", "two", "three")])
    queue.handle.store.set_limit(STEPS, limit)
    while is_settled and queue.handle.store.settle_limits(STEPS):
        pass


def _set_limit(queue: Queue) -> Act:
    WorkflowClient(queue).submit(run_id="r", limit_key="k")
    return lambda queue: queue.handle.store.set_limit(STEPS, Limit("k*", concurrency=1))


def _settle_limit(queue: Queue) -> Act:
    _limited(queue, Limit("k*", concurrency=1), is_settled=False)
    return lambda queue: queue.handle.store.settle_limits(STEPS)


def _clear_limit(queue: Queue) -> Act:
    _limited(queue, Limit("k*", concurrency=1), is_settled=True)
    return lambda queue: queue.handle.store.clear_limit(STEPS, "k*")


def _refill(wait: Callable[[int], None]) -> Callable[[Queue], Act]:
    def prepare(queue: Queue) -> Act:
        store = queue.handle.store
        store.set_limit(BARE, Limit("k", rate=Rate(1, LATER_MS)))
        store.settle_limits(BARE)
        store.insert([job(BARE, id=name, limit_key="k") for name in ("one", "two")])
        row = _claim(queue, BARE)
        store.settle_and_claim([Settlement(row.id, row.token, Ack())], ())
        wait(LATER_MS)
        return lambda queue: queue.handle.store.settle_and_claim((), [ClaimRequest((LaneClaim(BARE, 1),), 0)])

    return prepare


def _pause(queue: Queue) -> Act:
    WorkflowClient(queue).submit(run_id="r")
    return lambda queue: WorkflowClient(queue).pause()


def _resume(queue: Queue) -> Act:
    WorkflowClient(queue).submit(run_id="r")
    WorkflowClient(queue).pause()
    return lambda queue: WorkflowClient(queue).resume()


def _schedule(queue: Queue) -> object:
    return WorkflowClient(queue).schedule("s", every=timedelta(hours=1), spec=RunSpec(input=WIDE))


def _move_schedule(queue: Queue) -> Act:
    _schedule(queue)
    return lambda queue: WorkflowClient(queue).pause_schedule("s")


def _drop_schedule(queue: Queue) -> Act:
    _schedule(queue)
    return lambda queue: WorkflowClient(queue).unschedule("s")


def _wait_again(wait: Callable[[int], None]) -> Callable[[Queue], Act]:
    """A run whose deadline passed while it waited for a signal, retried."""

    def prepare(queue: Queue) -> Act:
        WorkflowClient(queue).submit(run_id="r", deadline=timedelta(milliseconds=LATER_MS))
        row, store = _claim(queue), queue.handle.store
        waits = Advance(WIDE, wait=Wait(WaitKind.SIGNAL, "go"))
        store.settle_and_claim([Settlement(row.id, row.token, waits)], ())
        wait(LATER_MS)
        store.settle_and_claim((), [ClaimRequest((LaneClaim(STEPS, 1),), 0)])
        return lambda queue: WorkflowClient(queue).retry("r")

    return prepare


def _group(queue: Queue, total: int, written: int) -> Store:
    """A group that is written so far."""
    store = queue.handle.store
    members = [run(f"g-{number}", queue=STEPS) for number in range(written)]
    store.group_write(NewGroup("g", STEPS, total, b"f", OnFailure.COLLECT, None), 0, members)
    return store


def _open_group(queue: Queue) -> Act:
    _group(queue, 2, 2)
    return lambda queue: queue.handle.store.group_open("g", b"f")


def _release_members(queue: Queue) -> Act:
    _group(queue, 2, 2).group_open("g", b"f")
    return lambda queue: queue.handle.store.settle_and_claim((), [ClaimRequest((LaneClaim(STEPS, 1),), 0)])


def _cancel_group(queue: Queue) -> Act:
    _group(queue, 2, 2).group_open("g", b"f")
    return lambda queue: queue.handle.store.group_cancel("g")


def _forget_group(queue: Queue) -> Act:
    _group(queue, 0, 0).group_open("g", b"f")
    return lambda queue: queue.handle.store.group_forget("g")


def _discard_group(queue: Queue) -> Act:
    """One half written, whose next member's name is taken."""
    WorkflowClient(queue).submit(run_id="g-1")
    group = NewGroup("g", STEPS, 2, b"f", OnFailure.COLLECT, None)
    _group(queue, 2, 1)
    return lambda queue: queue.handle.store.group_write(group, 1, [run("g-1", queue=STEPS)])


def feature_calls(wait: Callable[[int], None]) -> dict[str, Callable[[Queue], Act]]:
    """Return them; ``wait`` lets milliseconds pass."""
    return {
        "effects": _effects,
        "meter": _meter,
        "kv": _kv,
        "collect": _collect,
        "wait_again": _wait_again(wait),
        "set_limit": _set_limit,
        "settle_limit": _settle_limit,
        "clear_limit": _clear_limit,
        "refill": _refill(wait),
        "pause": _pause,
        "resume": _resume,
        "define_schedule": lambda _: _schedule,
        "move_schedule": _move_schedule,
        "drop_schedule": _drop_schedule,
        "open_group": _open_group,
        "release_members": _release_members,
        "cancel_group": _cancel_group,
        "forget_group": _forget_group,
        "discard_group": _discard_group,
    }
