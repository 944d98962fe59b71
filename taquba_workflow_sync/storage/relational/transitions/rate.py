"""The claims that rates count: noted, forgotten, counted; and when a rate has room again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from taquba_workflow_sync.storage.port.limit import HoldFor, Limit, Parked, Rate
from taquba_workflow_sync.storage.port.status import JobStatus
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.limiting import OWN, limit_at, text_of, window_at
from taquba_workflow_sync.storage.relational.transaction import DueClock, Transaction

#: How many claims of before the window go with each that is noted: more than come, so that they get fewer.
_CLEAR_AT_ONCE: Final = 3
_NEVER: Final[tuple[DueClock, int | None]] = (DueClock.WALL, None)


def limit_of(tx: Transaction, queue: int, key: str) -> Limit | None:
    """Return the limit that a key is under, or the queue's own for :data:`OWN`."""
    if not tx.queue(queue).limited:
        return None
    if (queue, key) not in tx.limits:
        tx.limits[queue, key] = limit_at(tx.connection, queue, key)
    return tx.limits[queue, key]


def note(tx: Transaction, queue: int, key: str, rate: Rate, jobs: Iterable[int]) -> None:
    """Note the claims of some rows, made now."""
    number = _number(tx, queue, key)
    # By the boot clock a moment late: what it has begun to count of a millisecond must not shorten the window.
    at_ms = tx.boot_ms + 1 if tx.boot else tx.now_ms
    for job in jobs:
        tx.execute(sql.ADD_RATED, (number, job, tx.boot, at_ms, tx.now_ms, number))
        tx.execute(sql.DROP_OLD_RATED, (number, number, _CLEAR_AT_ONCE, *_window(tx, rate)))
    touch(tx, queue, key)


def forget(tx: Transaction, queue: int, key: str, job: int) -> None:
    """Forget the last claim of a row, which is put back and never began."""
    found = tx.execute(sql.FIND_RATE, (queue, key)).fetchone()
    if found is None:
        return
    (last,) = tx.execute(sql.LAST_RATED_OF, (found[0], job)).fetchone()
    if last is not None:
        tx.execute(sql.DROP_RATED, (found[0], last))
    touch(tx, queue, key)


def count(tx: Transaction, queue: int, key: str, rate: Rate) -> int:
    """Return how many claims the window that ends now has."""
    found = tx.execute(sql.FIND_RATE, (queue, key)).fetchone()
    if found is None:
        return 0
    (many,) = tx.execute(sql.COUNT_IN_WINDOW, (found[0], *_window(tx, rate))).fetchone()
    return int(many)


def touch(tx: Transaction, queue: int, key: str) -> None:
    """Have it be told, before the commit, when the rate has room for what is parked."""
    if not tx.rates:
        tx.before_flush.append(lambda: _store_refills(tx))
    tx.rates.add((queue, key))


def _number(tx: Transaction, queue: int, key: str) -> int:
    found = tx.execute(sql.FIND_RATE, (queue, key)).fetchone()
    if found is not None:
        return int(found[0])
    number = tx.execute(sql.ADD_RATE, (queue, key)).lastrowid
    assert number is not None
    return number


def _window(tx: Transaction, rate: Rate) -> tuple[int, int, int, int, int]:
    return window_at(tx.boot, tx.now_ms, tx.boot_ms, rate)


def _store_refills(tx: Transaction) -> None:
    for queue, key in sorted(tx.rates):
        limit = limit_of(tx, queue, key)
        rate = None if limit is None else limit.rate
        found = tx.execute(sql.FIND_RATE, (queue, key)).fetchone()
        if found is None and (rate is None or not _has_parked(tx, queue, key)):
            continue
        number, *stored = (_number(tx, queue, key), 0, None, None) if found is None else found
        clock, refill_ms = _NEVER if limit is None or rate is None else _refill(tx, queue, key, number, limit, rate)
        is_used = rate is not None if key == OWN else tx.execute(sql.HAS_ROWS, (queue, key)).fetchone() is not None
        idle_ms = None if is_used and rate is not None else tx.now_ms + (0 if rate is None else rate.window_ms)
        if stored != [clock, refill_ms, idle_ms]:
            tx.execute(sql.SET_REFILL, (clock, refill_ms, idle_ms, number))
    tx.rates.clear()


def _refill(
    tx: Transaction, queue: int, key: str, number: int, limit: Limit, rate: Rate
) -> tuple[DueClock, int | None]:
    """Return when so many claims have left the window that one more may enter the line; None: no time tells."""
    if key == OWN or not _has_parked(tx, queue, key):
        return _NEVER
    most = limit.concurrency
    waits_with_slot = limit.hold is HoldFor.RUN and count_rows(tx, queue, key, JobStatus.PENDING, Parked.FOR_RATE, 1)
    if most is not None and not waits_with_slot and slots_taken(tx, queue, key, limit, most) >= most:
        return _NEVER  # it waits for a slot, and who gives that back looks again
    in_line = count_rows(tx, queue, key, JobStatus.PENDING, Parked.NO, rate.most)
    (claims,) = tx.execute(sql.COUNT_IN_WINDOW, (number, *_window(tx, rate))).fetchone()
    too_many = in_line + claims - rate.most + 1
    if not 0 < too_many <= claims:
        return _NEVER
    boot, at_ms, wall_ms = tx.execute(sql.IN_WINDOW, (number, *_window(tx, rate), too_many - 1)).fetchone()
    if boot == tx.boot and boot != 0:
        return DueClock.BOOT, at_ms + rate.window_ms
    return DueClock.WALL, (at_ms if boot == tx.boot else wall_ms) + rate.window_ms


def _has_parked(tx: Transaction, queue: int, key: str) -> bool:
    return any(
        count_rows(tx, queue, key, JobStatus.PENDING, parked, 1) for parked in (Parked.FOR_SLOT, Parked.FOR_RATE)
    )


def count_rows(tx: Transaction, queue: int, key: str, status: JobStatus, parked: Parked, most: int) -> int:
    """Return how many rows of a key are in a state, at most ``most``."""
    (many,) = tx.execute(sql.COUNT_OF_KEY, (queue, key, status, parked, most)).fetchone()
    return int(many)


def slots_taken(tx: Transaction, queue: int, key: str, limit: Limit, most: int) -> int:
    """Return how many slots of a key are taken; each kind of holder is counted up to ``most``."""
    taken = count_rows(tx, queue, key, JobStatus.PENDING, Parked.NO, most)
    taken += count_rows(tx, queue, key, JobStatus.CLAIMED, Parked.NO, most)
    if limit.hold is HoldFor.RUN:
        taken += count_rows(tx, queue, key, JobStatus.PENDING, Parked.FOR_RATE, most)
        taken += count_rows(tx, queue, key, JobStatus.SCHEDULED, Parked.FOR_RATE, most)
    return taken


def clear_idle(tx: Transaction, most: int) -> int:
    """Remove what is noted of keys that have had no row for a window; returns how many rows went."""
    removed = 0
    while removed < most:
        found = tx.execute(sql.IDLE_RATES, (tx.now_ms,)).fetchone()
        if found is None:
            break
        number, queue, key = found[0], found[1], text_of(found[2])
        limit = limit_at(tx.connection, queue, key)
        if limit is not None and limit.rate is not None and count(tx, queue, key, limit.rate):
            # The wall clock was set forward: by the other one the window is not over.
            tx.execute(sql.SET_REFILL, (DueClock.WALL, None, tx.now_ms + limit.rate.window_ms, number))
            removed += 1
            continue
        tx.transitions.add("collect")
        removed += tx.execute(sql.DROP_SOME_RATED, (number, number, most - removed)).rowcount
        if removed < most:
            tx.execute(sql.DROP_RATE, (number,))
            removed += 1
    return removed
