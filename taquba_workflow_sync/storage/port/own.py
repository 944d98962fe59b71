"""What only a database that programs share with the store can do: work of both in one transaction of the program's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

from taquba_workflow_sync.errors import TaqubaError
from taquba_workflow_sync.storage.port.job import Inserted, NewJob
from taquba_workflow_sync.storage.port.settlement import Settlement
from taquba_workflow_sync.storage.port.signals import NewSignal, SignalOutcome


class Given(NamedTuple):
    """A connection that a program gave for a call; ``notify``: whether its commit is to wake those who wait."""

    connection: Any
    notify: bool = False


class OutcomeUnknownError(TaqubaError):
    """Nobody could be asked any more whether a transaction was committed: the claim is looked after by others."""


class OwnTransaction(Protocol):
    """A program's transaction that a step ends with; nothing of the store's is locked in it until :meth:`settle`."""

    @property
    def connection(self) -> Any:
        """What the program writes through: what it gave, or a connection of its own."""
        ...

    def settle(self, settlement: Settlement, gives_up: Callable[[], bool]) -> TaqubaError | None:
        """Commit it with the settlement, or neither; returns why that was refused. Never repeated by anybody.

        ``gives_up``: asked while the server cannot be, whether the transaction was committed.

        Raises:
            StepError: the program has ended the transaction itself; nothing was settled.
            StorageError: it was rolled back.
            OutcomeUnknownError: ``gives_up`` said so.
            Exception: the server's own error; it was rolled back.
        """
        ...

    def roll_back(self) -> None:
        """Undo it; idempotent, never raises."""
        ...


@runtime_checkable
class OwnTransactions(Protocol):
    """An engine whose database programs may share. What is put in here is there exactly if the program commits it."""

    def submit_in(self, given: Given, job: NewJob) -> Inserted:
        """- -> pending / scheduled, with the program's commit; a taken run id answers with the job that is there."""
        ...

    def signal_in(
        self, given: Given, queue: str, run_id: str, signal: NewSignal, submit: NewJob | None
    ) -> SignalOutcome:
        """Hand a signal to a run, which ``submit`` puts in if it is not there, with the program's commit."""
        ...

    def cancel_in(self, given: Given, queue: str, run_id: str, reason: str | None) -> bool:
        """Cancel a run, or ask its claim to stop, with the program's commit; whether there is one to cancel."""
        ...

    def kv_put_in(self, given: Given, key: str, value: bytes, ttl_ms: int | None) -> None:
        """Have a key hold a value, with the program's commit."""
        ...

    def own_transaction(self, connection: Any) -> OwnTransaction:
        """Begin a transaction on a program's connection, or on a new one (None)."""
        ...
