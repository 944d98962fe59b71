"""What programs do by transactions of their own, as the floors above ask an open store for it."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from taquba_workflow_sync.errors import InvalidStateError
from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.storage.port.job import Inserted, NewJob
from taquba_workflow_sync.storage.port.own import Given, OwnTransaction, OwnTransactions
from taquba_workflow_sync.storage.port.signals import NewSignal, SignalOutcome
from taquba_workflow_sync.storage.port.store import Store


def checked_given(connection: Any, notify: object) -> Given | None:
    """Return what a call was given to write through; None: nothing.

    Raises:
        TypeError, ValueError: ``notify`` is no bool, or makes no sense.
    """
    validation.instance(notify, bool, "notify")
    if connection is None:
        if notify:
            raise ValueError("notify goes with connection: without one whoever waits is told anyway")
        return None
    return Given(connection, bool(notify))


class OwnHandle:
    """The part of a handle that works in transactions of programs'."""

    @property
    @abstractmethod
    def store(self) -> Store:
        """The open store."""

    def _shared(self) -> OwnTransactions:
        store = self.store
        if not isinstance(store, OwnTransactions):
            raise ValueError(
                "connection needs a store on PostgreSQL, in the database that it leads to; this store is a directory"
            )
        return store

    def insert_in(self, given: Given, job: NewJob) -> Inserted:
        """Put a job in with a program's commit."""
        return self._shared().submit_in(given, job)

    def send_signal_in(
        self, given: Given, queue_name: str, run_id: str, signal: NewSignal, submit: NewJob | None
    ) -> SignalOutcome:
        """Hand a signal to a run with a program's commit."""
        return self._shared().signal_in(given, queue_name, run_id, signal, submit)

    def cancel_in(self, given: Given, queue_name: str, run_id: str, reason: str | None) -> bool:
        """Cancel a run with a program's commit."""
        return self._shared().cancel_in(given, queue_name, run_id, reason)

    def kv_put_in(self, given: Given, key: str, value: bytes, ttl_ms: int | None) -> None:
        """Have a key hold a value with a program's commit."""
        self._shared().kv_put_in(given, key, value, ttl_ms)

    def own_transaction(self, connection: Any) -> OwnTransaction:
        """Begin a transaction that a step ends with.

        Raises:
            InvalidStateError: the store is in no database that programs can share.
        """
        store = self.store
        if not isinstance(store, OwnTransactions):
            raise InvalidStateError("step.transaction needs a store on PostgreSQL; this store is a directory")
        return store.own_transaction(connection)
