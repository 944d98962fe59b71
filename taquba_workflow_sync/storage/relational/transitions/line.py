"""The line of a limited key: what enters it, what leaves it, and who is let in then. See ``storage.port.limit``.

All of it is said by the rows: how many slots are taken is counted when it matters, over an index that holds the rows
of a key by their state, and never further than the limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from taquba_workflow_sync.storage.port.limit import HoldFor, Limit, Parked, rank_of
from taquba_workflow_sync.storage.port.status import JobStatus
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.limiting import OWN
from taquba_workflow_sync.storage.relational.rows import AddressedRow, Held
from taquba_workflow_sync.storage.relational.transaction import Transaction
from taquba_workflow_sync.storage.relational.transitions import rate as rates
from taquba_workflow_sync.storage.relational.transitions.rate import count_rows, limit_of

#: The most rows of a key that one transaction lets in or parks.
MOST_ROWS: Final = 500
_NO_BOUND: Final = 2**53


class _Waiting(NamedTuple):
    rank: int
    place: int
    seq: int


class _Room(NamedTuple):
    """How many more rows may take a slot, and enter the line; negative: so many are too many."""

    slots: int
    line: int


def rank_at(tx: Transaction, priority: int, aging_ms: int | None, due_ms: int | None = None) -> int:
    """Return the rank of a row that enters the line now, or when it is due by the wall clock."""
    if aging_ms is None:
        return priority
    clock = tx.line_clock()
    return rank_of(priority, aging_ms, clock if due_ms is None else max(clock, due_ms))


def enter_line(tx: Transaction, queue: int, key: str | None, seq: int, *, has_slot: bool = False) -> None:
    """Have a row that has just become pending take its slot, or be parked; all that enters a line comes through here.

    ``has_slot``: its run has kept one.
    """
    if key is None:
        return
    limit = limit_of(tx, queue, key)
    if limit is None:
        return
    if limit.rate is not None:
        rates.touch(tx, queue, key)
    room = _room(tx, queue, key, limit)  # the row itself is counted
    has_room = room.slots >= 0 and room.line >= 0
    if has_room and not _is_anybody_parked(tx, queue, key, limit):
        return
    _park(tx, queue, seq, Parked.FOR_RATE if has_slot else Parked.FOR_SLOT)
    if has_room or limit.hold is HoldFor.RUN:
        let_in(tx, queue, key)
    _swap(tx, queue, key, limit)


def leave_line(tx: Transaction, queue: int, key: str | None) -> None:
    """Let in who is next: a row has left line and claim, or was parked and is gone."""
    if key is not None:
        let_in(tx, queue, key)


def go_on(tx: Transaction, held: Held, status: JobStatus) -> None:
    """Have a row whose claim has just ended, and whose run goes on, give its slot back, or keep it; and enter the line
    if it is pending."""
    key = held.limit_key
    limit = None if key is None else limit_of(tx, held.queue, key)
    if key is None or limit is None:
        return
    keeps = False
    if limit.hold is HoldFor.RUN:
        # Scheduled, it is not among what is counted; it keeps its slot where it would not be one too many.
        keeps = _room(tx, held.queue, key, limit).slots >= (1 if status is JobStatus.SCHEDULED else 0)
    if status is JobStatus.PENDING:
        enter_line(tx, held.queue, key, held.seq, has_slot=keeps)
    elif keeps:
        tx.execute(sql.SET_PARKED, (Parked.FOR_RATE, held.seq))
    else:
        let_in(tx, held.queue, key)


def release(tx: Transaction, held: Held) -> None:
    """Have a row whose claim never began stand in line as it did, with its slot; parked only where it is too many."""
    own = limit_of(tx, held.queue, OWN)
    if own is not None and own.rate is not None:
        rates.forget(tx, held.queue, OWN, held.seq)
    key = held.limit_key
    limit = None if key is None else limit_of(tx, held.queue, key)
    if key is None or limit is None:
        return
    if limit.rate is not None:
        rates.forget(tx, held.queue, key, held.seq)
    park_surplus(tx, held.queue, key, MOST_ROWS)


def let_in(tx: Transaction, queue: int, key: str, most: int = MOST_ROWS) -> int:
    """Un-park the first of a key while it has a free slot and its rate has room; returns how many."""
    limit = limit_of(tx, queue, key)
    if not tx.queue(queue).limited:
        return 0
    if limit is not None and limit.rate is not None:
        rates.touch(tx, queue, key)
    if not _is_anybody_parked(tx, queue, key, limit):
        return 0
    room = _Room(most, most) if limit is None else _room(tx, queue, key, limit)
    keeps = limit is not None and limit.hold is HoldFor.RUN
    most = min(most, room.line) if keeps else min(most, room.line, room.slots)
    for_slot = _first_parked(tx, queue, key, Parked.FOR_SLOT, min(most, room.slots))
    for_rate = _first_parked(tx, queue, key, Parked.FOR_RATE, most) if keeps or limit is None else []
    first = sorted((*for_slot, *for_rate))[: max(most, 0)]
    for row in first:
        _park(tx, queue, row.seq, Parked.NO)
    if first:
        tx.woken.add(tx.queue_name(queue))
    return len(first)


def park_surplus(tx: Transaction, queue: int, key: str, most: int) -> int:
    """Park what stands in line of a key above its limit, the last first, and take slots back that runs keep above it;
    returns how many rows that were."""
    limit = limit_of(tx, queue, key)
    parked = 0 if limit is not None and limit.hold is HoldFor.RUN else _end_keeping(tx, queue, key, most)
    if limit is None:
        return parked
    keeps = limit.hold is HoldFor.RUN
    room = _room(tx, queue, key, limit)
    too_many = min(max(-room.slots, -room.line, 0), most - parked)
    # First those that were never claimed, then, where runs keep their slots, those that have to give them back.
    for most_claims in (0, _NO_BOUND) if keeps else (_NO_BOUND,):
        for row in _last_in_line(tx, queue, key, most_claims, too_many):
            is_for_rate = most_claims > 0 and keeps and room.slots >= 0
            _park(tx, queue, row.seq, Parked.FOR_RATE if is_for_rate else Parked.FOR_SLOT)
            parked, too_many = parked + 1, too_many - 1
    if keeps and too_many > 0 and room.slots < 0:
        parked += _take_back(tx, queue, key, min(-_room(tx, queue, key, limit).slots, most - parked))
    return parked


def promoted(tx: Transaction, queue: int, rows: Sequence[tuple[int, str | None]]) -> None:
    """Have due rows with keys, which are parked, enter their lines; each is its number and its key."""
    keys: dict[str, list[int]] = {}
    for seq, key in rows:
        if key is not None:
            keys.setdefault(key, []).append(seq)
    for key, seqs in keys.items():
        tx.count_parked(queue, len(seqs))
        limit = limit_of(tx, queue, key)
        if limit is None:
            for seq in seqs:
                _park(tx, queue, seq, Parked.NO)
        else:
            let_in(tx, queue, key)
            _swap(tx, queue, key, limit)


def entered(tx: Transaction, queue: int, rows: Sequence[tuple[int, str | None]]) -> None:
    """Have rows with keys that have just become pending together enter their lines, in the order of these."""
    keyed = [(seq, key) for seq, key in rows if key is not None]
    for seq, _ in keyed:
        tx.execute(sql.SET_PARKED, (Parked.FOR_SLOT, seq))
    promoted(tx, queue, keyed)


def enter_early(tx: Transaction, row: AddressedRow) -> None:
    """Have a row that was scheduled, and has just become pending before its time, enter its line."""
    rank = row.rank if row.aging_ms is None else min(row.rank, rank_at(tx, row.priority, row.aging_ms))
    if rank != row.rank:
        tx.execute(sql.SET_RANK, (rank, row.seq))
    if row.limit_key is not None and tx.queue(row.queue).limited:
        tx.execute(sql.SET_PARKED, (Parked.FOR_RATE if row.parked == Parked.FOR_RATE else Parked.FOR_SLOT, row.seq))
        promoted(tx, row.queue, [(row.seq, row.limit_key)])


def _room(tx: Transaction, queue: int, key: str, limit: Limit) -> _Room:
    slots = line = _NO_BOUND
    most = max(limit.concurrency or 0, 0 if limit.rate is None else limit.rate.most) + MOST_ROWS
    if limit.concurrency is not None:
        slots = limit.concurrency - rates.slots_taken(tx, queue, key, limit, most)
    if limit.rate is not None:
        in_line = count_rows(tx, queue, key, JobStatus.PENDING, Parked.NO, most)
        line = limit.rate.most - in_line - rates.count(tx, queue, key, limit.rate)
    return _Room(slots, line)


def _ways_to_be_parked(limit: Limit | None) -> tuple[Parked, ...]:
    """Return how rows of a key may be parked; slots that runs have kept under another limit are taken back first."""
    return (Parked.FOR_SLOT, Parked.FOR_RATE) if limit is None or limit.hold is HoldFor.RUN else (Parked.FOR_SLOT,)


def _is_anybody_parked(tx: Transaction, queue: int, key: str, limit: Limit | None) -> bool:
    return any(count_rows(tx, queue, key, JobStatus.PENDING, each, 1) for each in _ways_to_be_parked(limit))


def _first_parked(tx: Transaction, queue: int, key: str, parked: Parked, most: int) -> list[_Waiting]:
    if most <= 0:
        return []
    rows = tx.execute(tx.unreadable.pass_over(sql.FIRST_PARKED), (queue, key, parked, most)).fetchall()
    return [_Waiting._make(row) for row in rows]


def _last_in_line(tx: Transaction, queue: int, key: str, most_claims: int, most: int) -> list[_Waiting]:
    if most <= 0:
        return []
    rows = tx.execute(tx.unreadable.pass_over(sql.LAST_IN_LINE), (queue, key, most_claims, most)).fetchall()
    return [_Waiting._make(row) for row in rows]


def _swap(tx: Transaction, queue: int, key: str, limit: Limit) -> None:
    """Have what is parked and goes before one of its key in line change places with it."""
    most_claims = 0 if limit.hold is HoldFor.RUN else _NO_BOUND
    for _ in range(MOST_ROWS):
        parked = [row for why in _ways_to_be_parked(limit) for row in _first_parked(tx, queue, key, why, 1)]
        last = _last_in_line(tx, queue, key, most_claims, 1)
        if not parked or not last or min(parked) >= last[0]:
            return
        _park(tx, queue, last[0].seq, Parked.FOR_SLOT)
        _park(tx, queue, min(parked).seq, Parked.NO)


def _park(tx: Transaction, queue: int, seq: int, parked: Parked) -> None:
    """Park a pending row, or let it in."""
    tx.execute(sql.SET_PARKED, (parked, seq))
    tx.count_parked(queue, -1 if parked is Parked.NO else 1)


def _end_keeping(tx: Transaction, queue: int, key: str, most: int) -> int:
    """Have slots be free that runs have kept, where they keep none any more."""
    parked = _first_parked(tx, queue, key, Parked.FOR_RATE, most)
    for row in parked:
        tx.execute(sql.SET_PARKED, (Parked.FOR_SLOT, row.seq))
    return len(parked) + _end_between(tx, queue, key, most - len(parked))


def _end_between(tx: Transaction, queue: int, key: str, most: int) -> int:
    between = tx.execute(tx.unreadable.pass_over(sql.KEPT_BETWEEN), (queue, key, max(most, 0))).fetchall()
    for (seq,) in between:
        tx.execute(sql.SET_PARKED, (Parked.NO, seq))
    return len(between)


def _take_back(tx: Transaction, queue: int, key: str, most: int) -> int:
    """Take slots from runs that keep them and are not in line."""
    parked = _first_parked(tx, queue, key, Parked.FOR_RATE, most)
    for row in parked:
        tx.execute(sql.SET_PARKED, (Parked.FOR_SLOT, row.seq))
    return len(parked) + _end_between(tx, queue, key, most - len(parked))
