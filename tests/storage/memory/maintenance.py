"""Sweeping and checking."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from taquba_workflow_sync.storage.port.job import SWEEP_LIMIT
from taquba_workflow_sync.storage.port.status import JobStatus
from tests.storage.memory import groups
from tests.storage.memory.state import Row, State
from tests.storage.memory.transaction import Transaction
from tests.storage.memory.values_by_key import expire


def sweep(tx: Transaction, alive: Collection[str]) -> int:
    """Remove finished rows past the retention frozen on them, and groups that are over."""
    over = [row for row in tx.state.rows.values() if row.expires_ms is not None and row.expires_ms <= tx.now_ms]
    over = [row for row in over if row.group is None]
    for row in over[:SWEEP_LIMIT]:
        groups.leave(tx, row)
        tx.drop(row)
    removed = min(len(over), SWEEP_LIMIT) + groups.sweep(tx, alive)
    return removed + expire(tx, max(SWEEP_LIMIT - removed, 0))


def check(state: State) -> list[str]:
    """Return what of the invariants does not hold."""
    problems = [f"row {key!r} is called {row.id!r}" for key, row in state.rows.items() if key != row.id]
    for row in state.rows.values():
        problems += [f"job {row.id} ({row.status}) {what}" for what in _problems_of(row)]
        if row.queue not in state.queues:
            problems.append(f"job {row.id} is of the unknown queue {row.queue!r}")
        if max(row.number, row.place) > state.last_number:
            problems.append(f"job {row.id} has a number that was never given out")
    problems += _doubles("number", (row.number for row in state.rows.values()))
    problems += _doubles("token", (row.held.token for row in state.rows.values() if row.held))
    problems += _doubles("dedup key", ((row.queue, row.dedup_key) for row in state.rows.values() if row.dedup_key))
    active = ((row.queue, row.run_id) for row in state.rows.values() if row.run and row.finished_ms is None)
    return [f"{each}; report it: nothing but a bug can do this" for each in (*problems, *_doubles("run id", active))]


def _problems_of(row: Row) -> list[str]:
    ordinals = [each.ordinal for each in row.history]
    wrong = {
        "must have a claim exactly while claimed": (row.held is not None) is not (row.status is JobStatus.CLAIMED),
        "must wait for a time exactly while scheduled": (row.due_ms is not None)
        is not (row.status is JobStatus.SCHEDULED),
        "must have ended exactly when finished": (row.finished_ms is not None) is not row.status.is_finished,
        "must expire only when finished": row.expires_ms is not None and row.finished_ms is None,
        "must be held only while its group is not open": row.is_held and row.status is not JobStatus.PENDING,
        "must hold a dedup key only while waiting": row.dedup_key is not None and not row.is_waiting,
        "must have a verdict only when finished": row.verdict is not None and row.finished_ms is None,
        "has more attempts than claims": not 0 <= row.attempts <= row.ordinal,
        "has a history out of order": ordinals != sorted(set(ordinals)),
    }
    return [what for what, is_wrong in wrong.items() if is_wrong]


def _doubles(what: str, values: object) -> list[str]:
    assert hasattr(values, "__iter__")
    return [f"the {what} {value!r} is there {many} times" for value, many in Counter(values).items() if many > 1]
