"""The write lock: taken without starving other processes, given back whatever happened, used for checkpoints too."""

from __future__ import annotations

import logging
import sqlite3
from typing import Final

from taquba_workflow_sync.errors import StorageError, TaqubaError
from taquba_workflow_sync.storage.embedded.checkpoint import Checkpointer
from taquba_workflow_sync.storage.embedded.connections import Connections
from taquba_workflow_sync.storage.embedded.sqlite_errors import as_not_written, is_busy
from taquba_workflow_sync.storage.relational import sql

_log = logging.getLogger(__name__)

#: For how many seconds another process may hold the write lock before a write fails.
BEGIN_TIMEOUT: Final = 30.0


class NotBegun(Exception):
    """No transaction could be opened, so nothing was tried."""

    def __init__(self, error: TaqubaError) -> None:
        super().__init__(str(error))
        self.error = error


class Writer:
    """The connection that writes, for whoever's turn it is to commit, inside the gate."""

    def __init__(self, connections: Connections, checkpointer: Checkpointer) -> None:
        self._connections = connections
        self._checkpointer = checkpointer
        #: Whether another process was met that writes as well, since this was last set to False.
        self.others_write: bool = False

    def begin(self, *, is_last: bool) -> sqlite3.Connection | None:
        """Begin a transaction and return the connection that it is open on; None if another process has the lock.

        Raises:
            NotBegun: it cannot be, or another process has the lock and this was the ``is_last`` try.
        """
        try:
            connection = self._connections.writer()
            if connection.in_transaction:
                self.roll_back()  # an interrupt interrupted the rollback of an interrupted transaction
                connection = self._connections.writer()
            connection.execute(sql.BEGIN)
        except TaqubaError as error:
            raise NotBegun(error) from error
        except sqlite3.Error as error:
            if not is_busy(error):
                self._connections.drop_writer()
                raise NotBegun(self._named(as_not_written(error))) from error
            self.others_write = True
            if is_last:
                text = f"the store was locked by another process for {BEGIN_TIMEOUT:.0f} s"
                raise NotBegun(StorageError(text)) from error
            return None
        return connection

    def _named(self, error: TaqubaError) -> TaqubaError:
        return type(error)(f"cannot write to the store {self._connections.root}: {error}")

    def roll_back(self) -> None:
        """Undo what is open, if anything; a connection that cannot is opened anew."""
        try:
            connection = self._connections.open_writer
            if connection is not None and connection.in_transaction:
                connection.execute(sql.ROLLBACK)
        except sqlite3.Error as error:
            _log.warning("cannot roll back, the connection is opened anew: %s", error)
            self._connections.drop_writer()

    def checkpoint(self) -> None:
        """Checkpoint if the log has grown; what was asked for is committed already, so a failure costs only room."""
        try:
            self._checkpointer.run_if_due()
        except (sqlite3.Error, StorageError) as error:
            _log.warning("cannot checkpoint: %s", error)
            self._connections.drop_writer()
