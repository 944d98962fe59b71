"""Limits set and cleared, what that asks for of rows in line seen to in pieces, and queues paused."""

from __future__ import annotations

from taquba_workflow_sync.storage.port.limit import Limit, check_room
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.limiting import CLOSED, MOVING, OWN, PAUSED, Pause, text_of
from taquba_workflow_sync.storage.relational.transaction import Transaction
from taquba_workflow_sync.storage.relational.transitions import rate as rates
from taquba_workflow_sync.storage.relational.transitions.line import MOST_ROWS, let_in, park_surplus
from taquba_workflow_sync.storage.relational.transitions.rate import limit_of

#: How many keys one transaction looks at: most have nothing to be parked or let in.
MOST_KEYS = 500


def set_limit(tx: Transaction, queue_name: str, limit: Limit) -> None:
    """Put a limit in the place of that of the same pattern."""
    tx.transitions.add("set_limit")
    queue = tx.make_queue(queue_name)
    pattern = limit.pattern or OWN
    most, window_ms = limit.rate or (None, None)
    prefix = pattern[:-1] if pattern.endswith("*") else None
    values = (pattern, limit.concurrency, most, window_ms, limit.hold, limit.max_waiting, queue, prefix)
    tx.execute(sql.SET_LIMIT, values)
    tx.execute(sql.SET_LIMITED, (1, queue))
    _changed(tx, queue)


def clear_limit(tx: Transaction, queue_name: str, pattern: str | None) -> None:
    """Remove a limit, if there is one."""
    queue = tx.find_queue(queue_name)
    if queue is not None and tx.execute(sql.CLEAR_LIMIT, (queue, pattern or OWN)).rowcount:
        tx.transitions.add("clear_limit")
        _changed(tx, queue)


def _changed(tx: Transaction, queue: int) -> None:
    tx.limits.clear()
    tx.forget_queue(queue)
    rates.touch(tx, queue, OWN)
    tx.woken.add(tx.queue_name(queue))


def settle_limits(tx: Transaction, queue_name: str) -> bool:
    """See to some keys of a limit that was set or cleared; whether there may be more."""
    queue = tx.find_queue(queue_name)
    return queue is not None and settle_some(tx, queue)


def settle_some(tx: Transaction, queue: int) -> bool:
    """See to some keys of a queue's first limit that is not settled; whether there was one."""
    found = tx.execute(sql.FIRST_UNSETTLED, (queue,)).fetchone()
    if found is None:
        return False
    tx.transitions.add("settle_limit")
    number, pattern, after = found
    settled_to = _settle(tx, queue, text_of(pattern), text_of(after))
    tx.execute(sql.SETTLED_TO, (settled_to, number))
    if settled_to is None and tx.execute(sql.DROP_GONE, (number,)).rowcount:
        if tx.execute(sql.HAS_LIMITS, (queue,)).fetchone() is None:
            tx.execute(sql.SET_LIMITED, (0, queue))
        _changed(tx, queue)
    return True


def _settle(tx: Transaction, queue: int, pattern: str, after: str) -> str | None:
    """See to the next keys of a pattern, up to a bound of rows; returns the last one seen to, None: all are."""
    if pattern == OWN:
        return None
    prefix = pattern[:-1] if pattern.endswith("*") else pattern
    moved = 0
    for _ in range(MOST_KEYS):
        key = prefix if not after and pattern == prefix else _next_key(tx, queue, max(after, prefix), after)
        if key is None or not key.startswith(prefix):
            return None
        moved += park_surplus(tx, queue, key, MOST_ROWS - moved)
        moved += let_in(tx, queue, key, MOST_ROWS - moved)
        rates.touch(tx, queue, key)
        if moved >= MOST_ROWS:
            return after  # there may be more of this key
        if pattern == prefix:
            return None
        after = key
    return after


def _next_key(tx: Transaction, queue: int, start: str, after: str) -> str | None:
    """Return the first key from ``start`` on, past it if it was seen to."""
    if start != after and tx.execute(sql.HAS_ROWS, (queue, start)).fetchone() is not None:
        return start
    found = tx.execute(sql.NEXT_KEY, (queue, start)).fetchone()
    return None if found is None else text_of(found[0])


def pause(tx: Transaction, queue_name: str, *, is_paused: bool) -> None:
    """Have nothing new be claimed from a queue, or have it claimed again."""
    if not is_paused and tx.find_queue(queue_name) is None:
        return
    queue = tx.make_queue(queue_name)
    stored = tx.queue(queue).paused
    if (stored in PAUSED) == is_paused:
        return
    tx.transitions.add("pause" if is_paused else "resume")
    tx.execute(sql.SET_PAUSED, (int(is_paused) + (stored in MOVING) * Pause.BY_MOVE, queue))
    tx.forget_queue(queue)
    tx.woken.add(queue_name)


def claimable(tx: Transaction, queue: int, most: int) -> int:
    """Return how many rows of a queue may be claimed now, at most ``most``: what its own limit and its pause allow."""
    if tx.queue(queue).paused in CLOSED:
        return 0
    limit = limit_of(tx, queue, OWN)
    if limit is not None and limit.concurrency is not None:
        claims = tx.claimed_now(queue)
        if claims >= limit.concurrency:  # a counter that is damaged must not close a queue for ever
            (claims,) = tx.execute(sql.COUNT_CLAIMED, (queue, claims)).fetchone()
        most = min(most, limit.concurrency - claims)
    if limit is not None and limit.rate is not None:
        most = min(most, limit.rate.most - rates.count(tx, queue, OWN, limit.rate))
    return max(most, 0)


def claimed(tx: Transaction, queue: int, rows: list[tuple[int, str | None]]) -> None:
    """Note claims, just made, for the rates that count them; each is of a row's number and its key."""
    own = limit_of(tx, queue, OWN)
    if own is not None and own.rate is not None:
        rates.note(tx, queue, OWN, own.rate, [seq for seq, _ in rows])
    keys: dict[str, list[int]] = {}
    for seq, key in rows:
        if key is not None:
            keys.setdefault(key, []).append(seq)
    for key, seqs in keys.items():
        limit = limit_of(tx, queue, key)
        if limit is not None and limit.rate is not None:
            rates.note(tx, queue, key, limit.rate, seqs)


def goes_back(tx: Transaction, queue_name: str) -> bool:
    """Whether a claim of a queue must be let go of after each step: it is paused, or counts its claims."""
    queue = tx.find_queue(queue_name)
    if queue is None:
        return False
    about = tx.queue(queue)
    return about.paused in CLOSED or (bool(about.limited) and limit_of(tx, queue, OWN) is not None)


def check_waiting(tx: Transaction, queue: int, queue_name: str, key: str | None, new: int, new_of_key: int) -> None:
    """Refuse a new row where as many wait as may; ``new`` and ``new_of_key`` come before it in the same call.

    Raises:
        QueueFullError: so many do.
    """
    own = limit_of(tx, queue, OWN)
    if own is not None and own.max_waiting is not None:
        check_room(queue_name, None, tx.pending_now(queue) + new, own.max_waiting)
    limit = None if key is None else limit_of(tx, queue, key)
    if key is not None and limit is not None and limit.max_waiting is not None:
        (waiting,) = tx.execute(sql.COUNT_PENDING_OF_KEY, (queue, key, limit.max_waiting)).fetchone()
        check_room(queue_name, key, waiting + new_of_key, limit.max_waiting)
