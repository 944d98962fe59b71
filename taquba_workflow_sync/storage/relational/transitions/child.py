"""Whose children runs are."""

from __future__ import annotations

from typing import NamedTuple

from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.belongings import Belonging
from taquba_workflow_sync.storage.relational.transaction import Transaction


class Parent(NamedTuple):
    """A run that spawns others: its row, and what it is called."""

    seq: int
    id: str
    run_id: str | None


def adopt(tx: Transaction, parent: Parent, seq: int) -> None:
    """Make a row, which has just been written with the bit of a child, one of ``parent``."""
    tx.execute(sql.ADD_CHILD, (seq, parent.seq))


def count(tx: Transaction, parent: Parent, many: int) -> None:
    """Count children that are there for everyone from this commit on."""
    tx.execute(sql.ADD_PARENT, parent)
    tx.execute(sql.COUNT_CHILDREN, (many, parent.seq))
    tx.execute(sql.OWN_BELONGINGS, (Belonging.PARENT, parent.seq))


def drop(tx: Transaction, seq: int, belongings: int) -> None:
    """Forget whose child a deleted row was, and what it was called once its last child is gone."""
    if belongings & Belonging.CHILD:
        for (parent,) in tx.execute(sql.DROP_CHILD, (seq,)).fetchall():
            tx.execute(sql.DROP_PARENT, (parent, parent, parent))
    if belongings & Belonging.PARENT:
        tx.execute(sql.DROP_PARENT, (seq, seq, seq))
