"""Checkpoints that no commit can overlap.

SQLite before 3.51.3 (3.50.7, 3.44.6) can lose committed pages when a commit resets the WAL while a checkpoint runs.
So nobody checkpoints by itself here: whoever leads the commits takes the write lock on one connection and checkpoints
on a second one, and no process can commit meanwhile.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from pathlib import Path
from typing import Final

from taquba_workflow_sync.failpoints import Failpoint, between
from taquba_workflow_sync.storage.embedded.cache import DATABASE_NAME
from taquba_workflow_sync.storage.embedded.connections import Connections
from taquba_workflow_sync.storage.relational import sql

_log = logging.getLogger(__name__)

# About 1,000 pages of 4 KiB: every process's writers wait for a checkpoint's syncs, so it is kept small. The file is
# cut to just this when the WAL starts over (the writer's journal_size_limit). Commits then overwrite it in place, which
# is quicker than to append (a sync of 24 KB took 108 microseconds instead of 153); larger, it has come to its end.
CHECKPOINT_BYTES: Final = 4 << 20
_WARN_BYTES: Final = 64 << 20
# How often the WAL's size is looked at, at most, with that threshold: each look makes the next sync dearer (see
# Connections). At 50 MiB/s it has grown by half a MiB meanwhile.
_LOOK_INTERVAL: Final = 0.01
_LONGEST_BACKOFF: Final = 60.0


class Checkpointer:
    """Checkpoints when the WAL has grown, and backs off while a reader pins it."""

    def __init__(
        self,
        directory: Path,
        connections: Connections,
        *,
        threshold: int = CHECKPOINT_BYTES,
        failpoint: Failpoint | None = None,
    ) -> None:
        self._wal = directory / f"{DATABASE_NAME}-wal"
        self._connections = connections
        self._threshold = threshold
        self._failpoint = failpoint
        self._backoff = 0.0
        self._not_before = 0.0
        self._look_again = 0.0

    def run_if_due(self) -> bool:
        """Checkpoint if the WAL is found to be over the threshold; the caller leads the commits, inside the gate."""
        now = time.monotonic()
        if now < self._look_again:
            return False
        self._look_again = now + _LOOK_INTERVAL * self._threshold / CHECKPOINT_BYTES
        try:
            size = os.stat(self._wal).st_size  # never opened: closing any descriptor of it drops SQLite's locks
        except OSError:
            return False
        if size <= self._threshold or now < self._not_before:
            return False
        return self.run(size)

    def _move(self) -> tuple[int, int, int]:
        row: tuple[int, int, int] = (
            self._connections.checkpointer().execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        )
        return row

    def run(self, size: int = 0) -> bool:
        """Checkpoint under the write lock; returns whether everything was moved."""
        writer = self._connections.writer()
        try:
            writer.execute(sql.BEGIN)
        except sqlite3.OperationalError:
            return False  # another process writes; the next commit looks again
        try:
            row = between(self._failpoint, "checkpoint", self._move)()
        except sqlite3.Error as error:
            _log.warning("checkpoint failed, the WAL keeps growing: %s", error)
            self._connections.drop_checkpointer()  # it may have been opened while the file could only be read
            row = (1, 1, 0)
        finally:
            writer.execute(sql.ROLLBACK)
        _, frames, moved = row
        is_complete: bool = frames == moved
        if is_complete:
            self._backoff = 0.0
        else:
            self._backoff = min(max(1.0, self._backoff * 2), _LONGEST_BACKOFF)
            self._not_before = time.monotonic() + self._backoff
            if size > _WARN_BYTES:
                _log.warning(
                    "the WAL has %d MiB and a reader keeps it from being checkpointed; look for a long read"
                    " transaction of another program on this database",
                    size >> 20,
                )
        return is_complete
