"""The fence: a claim can be ended only under its token, through one door."""

from __future__ import annotations

from typing import Any

from taquba_workflow_sync.errors import ClaimLostError
from taquba_workflow_sync.storage.port.status import JobStatus
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.rows import Held
from taquba_workflow_sync.storage.relational.transaction import Transaction


def read_held(tx: Transaction, job_id: str, token: str) -> Held:
    """Return the stored row that a claim is of. It may have moved on: whoever ends the claim goes through the door.

    Raises:
        ClaimLostError: there is no such row any more.
    """
    row = tx.execute(sql.READ_HELD, (row_number(token), job_id)).fetchone()
    if row is None:
        raise _lost(job_id)
    return Held._make(row)


def check_held(held: Held, token: str) -> None:
    """Refuse what is no claim's any more, before anything is looked at on its behalf.

    Raises:
        ClaimLostError: the row is not held under ``token``.
    """
    if held.token != token or held.status != JobStatus.CLAIMED:
        raise _lost(held.id)


def leave(tx: Transaction, transition: str, statement: str, values: tuple[Any, ...], held: Held, token: str) -> None:
    """End a claim by one statement of the door, before anything else is written.

    Raises:
        ClaimLostError: the row is not held under ``token`` any more; nothing was changed.
    """
    if tx.execute(statement, (*values, held.seq, token)).rowcount != 1:
        raise _lost(held.id)
    tx.transitions.add(transition)


def _lost(job_id: str) -> ClaimLostError:
    return ClaimLostError(f"the claim of job {job_id} is not held any more: settled already, or taken over")


def row_number(token: str) -> int:
    """Return the row a token names: it ends with it, so that the fence finds its row without an index."""
    seq = token.rpartition(".")[2]
    return int(seq) if seq.isdecimal() and seq.isascii() and len(seq) < 19 else 0
