"""A schema of a PostgreSQL database as one side of a move."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

import psycopg

from taquba_workflow_sync.errors import StorageError, StoreInUseError
from taquba_workflow_sync.storage.moving.tables import META, Row, Table, checked, damaged, hidden, names
from taquba_workflow_sync.storage.port.store import OpenOptions, Store
from taquba_workflow_sync.storage.postgres import schema, store
from taquba_workflow_sync.storage.postgres.address import parsed
from taquba_workflow_sync.storage.postgres.arrivals import ARRIVAL
from taquba_workflow_sync.storage.postgres.errors import as_not_opened, as_not_written, first_line
from taquba_workflow_sync.storage.postgres.moved import find_move
from taquba_workflow_sync.storage.postgres.sessions import Session, connect
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.moved import Move

_PLAIN: Final = OpenOptions()
_LINE: Final = re.compile(r"line (\d+)")
#: For how long others may write before it is this one's turn.
_TURN_TIMEOUT: Final = "30s"
#: For a table. Shorter than the server's deadlock_timeout of a second: of whoever waits for what this holds, none is
#: ended for it.
_LOCK_TIMEOUT: Final = "500ms"
_HOLDERS: Final = """SELECT DISTINCT a.pid, a.application_name, a.usename::text,
        round(extract(epoch FROM clock_timestamp() - a.xact_start))::bigint
    FROM pg_locks AS l JOIN pg_class AS c ON c.oid = l.relation JOIN pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_stat_activity AS a ON a.pid = l.pid
    WHERE n.nspname = ? AND l.granted AND a.pid <> pg_backend_pid() ORDER BY a.pid"""
_NAMED: Final = 5


class PostgresSide:
    """A schema."""

    def __init__(self, address: str) -> None:
        self._url = address
        self._address = parsed(address)
        self.shown: str = self._address.shown
        self._session: Session | None = None

    @property
    def connection(self) -> Session:
        """The one session; when it was lost, its lock went with it, and the move ends."""
        if self._session is None:
            try:
                self._session = connect(self._address.dsn, self._address.schema, application="taquba move")
            except psycopg.Error as error:
                raise as_not_opened(error, self.shown) from error
        return self._session

    def open(self, options: OpenOptions = _PLAIN) -> Store:
        """Open the store as everybody does."""
        return store.open_store(self._url, options)

    def is_there(self) -> bool:
        """Whether there is a store."""
        with self._told():
            return schema.is_there(self.connection, self._address)

    def move(self) -> Move | None:
        """Return the move that is noted."""
        with self._told():
            return find_move(self.connection)

    def lock(self) -> None:
        """Keep other moves away."""
        with self._told():
            ((taken,),) = self.connection.execute(
                "SELECT pg_try_advisory_lock(?)", (self._address.key("move"),)
            ).fetchall()
        if not taken:
            raise StoreInUseError(f"another process is moving the store {self.shown}, from it or to it")

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise StorageError(f"cannot read the store {self.shown}: {first_line(error)}") from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Run the block as one transaction."""
        session = self.connection
        try:
            session.run(
                f"BEGIN; SET LOCAL lock_timeout = '{_TURN_TIMEOUT}';"
                f"SELECT pg_advisory_xact_lock({self._address.key('writer')});"
                f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'"
            )
            yield
            session.run("COMMIT")
        except psycopg.errors.LockNotAvailable as error:
            self._roll_back()
            raise StoreInUseError(f"the tables of {self.shown} are held by {self._holders()}") from error
        except psycopg.errors.InsufficientPrivilege as error:
            raise as_not_opened(error, self.shown) from error
        except psycopg.Error as error:
            raise as_not_written(error) from error
        finally:
            self._roll_back()

    def _roll_back(self) -> None:
        with suppress(psycopg.Error):
            if self.connection.in_transaction:
                self.connection.run("ROLLBACK")

    def _holders(self) -> str:
        try:
            found = self.connection.execute(_HOLDERS, (self._address.schema,)).fetchall()
        except psycopg.Error:
            found = []
        told = [
            f"the session of {user} with pid {pid} ({application or 'unnamed'}, in a transaction for {age} s)"
            for pid, application, user, age in found[:_NAMED]
        ]
        return ", ".join(told) or "another transaction"

    def hide(self) -> None:
        """Put the tables away."""
        self._rename([(name, hidden(name)) for name in (*names(), ARRIVAL)])

    @contextmanager
    def no_submits(self) -> Iterator[None]:
        """Have programs' own transactions wait with their submits until the end of the block.

        They take a name before the table of arrivals, and look at that by a second session too: it would stand behind
        a lock of the table that itself waits for the first.
        """
        key, session = self._address.key("names"), self.connection
        try:
            session.run(f"SET lock_timeout = '{_LOCK_TIMEOUT}'; SELECT pg_advisory_lock({key})")
        except psycopg.errors.LockNotAvailable as error:
            raise StoreInUseError(f"the tables of {self.shown} are held by {self._holders()}") from error
        except psycopg.Error as error:
            raise as_not_written(error) from error
        try:
            yield
        finally:
            with suppress(psycopg.Error):
                session.run(f"SELECT pg_advisory_unlock({key})")

    def has_arrivals(self) -> bool:
        """Whether programs' own transactions have put in what the store has not taken over yet."""
        where = f'"{self._address.schema}".{ARRIVAL}'
        self.connection.run(f"LOCK TABLE {where} IN ACCESS EXCLUSIVE MODE")
        return bool(self.connection.execute(f"SELECT 1 FROM {where} LIMIT 1").fetchall())

    def show(self) -> None:
        """Have the tables be where they belong."""
        self._rename([(hidden(name), name) for name in (*names(), ARRIVAL)])
        # Whoever has had it open all the while hears of it.
        self.connection.run(f"UPDATE \"{self._address.schema}\".{sql.META} SET value = value + 1 WHERE key = 'commits'")

    def _rename(self, pairs: Sequence[tuple[str, str]]) -> None:
        where = self._address.schema
        self.connection.run(";".join(f'ALTER TABLE "{where}".{old} RENAME TO {new}' for old, new in pairs))

    def empty(self) -> None:
        """Remove every row of the tables put away."""
        tables = ", ".join(f'"{self._address.schema}".{hidden(name)}' for name in names()[1:])
        meta = f'"{self._address.schema}".{META}'
        self.connection.run(
            f"TRUNCATE {tables} RESTART IDENTITY;"
            f"DELETE FROM {meta} WHERE key NOT IN ('commits', 'next_seq');"
            f"UPDATE {meta} SET value = 1 WHERE key = 'next_seq'"
        )

    def read(self, statement: str, values: Row = ()) -> list[Row]:
        """Return what a statement finds."""
        with self._told():
            return self.connection.execute(statement, values).fetchall()

    def rows(self, table: Table, statement: str, values: Row) -> list[Row]:
        """Return rows of the table."""
        return [checked(table, row) for row in self.read(statement, values)]

    def insert(self, table: Table, rows: Sequence[Row]) -> None:
        """Write rows into the table put away."""
        statement = f'COPY "{self._address.schema}".{table.hidden} ({", ".join(table.columns)}) FROM STDIN'
        try:
            with self.connection.raw.cursor().copy(statement.encode()) as copy:
                for row in rows:
                    copy.write_row(row)
        except (psycopg.IntegrityError, psycopg.DataError) as error:
            line = _LINE.search(error.diag.context or "")
            row_of_it = None if line is None else rows[int(line[1]) - 1]
            raise damaged(table, row_of_it and table.key_of(row_of_it), first_line(error)) from error

    def go_on_after(self, tables: Sequence[Table]) -> None:
        """Have the numbers that the server gives go on after those that were copied."""
        for table in tables:
            name = f'"{self._address.schema}".{table.hidden}'
            if table.generates_key:
                after = f"setval(pg_get_serial_sequence('{name}', 'id'), coalesce(max(id), 0) + 1, false)"
                self.connection.run(f"SELECT {after} FROM {name}")
            # Or the first statements are planned as for empty tables.
            self.connection.run(f"ANALYZE {name}")

    def close(self) -> None:
        """Let go of the session, and of the lock with it."""
        if self._session is not None:
            with suppress(psycopg.Error):
                self._session.close()
