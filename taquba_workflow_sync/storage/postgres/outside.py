"""What programs do by transactions of their own: looked at here, written as arrivals.

What is looked at is read twice: through the program's connection, which alone sees what its transaction has written,
and through one of ours, since the program's may read as of long ago.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

import psycopg

from taquba_workflow_sync.errors import StorageError, StoreMismatchError
from taquba_workflow_sync.storage.port.job import Inserted, NewJob
from taquba_workflow_sync.storage.port.own import Given
from taquba_workflow_sync.storage.port.run import KnownRun, is_new_run
from taquba_workflow_sync.storage.port.signals import NewSignal, SignalOutcome
from taquba_workflow_sync.storage.port.status import JobStatus
from taquba_workflow_sync.storage.postgres.arrivals import (
    ARRIVE,
    OF_NAME,
    Arrival,
    Cancelled,
    Put,
    encoded,
    kind_of,
    newest_submit,
)
from taquba_workflow_sync.storage.postgres.commit import NoBootClock
from taquba_workflow_sync.storage.postgres.connections import Connections
from taquba_workflow_sync.storage.postgres.errors import first_line
from taquba_workflow_sync.storage.postgres.given import GivenSession, given
from taquba_workflow_sync.storage.postgres.moved import refuse_if_closed
from taquba_workflow_sync.storage.postgres.names import wait_for_name
from taquba_workflow_sync.storage.postgres.sessions import Session
from taquba_workflow_sync.storage.relational import reads
from taquba_workflow_sync.storage.relational.transaction import Transaction
from taquba_workflow_sync.storage.relational.transitions import signals
from taquba_workflow_sync.storage.relational.transitions.enqueue import Batch, admit
from taquba_workflow_sync.storage.relational.unreadable import Unreadable


class Outside:
    """The calls of one handle that take a program's connection."""

    def __init__(self, connections: Connections, store_id: Callable[[], str], now: Callable[[], int]) -> None:
        self._connections = connections
        self._address = connections.address
        self._store_id = store_id
        self._now = now
        #: Connections that are known to lead to the store's database.
        self._proven: WeakSet[psycopg.Connection[Any]] = WeakSet()

    def submit(self, to: Given, job: NewJob) -> Inserted:
        """Put a job in; see :class:`OwnTransactions` for this and what follows."""
        with self._joined(to) as session:
            answer = self._answer(session, job)
            if answer.is_new:
                self._arrive(session, to, job.queue, _name(job), job)
            return answer

    def signal(self, to: Given, queue: str, run_id: str, signal: NewSignal, submit: NewJob | None) -> SignalOutcome:
        """Hand a signal to a run, or to one that is put in with it."""
        with self._joined(to) as session:
            is_new = False
            if submit is not None:
                is_new = self._answer(session, submit).is_new
            if not is_new and self._pending(session, queue, run_id) is None:
                with self._reading() as reader:
                    tx = self._look(reader)
                    if signals.is_duplicate(tx, queue, run_id, signal):
                        return SignalOutcome.DUPLICATE
                    signals.check(tx, queue, run_id, signal, (), None, ())
            if is_new and submit is not None:
                self._arrive(session, to, queue, run_id, submit)
            self._arrive(session, to, queue, run_id, signal)
            return SignalOutcome.BUFFERED

    def cancel(self, to: Given, queue: str, run_id: str, reason: str | None) -> bool:
        """Cancel the newest run of a name."""
        with self._joined(to) as session:
            pending = self._pending(session, queue, run_id)
            if pending is not None:
                job_id = pending.id
            else:
                with self._reading() as reader:
                    row = reads.find_run(reader, self._now, queue, run_id)
                if row is None or row.finished_ms is not None:
                    return False
                job_id = row.id
            self._arrive(session, to, queue, run_id, Cancelled(job_id, reason))
            return True

    def put(self, to: Given, key: str, value: bytes, ttl_ms: int | None) -> None:
        """Have a key hold a value."""
        with self._joined(to) as session:
            self._arrive(session, to, None, None, Put(key, value, ttl_ms))

    def prove(self, session: GivenSession) -> None:
        """Check that a connection leads to the store's database, by the store's id there.

        Raises:
            StoreMismatchError: it does not; the program's transaction is as it was.
        """
        if session.raw in self._proven:
            return
        table = f'"{self._address.schema}".store'
        ((found,),) = session.execute("SELECT to_regclass(?) IS NOT NULL", (table,)).fetchall()
        rows = session.execute(f"SELECT id FROM {table}").fetchall() if found else []
        if rows != [(self._store_id(),)]:
            raise StoreMismatchError(
                f"the connection leads to database {session.raw.info.dbname!r} of {session.raw.info.host}, which does"
                f" not hold the store {self._address.shown}; nothing was written"
            )
        self._proven.add(session.raw)

    @contextmanager
    def _joined(self, to: Given) -> Iterator[GivenSession]:
        connection = given(to.connection)
        with connection.joined():
            session = GivenSession(connection.raw, self._address.schema)
            try:
                self.prove(session)
                yield session
            except psycopg.errors.UndefinedTable:
                self._refuse_if_closed()
                raise

    @contextmanager
    def _reading(self) -> Iterator[Session]:
        try:
            with self._connections.reading() as reader:
                yield reader
        except psycopg.Error as error:
            raise StorageError(f"cannot read the store {self._address.shown}: {first_line(error)}") from error

    def _refuse_if_closed(self) -> None:
        """Say where the store is, or that it is being moved, where that is why a table is gone.

        Raises:
            StorageError, StoreMovedError: so it is.
        """
        with self._reading() as reader:
            refuse_if_closed(reader, self._address)

    def _look(self, reader: Session) -> Transaction:
        """Return what transitions look through, and must not write through."""
        return Transaction(reader, self._now(), "", NoBootClock(), delays_by_boot_clock=False, unreadable=Unreadable())

    def _answer(self, session: GivenSession, job: NewJob) -> Inserted:
        """Return what a submit is told, its name taken first.

        Raises:
            InputMismatchError, QueueFullError: as for a submit.
        """
        if job.run is None or job.run.run_id == job.id:
            return Inserted(job.id, True)  # an id of ours is nobody else's
        wait_for_name(session, self._address, job.queue, job.run.run_id)
        known = self._pending(session, job.queue, job.run.run_id)
        if known is not None and known.run is not None:
            there = KnownRun(known.id, known.run.input_hash, JobStatus.PENDING, None, True)
            is_new_run(job.run, job.queue, there, is_active=True)
            return Inserted(known.id, False)
        with self._reading() as reader:
            return admit(self._look(reader), job, Batch())

    def _pending(self, session: GivenSession, queue: str, run_id: str) -> NewJob | None:
        """Return what was submitted under a name, by this transaction or a committed one, and is not taken over."""
        found = newest_submit(session.execute(OF_NAME, (queue, run_id)).fetchall())
        if found is not None:
            return found
        with self._reading() as reader:
            return newest_submit(reader.execute(OF_NAME, (queue, run_id)).fetchall())

    def _arrive(
        self, session: GivenSession, to: Given, queue: str | None, run_id: str | None, arrival: Arrival
    ) -> None:
        session.execute(ARRIVE, (kind_of(arrival), queue, run_id, encoded(arrival)))
        if to.notify:
            session.execute("SELECT pg_notify(?, '')", (f"taquba_{self._address.schema}",))


def _name(job: NewJob) -> str | None:
    return None if job.run is None else job.run.run_id
