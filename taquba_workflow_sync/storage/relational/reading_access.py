"""What the methods of the port read and write through, whatever the engine is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from taquba_workflow_sync.storage.relational.pending import Operation, PendingWrite
from taquba_workflow_sync.storage.relational.transaction import Transaction

_T = TypeVar("_T")
_P = ParamSpec("_P")
Query = Callable[Concatenate[Any, _P], _T]


class Reading(Protocol):
    """Reads and writes of one handle, from any thread."""

    def read(self, query: Query[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run a query over a connection lent for it.

        Raises:
            StorageError: it cannot be read.
        """
        ...

    def write(self, operation: Callable[[Transaction], _T], *, here: bool = False) -> _T:
        """Commit one operation and return its answer; durable on return. ``here``: in the calling thread if it can."""
        ...

    def run(self, operations: Sequence[Operation], *, here: bool = False) -> list[PendingWrite]:
        """Commit operations."""
        ...

    def repair(self) -> bool:
        """Repair what is damaged in the store; whether there was anything, and that was stored."""
        ...
