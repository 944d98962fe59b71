"""What keeps a store small, sound and saved, as a caller asks for it: a part of the queue."""

from __future__ import annotations

import os
from functools import partial

from taquba_workflow_sync.queue import engines, opening, validation
from taquba_workflow_sync.queue.config import Duration
from taquba_workflow_sync.queue.handle import QueueHandle
from taquba_workflow_sync.queue.paging import in_pieces
from taquba_workflow_sync.queue.records import CheckReport
from taquba_workflow_sync.storage.port.finding import Finding
from taquba_workflow_sync.storage.port.operators import MOST_EXAMINED
from taquba_workflow_sync.storage.port.reads import Filter
from taquba_workflow_sync.storage.port.status import JobStatus


class Upkeep:
    """The part of an open store that saves, checks and clears it."""

    handle: QueueHandle

    @staticmethod
    def is_store(path: str | os.PathLike[str]) -> bool:
        """Whether there is a store at ``path``; makes nothing.

        Raises:
            TypeError, ValueError: ``path`` names no directory.
        """
        return engines.is_store(opening.address_of(path))

    def drop_dead_job(self, job_id: str) -> None:
        """Remove a dead letter, with its payload and its history; durable on return. Nobody is told.

        Raises:
            JobNotFoundError: there is no such job.
            InvalidStateError: it is not dead, or a member of a group, which goes with its group.
        """
        validation.identifier(job_id, "job_id")
        self.handle.remove(job_id)

    def purge(self, queue_name: str, older_than: Duration) -> int:
        """Remove what ended ``older_than`` seconds ago, whatever its retention; return how many rows went.

        Up to 500 in each commit: an error in between leaves what was done before. What is active stays, and so do the
        members of groups, which go with their group.

        Raises:
            TypeError, ValueError, InvalidNameError: an argument is wrong; nothing was removed.
        """
        validation.queue_name(queue_name)
        age_ms = validation.duration_ms(older_than, "older_than")
        removed = 0
        for status in (JobStatus.DONE, JobStatus.DEAD, JobStatus.CANCELLED):
            which = Filter(status=status, ended_for_ms=age_ms, most_examined=MOST_EXAMINED)
            removed += in_pieces(partial(self.handle.remove_some, queue_name, which))
        return removed

    def backup(self, path: str | os.PathLike[str]) -> None:
        """Write a copy of the store, of one moment, into a new directory at ``path``; others may go on working.

        Durable on return. The copy is a store of its own, also on another machine: its first open puts back what was
        claimed at that moment. A failure leaves nothing behind that looks like a store.

        Raises:
            TypeError, ValueError: ``path`` names no directory.
            StorageError: something is there already, or the disk refuses.
        """
        self.handle.store.backup(opening.address_of(path))

    def backup_file(self, path: str | os.PathLike[str]) -> None:
        """Write a copy of the store, of one moment, into one new file at ``path``; others may go on working.

        Durable on return. :meth:`restore` makes a store of it.

        Raises:
            TypeError, ValueError: ``path`` names no file.
            StorageError: something is there already, or the disk refuses.
        """
        self.handle.store.backup_file(opening.address_of(path))

    @staticmethod
    def restore(backup: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
        """Make a store at ``path``, a new or empty directory, of a backup: a file or a directory. Durable on return.

        Its first open puts back what was claimed, charged as if the processes had been killed. Never run a copy beside
        the original.

        Raises:
            TypeError, ValueError: an argument names nothing.
            StorageError: it is no backup, it cannot be read, or something is at ``path``.
            UnsupportedFilesystemError: SQLite's locks are not safe there.
        """
        engines.restore(opening.address_of(backup), opening.address_of(path))

    @staticmethod
    def move(source: str | os.PathLike[str], target: str | os.PathLike[str], *, wait: Duration = 60) -> int:
        """Move a store into an empty one of the other engine, a directory or a URL; return how many rows it has.

        Others may have it open. Nothing more is claimed from then on, and running steps are waited for, up to ``wait``
        seconds; if they do not end, the store goes on as before. Then it is closed: whoever works on it gets a
        transient ``StorageError``, and once all is there ``StoreMovedError``. Ids, places, attempts, histories,
        signals, memos, values, groups, limits, schedules and retentions survive. The rows of the source stay there.

        After an error, or the end of this process, call it again: it goes on. Or :meth:`abort_move`.

        Raises:
            StoreInUseError: steps, or others' transactions, have not ended; they are named. Nothing was moved.
            StorageError: there is no source, the target is not empty, or a store refuses.
            StoreMovedError: the source was moved before.
            TypeError, ValueError: an argument is wrong, or both stores are of one engine.
        """
        addresses = opening.address_of(source), opening.address_of(target)
        return engines.move(*addresses, validation.seconds(wait, "wait"))

    @staticmethod
    def abort_move(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
        """Undo a move that has not come to its end: the source is as it was, the target empty. Durable on return.

        Raises:
            StorageError: no such move was begun, or all is copied and the target is open: then move again, to the end.
            StoreMovedError: the source was moved.
            TypeError, ValueError: an argument is wrong, or both stores are of one engine.
        """
        engines.abort_move(opening.address_of(source), opening.address_of(target))

    def examine(self) -> list[Finding]:
        """Look how the store and what it stands on are: SQLite, the filesystem, permissions, clocks, leftovers.

        Reads only, and quickly; :meth:`check` looks at every row.
        """
        return self.handle.store.examine()

    def check(self) -> CheckReport:
        """Look through the whole store for what is wrong; reads only, others may go on working.

        Takes as long as reading every page and row.
        """
        problems = self.handle.store.check()
        return CheckReport(not problems, problems)
