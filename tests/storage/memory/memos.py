"""Memos: entries of a row, written under its claim, each once."""

from __future__ import annotations

from dataclasses import replace

from taquba_workflow_sync.errors import ClaimLostError
from taquba_workflow_sync.storage.port.memo import MemoPage, MemoScope, check_room, size_of_entry
from tests.storage.memory.signals import used_bytes
from tests.storage.memory.state import Row, State
from tests.storage.memory.transaction import Transaction


def put(tx: Transaction, job_id: str, token: str, scope: MemoScope, key: str, value: bytes) -> bytes:
    """Write an entry if there is none of that key; returns what is stored."""
    row = tx.state.rows.get(job_id)
    if row is None or row.held is None or row.held.token != token:
        raise ClaimLostError(f"the claim of job {job_id} is not held any more")
    memo = _memo(row, scope)
    known = dict(memo).get(key)
    if known is not None:
        return known
    check_room(scope, len(memo), used_bytes(row), size_of_entry(key.encode(), value))
    memo = (*memo, (key, bytes(value)))
    tx.put(replace(row, step_memo=memo) if scope is MemoScope.STEP else replace(row, run_memo=memo))
    return value


def entries(state: State, job_id: str, scope: MemoScope, step: int | None) -> dict[str, bytes]:
    """Return a memo as it is; empty if its step is over."""
    row = state.rows.get(job_id)
    if row is None or (scope is MemoScope.STEP and step not in (None, row.step)):
        return {}
    return dict(_memo(row, scope))


def page(state: State, job_id: str, scope: MemoScope, limit: int, cursor: str | None) -> MemoPage:
    """Return some entries; a cursor is how many were shown."""
    if cursor is not None and not (cursor.isascii() and cursor.isdecimal()):
        raise ValueError(f"cursor {cursor!r} is none of ours")
    begin = int(cursor or 0)
    items = list(entries(state, job_id, scope, None).items())
    shown = items[begin : begin + limit]
    return MemoPage(shown, str(begin + limit) if len(items) > begin + limit else None)


def _memo(row: Row, scope: MemoScope) -> tuple[tuple[str, bytes], ...]:
    return row.step_memo if scope is MemoScope.STEP else row.run_memo
