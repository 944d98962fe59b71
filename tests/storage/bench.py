"""What the storage tests share: short ways to say a job, a claim, a settlement; and a dump of all the port can show."""

from __future__ import annotations

from collections import Counter as CountOf
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from hashlib import sha256
from itertools import count
from typing import Any

from taquba_workflow_sync.errors import TaqubaError
from taquba_workflow_sync.storage.port.claim import NOTHING_RUNS, ClaimedRow, ClaimRequest, LaneClaim
from taquba_workflow_sync.storage.port.job import JobRow, NewJob
from taquba_workflow_sync.storage.port.notification import Subscription
from taquba_workflow_sync.storage.port.presence import Abandoned
from taquba_workflow_sync.storage.port.reads import Counts, Filter
from taquba_workflow_sync.storage.port.run import IfFinished, RunName, terminal_status
from taquba_workflow_sync.storage.port.settings import StepSettings
from taquba_workflow_sync.storage.port.settlement import (
    Ack,
    Action,
    Advance,
    DeadLetter,
    Hold,
    Nack,
    Ongoing,
    PutBack,
    Release,
    SettleCancelled,
    Settlement,
)
from taquba_workflow_sync.storage.port.status import JobStatus, Verdict
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.storage.port.tally import Tally
from taquba_workflow_sync.testing import ManualClock
from taquba_workflow_sync.wakeup import WakeUp

QUEUE = "steps"
LANE = "steps.terminal"
LEASE_MS = 30_000
KEEP_MS = 3_600_000
EVERYTHING = 1_000_000

#: One of each way to end a claim.
ACTIONS: dict[str, Action] = {
    "ack": Ack(result=b"result"),
    "ack as failed": Ack(Verdict.FAILED, None, "the runner said so"),
    "advance": Advance(b"next"),
    "advance later": Advance(b"next", delay_ms=5_000),
    "advance with headers": Advance(b"next", headers='{"a":"b"}'),
    "nack": Nack("boom"),
    "nack with backoff": Nack("boom", 5_000),
    "dead-letter": DeadLetter("broken"),
    "settle cancelled": SettleCancelled("enough"),
    "put back": PutBack(0, "not now"),
    "put back for later": PutBack(5_000, "not now"),
    "release": Release(),
}

_numbers = count(1)


def now_ms(clock: ManualClock) -> int:
    return int(clock.now().timestamp() * 1000)


def new_id() -> str:
    """An id unused so far, in ascending order."""
    return f"J{next(_numbers):08d}"


def job(queue: str = QUEUE, payload: bytes = b"work", **fields: Any) -> NewJob:
    return NewJob(id=fields.pop("id", None) or new_id(), queue=queue, payload=payload, **fields)


def run(
    run_id: str,
    payload: bytes = b"input",
    *,
    queue: str = QUEUE,
    if_finished: IfFinished = IfFinished.KEEP,
    keep_done_ms: int | None = KEEP_MS,
    **fields: Any,
) -> NewJob:
    name = RunName(run_id, sha256(payload).digest(), if_finished)
    return NewJob(
        id=fields.pop("id", None) or new_id(),
        queue=queue,
        payload=payload,
        run=name,
        keep_done_ms=keep_done_ms,
        **fields,
    )


def put(store: Store, *jobs: NewJob) -> list[str]:
    """Insert, and return the ids that answer."""
    return [answer.job_id for answer in store.insert(jobs)]


def put_one(store: Store, queue: str = QUEUE, payload: bytes = b"work", **fields: Any) -> str:
    return put(store, job(queue, payload, **fields))[0]


def put_run(store: Store, run_id: str = "r", **fields: Any) -> str:
    return put(store, run(run_id, **fields))[0]


def claims(
    store: Store,
    limit: int = EVERYTHING,
    *,
    queue: str | tuple[str, ...] = QUEUE,
    lease_ms: int = LEASE_MS,
    is_bare: bool = False,
    abandoned: Abandoned | None = None,
    never_reap: Collection[str] = NOTHING_RUNS,
) -> list[ClaimedRow]:
    names = (queue,) if isinstance(queue, str) else queue
    lanes = tuple(LaneClaim(name, lease_ms) for name in names)
    return store.settle_and_claim([], [ClaimRequest(lanes, limit, is_bare, abandoned, never_reap)])[1]


def claim(store: Store, **options: Any) -> ClaimedRow:
    """Claim exactly one job, which must be there."""
    (row,) = claims(store, 1, **options)
    return row


def ending(held: ClaimedRow, action: Action, *, yields_to_cancel: bool = False) -> Settlement:
    return Settlement(held.id, held.token, action, yields_to_cancel)


def settle(store: Store, held: ClaimedRow, action: Action, *, yields_to_cancel: bool = False) -> None:
    """End one claim, raising what the store answers."""
    error = refusal(store, held, action, yields_to_cancel=yields_to_cancel)
    if error is not None:
        raise error


def refusal(store: Store, held: ClaimedRow, action: Action, *, yields_to_cancel: bool = False) -> TaqubaError | None:
    (answer,), claimed = store.settle_and_claim([ending(held, action, yields_to_cancel=yields_to_cancel)], [])
    assert claimed == []
    assert not isinstance(answer, Ongoing)
    return answer


def holding(
    store: Store,
    held: ClaimedRow,
    payload: bytes = b"next",
    *,
    keeps_place: bool = False,
    settings: StepSettings | None = None,
    **leave: Any,
) -> Settlement:
    """The end of a step with leave to hold the claim."""
    lanes = leave.pop("lanes", (held.queue,))
    hold = Hold(store.token_after(held.token), held.rank, held.place, lanes, **leave)
    advance = Advance(payload, keeps_place=keeps_place, hold=hold, settings=settings)
    return Settlement(held.id, held.token, advance, True)


def stored(store: Store, job_id: str) -> JobRow:
    """The row of a job that must be there, whole."""
    row = store.get(job_id)
    assert row is not None, f"{job_id} is gone"
    return row


def status(store: Store, job_id: str) -> JobStatus | None:
    row = store.get(job_id)
    return None if row is None else row.status


def subscribe(store: Store, queue: str = QUEUE, lane: str = LANE, max_attempts: int = 5) -> None:
    store.subscribe(queue, Subscription(lane, max_attempts, None))


def owner_of(store: Store) -> str:
    """The id under which this handle claims."""
    (held,) = {stored(store, each.job_id).owner for each in store.running()}
    assert held is not None, "a worker loop's claim has an owner"
    return held


def rows_of(store: Store, queue: str, which: Filter | None = None) -> list[JobRow]:
    page = store.page(queue, which or Filter(), EVERYTHING, None)
    assert page.next_cursor is None
    return page.rows


def dump(store: Store) -> dict[str, Any]:
    """All that the port can show of a store."""
    queues = store.counts()
    ids = [row.id for queue in queues for row in rows_of(store, queue)]
    return {
        "counts": queues,
        "rows": {each: store.get(each) for each in ids},
        "history": {each: store.history(each) for each in ids},
        "signals": {each: store.signals(each) for each in ids},
        "events": {each: store.events(each) for each in ids},
        "tally": {queue: store.tally(queue) for queue in queues},
        "held here": sorted(store.running()),
        "next": {queue: store.next_work(queue) for queue in queues},
        "schedules": {queue: store.find_schedules(queue, limit=EVERYTHING).rows for queue in queues},
    }


@contextmanager
def writes_nothing(store: Store) -> Iterator[None]:
    """Assert that the block leaves all that can be seen as it was."""
    before = dump(store)
    yield
    assert dump(store) == before


def check_counters(store: Store, queues: Collection[str] | None = None) -> None:
    """Assert that counters of what is there equal the counted rows."""
    for queue, counts in store.counts().items():
        if queues is not None and queue not in queues:
            continue
        seen = [row.status for row in rows_of(store, queue)]
        for state in (JobStatus.PENDING, JobStatus.SCHEDULED, JobStatus.CLAIMED, JobStatus.DEAD):
            assert getattr(counts, state) == seen.count(state), f"{queue}: {state}"
        # These two count all ever, so rows that left can only make them larger.
        assert counts.done >= seen.count(JobStatus.DONE)
        assert counts.cancelled >= seen.count(JobStatus.CANCELLED)
        assert store.tally(queue) == tally_by_looking(store, queue)


def tally_by_looking(store: Store, queue: str) -> Tally:
    """How many runs stand where, by their rows."""
    runs = [row for row in rows_of(store, queue) if row.run_id is not None]
    return Tally(**CountOf(shows(row) for row in runs))


def shows(row: JobRow) -> str:
    """The state that a run shows."""
    if row.finished_ms is not None:
        return terminal_status(row.status, row.verdict).value
    if row.cancel_requested:
        return "cancelling"
    return "running" if row.status is JobStatus.CLAIMED else "pending"


def version_of(store: Store) -> object:
    """The version to wait from, told at once."""
    return store.wait_for_changes(None, 30.0, WakeUp()).version


def counts_of(store: Store, queue: str = QUEUE) -> Counts:
    return store.counts().get(queue, Counts())
