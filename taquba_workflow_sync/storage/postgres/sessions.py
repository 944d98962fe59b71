"""Sessions of the server as the engine's statements see them: ``?`` for values, rows as tuples."""

from __future__ import annotations

import select
import threading
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.pq.abc import PGresult

from taquba_workflow_sync.storage.postgres.dialect import translated
from taquba_workflow_sync.storage.postgres.values import BINARY, LOADERS, SPECIAL, TEXT, Cursor, decoded, dumped
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.transitions.bulk import sized

_CONNECT_TIMEOUT_S: Final = 5
#: What is read of a session at most, before its end: why the server has ended it.
_FAREWELLS: Final = 3
#: The server's side of a link that is cut notices as soon as ours: until then it keeps our locks.
_SETTINGS: Final = (
    "-c timezone=UTC -c bytea_output=hex -c client_connection_check_interval=1s -c idle_session_timeout=0"
    " -c tcp_keepalives_idle=3 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3 -c tcp_user_timeout=8000"
)
#: Who has the store's lock and was stopped (SIGSTOP, a suspended machine) keeps everyone waiting until its transaction
#: is ended.
_OF_OURS: Final = "-c idle_in_transaction_session_timeout=5s"
#: What ends a transaction, in the words of those who begin one for reads.
_ENDS: Final = (sql.COMMIT, sql.ROLLBACK)
#: How many statements a session keeps prepared.
_MOST_PREPARED: Final = 1_000


class _Call(NamedTuple):
    """A statement on its way: its name or its text, and its values with their formats."""

    statement: bytes
    values: Any
    formats: Sequence[int]


def wait_for(*descriptors: int, timeout: float | None = None) -> None:
    """Wait until one can be read, at most ``timeout`` seconds. Not by ``select``, which knows 1,024 descriptors."""
    _poll(descriptors, select.POLLIN, timeout)


def _poll(descriptors: Sequence[int], event: int, timeout: float | None) -> None:
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, event)
    poll.poll(None if timeout is None else timeout * 1000)


def _is_main() -> bool:
    return threading.get_ident() == threading.main_thread().ident


class NotCommittedError(Exception):
    """The transaction was not committed, and it is known why."""

    def __init__(self, error: psycopg.Error) -> None:
        super().__init__(str(error))
        self.error = error


#: Statements of which nobody asks what they have come to: they go with the next one, in one message.
_SILENT: Final = frozenset(
    {
        sql.ADD_ATTEMPT,
        sql.ADD_COUNTS,
        sql.ADD_PARKED,
        sql.WRITE_NEXT_SEQ,
        *sized(sql.HOLD_HISTORY, sql.HOLD_VALUES).values(),
        *sized(sql.ADVANCE_HISTORY, sql.ADVANCE_MANY_VALUES).values(),
        *sized(sql.FINISH_HISTORY, sql.FINISH_MANY_VALUES).values(),
    }
)


class Session:
    """One connection.

    Statements go through libpq's own calls: a cursor of psycopg costs four times as much for each (67 microseconds of
    CPU and 16), and a step is several statements.
    """

    def __init__(self, raw: psycopg.Connection[Any], schema: str, *, prepares: bool = True) -> None:
        self.raw = raw
        self.schema = schema
        self._link = raw.pgconn
        #: Behind a pooler, what was prepared is another session's; so it is where others use the connection, too.
        self.prepares = prepares
        self._was_interrupted = False
        self._prepared: dict[str, bytes] = {}
        self._names = 0
        #: What nobody waits for, to go with the next statement.
        self._queued: list[_Call] = []
        #: How many rows were changed, ever.
        self.total_changes: int = 0

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self.raw.info.transaction_status not in (TransactionStatus.IDLE, TransactionStatus.UNKNOWN)

    def execute(self, statement: str, values: Any = (), /) -> Cursor:
        """Run one statement."""
        special = SPECIAL.get(statement)
        if special is not None:
            values = special.before(values)
        found = self._execute(statement, values)
        if special is not None:
            found.change(lambda row: special.after(values, row))
        return found

    def _execute(self, statement: str, values: Sequence[Any]) -> Cursor:
        if self._was_interrupted and statement in _ENDS:
            return Cursor([], 0)  # what has ended the session is on its way to the caller, and must not be replaced
        self._forget_some()
        call = self._call_of(statement, values)
        if statement in _SILENT and self.in_transaction:
            self._queued.append(call)
            self.total_changes += 1
            return Cursor([], 0)
        if self._queued or _is_main():
            return self._send([call])[-1]  # a signal's handler may raise there, while the server takes its time
        link = self._link
        if self.prepares:
            return self._cursor_of(link.exec_prepared(call.statement, call.values, call.formats))
        return self._cursor_of(link.exec_params(call.statement, call.values, None, call.formats))

    def _call_of(self, statement: str, values: Sequence[Any]) -> _Call:
        sent: Any = [dumped(value) for value in values]
        formats = [BINARY if type(value) is bytes else TEXT for value in values]
        if not self.prepares:
            return _Call(translated(statement, self.schema).encode(), sent, formats)
        name = self._prepared.get(statement)
        return _Call(self._prepare(statement) if name is None else name, sent, formats)

    def _send(self, calls: Sequence[_Call]) -> list[Cursor]:
        """Send what has been put off, and then some more, in one message; returns what each has come to.

        Raises:
            psycopg.Error: one was refused: those behind it were not run; or the connection is lost.
        """
        put_off = len(self._queued)
        calls, self._queued = [*self._queued, *calls], []
        link = self._link
        send = link.send_query_prepared if self.prepares else self._send_params
        results: list[PGresult] = []
        link.enter_pipeline_mode()
        try:
            for call in calls:
                send(call.statement, call.values, call.formats)
            link.pipeline_sync()
            for _ in calls:
                result = self._next_result()
                if result is None:
                    raise psycopg.OperationalError("the connection was lost")
                results.append(result)
                self._next_result()  # the end of one statement's
            self._next_result()  # the end of all
            link.exit_pipeline_mode()
        except psycopg.Error:
            self.raw.close()
            raise
        except BaseException:
            self._interrupted()
            raise
        counted = self.total_changes
        cursors = [self._cursor_of(result) for result in results[:put_off]]
        self.total_changes = counted  # when they were put off; or they would be changes of whoever sends them along
        return [*cursors, *(self._cursor_of(result) for result in results[put_off:])]

    def _next_result(self) -> PGresult | None:
        """Return what comes next; waited for outside of libpq, which would keep every other thread waiting, too."""
        link = self._link
        while link.flush():
            _poll([link.socket], select.POLLOUT, None)
        while link.is_busy():
            wait_for(link.socket)
            link.consume_input()
        return link.get_result()

    def _interrupted(self) -> None:
        """End the session with a statement that a signal's handler has raised out of: its answer is still to come."""
        self._was_interrupted = True
        self.raw.close()

    def _send_params(self, statement: bytes, values: Any, formats: Sequence[int]) -> None:
        self._link.send_query_params(statement, values, None, formats)

    def commit(self, statement: str, *before: tuple[str, Sequence[Any]]) -> Cursor:
        """Run some more with their values, a last statement, and COMMIT, in one message; returns what the last came to.

        Raises:
            NotCommittedError: a statement before the COMMIT was refused, or it was never sent.
            psycopg.Error: the outcome is unknown.
        """
        try:
            calls = [self._call_of(*each) for each in (*before, (statement, ()), ("COMMIT", ()))]
        except psycopg.Error as error:
            raise NotCommittedError(error) from error
        try:
            *_, last, end = self._send(calls)
        except psycopg.Error as error:
            if error.sqlstate is not None and not self.raw.closed and self.in_transaction:
                raise NotCommittedError(error) from error  # the server has told of an error, and waits for a ROLLBACK
            raise
        if end.tag != b"COMMIT":
            # A transaction in which anything has failed is rolled back by a COMMIT, without an error.
            text = "the server has rolled it back: a statement had failed before"
            raise NotCommittedError(psycopg.errors.InFailedSqlTransaction(text))
        return last

    def _forget_some(self) -> None:
        """Let the server forget what was prepared, once that is very much; between transactions, when nothing waits."""
        if len(self._prepared) >= _MOST_PREPARED and not self._queued and not self.in_transaction:
            self._prepared.clear()
            self._cursor_of(self._link.exec_(b"DEALLOCATE ALL"))

    def _prepare(self, statement: str) -> bytes:
        # A name is never used again: what was put off under it must not meet another statement.
        self._names += 1
        name = b"taquba%d" % self._names
        self._cursor_of(self._link.prepare(name, translated(statement, self.schema).encode()))
        self._prepared[statement] = name
        return name

    def _cursor_of(self, result: PGresult) -> Cursor:
        """Return what a statement has come to.

        Raises:
            psycopg.Error: it was refused, or the connection is lost.
        """
        status = result.status
        if status == ExecStatus.TUPLES_OK:
            loaders = [LOADERS.get(result.ftype(column), decoded) for column in range(result.nfields)]
            rows = []
            for row in range(result.ntuples):
                values = [result.get_value(row, column) for column in range(result.nfields)]
                rows.append(
                    tuple(
                        None if value is None else load(bytes(value))
                        for load, value in zip(loaders, values, strict=True)
                    )
                )
            changed = result.command_tuples or 0
            if not (result.command_status or b"").startswith(b"SELECT"):
                self.total_changes += changed
            return Cursor(rows, changed, result.command_status or b"")
        if status in (ExecStatus.COMMAND_OK, ExecStatus.EMPTY_QUERY):
            changed = result.command_tuples or 0
            self.total_changes += changed
            return Cursor([], changed, result.command_status or b"")
        raise error_from_result(result, encoding="utf-8")

    def _count(self, changed: int) -> None:
        self.total_changes += max(changed, 0)

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run one statement for each row of values."""
        for values in rows:
            self.execute(statement, values)

    def run(self, text: str) -> list[tuple[Any, ...]]:
        """Run statements without values in one message; returns the rows of the last one that has any."""
        link = self._link
        if text == sql.ROLLBACK or not self.in_transaction:
            self._queued.clear()  # it goes with its transaction
        elif self._queued:
            self._send(())
        self._forget_some()
        rows: list[tuple[Any, ...]] = []
        failure: psycopg.Error | None = None
        changes = self.total_changes
        try:
            link.send_query(text.encode())
            while (result := self._next_result()) is not None:
                try:
                    cursor = self._cursor_of(result)
                except psycopg.Error as error:
                    failure = failure or error  # those behind it are taken in: else nothing more could be sent
                    continue
                rows = cursor.fetchall() or rows
        except psycopg.Error:
            raise
        except BaseException:
            self._interrupted()
            raise
        self.total_changes = changes
        if failure is not None:
            raise failure
        return rows

    def is_readable(self) -> bool:
        """Whether the server has said anything that nobody has read, its end included: one system call."""
        if self.raw.closed:
            return True
        poll = select.poll()
        poll.register(self.raw.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def is_lost(self) -> bool:
        """Whether the server has ended the session, as far as can be seen without asking it."""
        for _ in range(_FAREWELLS):
            if self.raw.closed or not self.is_readable():
                break
            try:
                self.raw.pgconn.consume_input()
            except psycopg.Error:
                return True
        return bool(self.raw.closed)

    def close(self) -> None:
        """End the session."""
        self.raw.close()


def connect(
    dsn: str, schema: str, *, application: str = "taquba", options: str = "", is_direct: bool = True
) -> Session:
    """Open a session on a store's schema; it sets nothing that a statement's meaning hangs on.

    ``is_direct`` False: a pooler may be in between, which refuses settings and loses prepared statements.

    Raises:
        psycopg.Error: it cannot be opened.
    """
    raw = connect_raw(dsn, application=application, options=f"{_OF_OURS} {options}", is_direct=is_direct)
    return Session(raw, schema, prepares=is_direct)


def connect_raw(
    dsn: str, *, application: str, options: str = "", is_direct: bool = True, autocommit: bool = True
) -> psycopg.Connection[tuple[Any, ...]]:
    """Open a connection that notices when its server is gone, and is noticed.

    Raises:
        psycopg.Error: it cannot be opened.
    """
    of_dsn = conninfo_to_dict(dsn)
    given = of_dsn.get("options")
    return psycopg.connect(
        dsn,
        autocommit=autocommit,
        context=None,
        application_name=application,
        options=f"{given or ''} {_SETTINGS} {options}" if is_direct else given,
        prepare_threshold=5 if is_direct else None,
        connect_timeout=of_dsn.get("connect_timeout", _CONNECT_TIMEOUT_S),
        keepalives=1,
        keepalives_idle=3,
        keepalives_interval=2,
        keepalives_count=3,
        tcp_user_timeout=8000,
    )
