"""Who runs transactions for a group commit: an engine's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from taquba_workflow_sync.storage.relational.pending import PendingWrite


class GaveWay(Exception):
    """Nothing was begun: the write lock was not to be had, and this thread is wanted elsewhere."""


class Transactor(Protocol):
    """Where a store's transactions begin and end; one thread at a time uses it."""

    @property
    def failures(self) -> int:
        """How many transactions could not be committed, ever, for what the disk or another process did."""
        ...

    def commit(
        self, batch: Sequence[PendingWrite], gives_way: Callable[[], bool], *, is_interruptible: bool = False
    ) -> None:
        """Run the batch in one transaction; if that fails before its COMMIT, each operation in one of its own.

        ``is_interruptible``: the thread is the user's, so what a signal handler raises in it goes on as it is, once
        everything is rolled back, instead of becoming the answer of an operation.

        Raises:
            GaveWay: nothing was begun, and ``gives_way`` said that it need not be now.
        """
        ...
