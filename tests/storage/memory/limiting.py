"""Limits: who stands in line of a key and who is parked, told anew from the rows whenever one moves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from taquba_workflow_sync.clock import LAST_MS
from taquba_workflow_sync.storage.port.job import NewJob
from taquba_workflow_sync.storage.port.limit import HoldFor, Limit, Parked, check_room, matches, rank_of
from taquba_workflow_sync.storage.port.status import JobStatus
from taquba_workflow_sync.storage.port.usage import Usage, usage_of
from tests.storage.memory.state import QueueRecord, Rated, Row, State
from tests.storage.memory.transaction import Transaction

_PENDING, _SCHEDULED, _CLAIMED = JobStatus.PENDING, JobStatus.SCHEDULED, JobStatus.CLAIMED
_ENOUGH = 2**60


def set_limit(tx: Transaction, queue: str, limit: Limit) -> None:
    """Put a limit in the place of that of the same pattern."""
    tx.state.queues.setdefault(queue, QueueRecord())
    tx.state.limits[queue, limit.pattern or ""] = limit
    tx.state.unsettled.add(queue)
    tx.woken.add(queue)


def clear_limit(tx: Transaction, queue: str, pattern: str | None) -> None:
    """Remove a limit, if there is one."""
    if tx.state.limits.pop((queue, pattern or ""), None) is not None:
        tx.state.unsettled.add(queue)
        tx.woken.add(queue)


def settle_limits(tx: Transaction, queue: str) -> bool:
    """See to every key at once; whether there was anything to be seen to."""
    if queue not in tx.state.unsettled:
        return False
    tx.state.unsettled.discard(queue)
    for key in sorted({row.limit_key for row in tx.state.of_queue(queue) if row.limit_key is not None}):
        _park_surplus(tx, queue, key)
        let_in(tx, queue, key)
    return True


def limits(state: State, queue: str) -> list[Limit]:
    """Return a queue's limits in the order of their patterns."""
    return [limit for (name, _), limit in sorted(state.limits.items(), key=lambda each: each[0]) if name == queue]


def limit_usage(state: State, queue: str) -> list[Usage]:
    """Return what there is of a queue and of the keys of its limits."""
    claimed = Counter(row.limit_key for row in state.of_queue(queue, _CLAIMED))
    parked = Counter(
        row.limit_key for row in state.of_queue(queue, _PENDING) if row.parked in (Parked.FOR_SLOT, Parked.FOR_RATE)
    )
    own = Usage(None, claimed.total(), parked.total())
    keys = [Usage(key, claimed[key], parked[key]) for key in {*claimed, *parked} if key is not None]
    return usage_of(own, limits(state, queue), keys)


def pause(tx: Transaction, queue: str, *, is_paused: bool) -> None:
    """Pause a queue, or resume it."""
    if queue in tx.state.queues or is_paused:
        tx.state.queues[queue] = replace(tx.state.queues.get(queue, QueueRecord()), is_paused=is_paused)
        tx.woken.add(queue)


def limit_of(state: State, queue: str, key: str) -> Limit | None:
    """Return the limit of a key: an exact one, else the longest pattern's."""
    found = [
        limit for (name, pattern), limit in state.limits.items() if name == queue and pattern and matches(pattern, key)
    ]
    return max(found, key=lambda limit: (limit.pattern == key, len(limit.pattern or "")), default=None)


def entered(tx: Transaction, row: Row, *, at_ms: int | None = None) -> Row:
    """Return a row with its rank as of entering the line, now or at a later time."""
    if row.aging_ms is None:
        return replace(row, rank=row.priority)
    tx.state.line_clock = max(tx.state.line_clock, tx.now_ms)
    clock = max(tx.state.line_clock, min(at_ms or 0, LAST_MS))
    return replace(row, rank=rank_of(row.priority, row.aging_ms, clock))


def enter_line(tx: Transaction, job_id: str, *, has_slot: bool = False) -> None:
    """Have a pending row take its slot, or be parked."""
    row = tx.state.rows[job_id]
    if row.limit_key is None or row.status is not _PENDING or limit_of(tx.state, row.queue, row.limit_key) is None:
        return
    _set(tx, row, Parked.FOR_RATE if has_slot else Parked.FOR_SLOT)
    let_in(tx, row.queue, row.limit_key)
    _swap(tx, row.queue, row.limit_key)


def enter_early(tx: Transaction, row: Row) -> None:
    """Have a row that was scheduled, and is pending before its time, enter its line."""
    has_slot = row.parked is Parked.FOR_RATE
    rank = row.rank if row.aging_ms is None else min(row.rank, entered(tx, row).rank)
    tx.put(replace(row, rank=rank, parked=Parked.NO))
    enter_line(tx, row.id, has_slot=has_slot)


def leave_line(tx: Transaction, row: Row) -> None:
    """Let in who is next."""
    if row.limit_key is not None:
        let_in(tx, row.queue, row.limit_key)


def go_on(tx: Transaction, job_id: str) -> None:
    """Have a row whose claim has ended, and whose run goes on, give its slot back or keep it."""
    row = tx.state.rows[job_id]
    limit = None if row.limit_key is None else limit_of(tx.state, row.queue, row.limit_key)
    if row.limit_key is None or limit is None:
        return
    others = len(_slots(tx.state, row.queue, row.limit_key, limit)) - (row.status is _PENDING)
    keeps = limit.hold is HoldFor.RUN and others < (limit.concurrency or _ENOUGH)
    if row.status is _PENDING:
        enter_line(tx, job_id, has_slot=keeps)
    elif keeps:
        _set(tx, row, Parked.FOR_RATE)
    else:
        let_in(tx, row.queue, row.limit_key)


def release(tx: Transaction, row: Row) -> None:
    """Have a row whose claim never began stand in line as it did."""
    for key in ("", row.limit_key):
        mine = [each for each in tx.state.rated if each[:3] == (row.queue, key, row.id)]
        if mine:
            kept = list(tx.state.rated)
            kept.reverse()
            kept.remove(mine[-1])
            tx.state.rated = tuple(reversed(kept))
    if row.limit_key is not None:
        _park_surplus(tx, row.queue, row.limit_key)


def promoted(tx: Transaction, queue: str, rows: Iterable[Row]) -> None:
    """Have due rows enter their lines, then what rates have room for."""
    keys: set[str] = set()
    for row in rows:
        if row.limit_key is not None and limit_of(tx.state, queue, row.limit_key) is not None:
            _set(tx, row, Parked.FOR_RATE if row.parked is Parked.FOR_RATE else Parked.FOR_SLOT)
            keys.add(row.limit_key)
        elif row.parked:
            _set(tx, row, Parked.NO)
    for key in sorted(keys):
        let_in(tx, queue, key)
        _swap(tx, queue, key)
    for key in sorted({row.limit_key for row in tx.state.of_queue(queue, _PENDING) if row.limit_key is not None}):
        let_in(tx, queue, key)
    settle_limits(tx, queue)


def let_in(tx: Transaction, queue: str, key: str) -> None:
    """Un-park the first of a key while there is room."""
    limit = limit_of(tx.state, queue, key)
    while True:
        parked = sorted(_of_key(tx, queue, key, Parked.FOR_SLOT, Parked.FOR_RATE), key=_in_line)
        if limit is not None and _rate_room(tx, queue, key, limit) <= 0:
            return
        if limit is not None and len(_slots(tx.state, queue, key, limit)) >= (limit.concurrency or _ENOUGH):
            parked = [row for row in parked if row.parked is Parked.FOR_RATE and limit.hold is HoldFor.RUN]
        if not parked:
            return
        _set(tx, parked[0], Parked.NO)
        tx.woken.add(queue)


def claimable(tx: Transaction, queue: str, most: int) -> int:
    """Return how many rows of a queue may be claimed now."""
    record, limit = tx.state.queues.get(queue), tx.state.limits.get((queue, ""))
    if record is not None and record.is_paused:
        return 0
    if limit is not None and limit.concurrency is not None:
        most = min(most, limit.concurrency - len(tx.state.of_queue(queue, _CLAIMED)))
    if limit is not None and limit.rate is not None:
        most = min(most, limit.rate.most - len(in_window(tx.state, tx.now_ms, queue, "", limit)))
    return max(most, 0)


def note(tx: Transaction, row: Row) -> None:
    """Note a claim for the rates that count it."""
    for key, limit in (
        ("", tx.state.limits.get((row.queue, ""))),
        (row.limit_key, None if row.limit_key is None else limit_of(tx.state, row.queue, row.limit_key)),
    ):
        if key is not None and limit is not None and limit.rate is not None:
            tx.state.rated = (*tx.state.rated, (row.queue, key, row.id, tx.now_ms))


def goes_back(tx: Transaction, queue: str) -> bool:
    """Whether no claim of a queue is held."""
    record = tx.state.queues.get(queue)
    return (queue, "") in tx.state.limits or (record is not None and record.is_paused)


def check_waiting(tx: Transaction, job: NewJob) -> None:
    """Refuse a new row where as many wait as may."""
    waiting = tx.state.of_queue(job.queue, _PENDING)
    own = tx.state.limits.get((job.queue, ""))
    check_room(job.queue, None, len(waiting), None if own is None else own.max_waiting)
    limit = None if job.limit_key is None else limit_of(tx.state, job.queue, job.limit_key)
    if limit is not None:
        of_key = [row for row in waiting if row.limit_key == job.limit_key]
        check_room(job.queue, job.limit_key, len(of_key), limit.max_waiting)


def in_window(state: State, now_ms: int, queue: str, key: str, limit: Limit) -> list[Rated]:
    """Return the claims of a key in the window that ends now, in their order."""
    if limit.rate is None:
        return []
    since = now_ms - limit.rate.window_ms
    return [each for each in state.rated if each[:2] == (queue, key) and each[3] > since]


def closed_until(state: State, now_ms: int, queue: str) -> int | None:
    """Return from when on something can be claimed from a queue; None: no time tells."""
    record, limit = state.queues.get(queue), state.limits.get((queue, ""))
    if record is not None and record.is_paused:
        return None
    if limit is None:
        return now_ms
    if limit.concurrency is not None and len(state.of_queue(queue, _CLAIMED)) >= limit.concurrency:
        return None
    claims = in_window(state, now_ms, queue, "", limit)
    if limit.rate is None or len(claims) < limit.rate.most:
        return now_ms
    return claims[len(claims) - limit.rate.most][3] + limit.rate.window_ms


def refills(state: State, now_ms: int, queue: str) -> list[int]:
    """Return when rates of keys have room for what is parked."""
    found: list[int] = [now_ms] if queue in state.unsettled else []
    parked = {row.limit_key for row in state.of_queue(queue, _PENDING) if row.parked and row.limit_key is not None}
    for key in parked:
        limit = limit_of(state, queue, key)
        if limit is None or limit.rate is None:
            continue
        claims = in_window(state, now_ms, queue, key, limit)
        of_key = [row for row in state.of_queue(queue, _PENDING) if row.limit_key == key]
        has_slot = limit.hold is HoldFor.RUN and any(row.parked is Parked.FOR_RATE for row in of_key)
        if not has_slot and len(_slots(state, queue, key, limit)) >= (limit.concurrency or _ENOUGH):
            continue
        too_many = sum(not row.parked for row in of_key) + len(claims) - limit.rate.most + 1
        if too_many <= 0:
            found.append(now_ms)
        elif too_many <= len(claims):
            found.append(claims[too_many - 1][3] + limit.rate.window_ms)
    return found


def _park_surplus(tx: Transaction, queue: str, key: str) -> None:
    limit = limit_of(tx.state, queue, key)
    if limit is None or limit.hold is HoldFor.STEP:
        for row in tx.state.of_queue(queue, _PENDING, _SCHEDULED):
            if row.limit_key == key and row.parked is Parked.FOR_RATE:
                _set(tx, row, Parked.FOR_SLOT if row.status is _PENDING else Parked.NO)
    if limit is None:
        return
    keeps, most = limit.hold is HoldFor.RUN, limit.concurrency or _ENOUGH
    while True:
        slots = len(_slots(tx.state, queue, key, limit)) - most
        rate = -_rate_room(tx, queue, key, limit)
        line = sorted(_of_key(tx, queue, key, Parked.NO), key=_in_line, reverse=True)
        if keeps:
            line.sort(key=lambda row: row.ordinal > 0)
        if max(slots, rate) <= 0 or not line:
            break
        is_for_rate = keeps and line[0].ordinal > 0 and slots <= 0
        _set(tx, line[0], Parked.FOR_RATE if is_for_rate else Parked.FOR_SLOT)
    kept = [row for row in tx.state.of_queue(queue, _PENDING, _SCHEDULED) if row.limit_key == key]
    kept = [row for row in kept if row.parked is Parked.FOR_RATE]
    kept.sort(key=lambda row: (row.status is _SCHEDULED, *_in_line(row)))
    for row in kept[: max(len(_slots(tx.state, queue, key, limit)) - most, 0)]:
        _set(tx, row, Parked.FOR_SLOT if row.status is _PENDING else Parked.NO)


def _swap(tx: Transaction, queue: str, key: str) -> None:
    limit = limit_of(tx.state, queue, key)
    while True:
        parked = sorted(_of_key(tx, queue, key, Parked.FOR_SLOT, Parked.FOR_RATE), key=_in_line)
        line = [
            row
            for row in _of_key(tx, queue, key, Parked.NO)
            if limit is None or limit.hold is HoldFor.STEP or row.ordinal == 0
        ]
        line.sort(key=_in_line)
        if not parked or not line or _in_line(parked[0]) >= _in_line(line[-1]):
            return
        _set(tx, line[-1], Parked.FOR_SLOT)
        _set(tx, parked[0], Parked.NO)


def _rate_room(tx: Transaction, queue: str, key: str, limit: Limit) -> int:
    if limit.rate is None:
        return _ENOUGH
    claims = in_window(tx.state, tx.now_ms, queue, key, limit)
    return limit.rate.most - len(_of_key(tx, queue, key, Parked.NO)) - len(claims)


def _slots(state: State, queue: str, key: str, limit: Limit) -> list[Row]:
    """Return the rows of a key that have a slot."""
    rows = [row for row in state.of_queue(queue, _PENDING, _SCHEDULED, _CLAIMED) if row.limit_key == key]
    return [
        row
        for row in rows
        if row.status is _CLAIMED
        or (row.status is _PENDING and not row.parked)
        or (row.parked is Parked.FOR_RATE and limit.hold is HoldFor.RUN)
    ]


def _of_key(tx: Transaction, queue: str, key: str, *parked: Parked) -> list[Row]:
    return [row for row in tx.state.of_queue(queue, _PENDING) if row.limit_key == key and row.parked in parked]


def _in_line(row: Row) -> tuple[int, int]:
    return row.rank, row.place


def _set(tx: Transaction, row: Row, parked: Parked) -> None:
    tx.state.rows[row.id] = replace(tx.state.rows[row.id], parked=parked)
