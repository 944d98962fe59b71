"""Reads from the record of several processes when each of them committed and checkpointed, and whether two met.

SQLite's locks are the frame. Bytes of ``cache.db-shm``: 120 whoever writes to the WAL, 121 whoever checkpoints (121 and
122 together: whoever rebuilds the index after a crash). On ``cache.db`` itself every connection holds a shared lock as
long as it is open; the last one to close takes it for itself, and checkpoints under that alone.

A **checkpoint** lasts from the taking of byte 121 to its release; at a last close, from the first write or sync under
the exclusive lock to the last one of ``cache.db``. A **commit** lasts from the taking of byte 120 to the last write or
sync of the WAL before its release. A killed process, and one that closes a descriptor, lets go of its locks without a
record of it: then a hold ends with its last record, or with that ``CLOSE``.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from tests.faults.interpose import Operation, Record

DATABASE: Final = "db/cache.db"
WAL: Final = f"{DATABASE}-wal"
INDEX: Final = f"{DATABASE}-shm"
WRITE_LOCK: Final = 120
CHECKPOINT_LOCK: Final = 121
RECOVERY_LOCK: Final = 122
#: The first byte of those that a shared lock of the database file covers.
SHARED: Final = 0x40000002
_PENDING: Final = 0x40000000

_TRACKED: Final = {INDEX: (WRITE_LOCK, CHECKPOINT_LOCK, RECOVERY_LOCK), DATABASE: (SHARED,)}
_READ, _WRITE = 0, 1
_Key = tuple[int, int]  # inode and byte
_CHANGES: Final = (Operation.WRITE, Operation.TRUNCATE, Operation.UNLINK, Operation.RENAME)


@dataclass
class Span:
    """What one process did under one lock, in numbers of records; ``end`` counts, too."""

    kind: str  # commit, checkpoint, recovery, close
    pid: int
    begin: int
    end: int
    writes: int = 0
    is_synced: bool = False
    is_over: bool = False  # it let go; otherwise its process died inside

    def overlaps(self, other: Span) -> bool:
        return self.begin <= other.end and other.begin <= self.end

    def __str__(self) -> str:
        return f"{self.kind} of process {self.pid} ({self.begin}-{self.end})"


@dataclass
class Audit:
    """What happened, and what must not have happened."""

    commits: list[Span] = field(default_factory=list)
    checkpoints: list[Span] = field(default_factory=list)
    recoveries: list[Span] = field(default_factory=list)
    closes: list[Span] = field(default_factory=list)
    resets: list[tuple[int, int]] = field(default_factory=list)  # record and process
    refused: list[tuple[int, int]] = field(default_factory=list)  # tries for the write lock, or to open the file
    records: int = 0
    violations: list[str] = field(default_factory=list)

    @property
    def completed(self) -> list[Span]:
        """Checkpoints that moved something and were synced."""
        return [each for each in self.checkpoints + self.closes if each.is_synced and each.writes]

    def waited(self, span: Span) -> set[int]:
        """The processes that tried to commit or to open during a checkpoint, and committed only after it."""
        tried = {pid for at, pid in self.refused if span.begin <= at <= span.end and pid != span.pid}
        return {pid for pid in tried if any(each.pid == pid and each.begin > span.end for each in self.commits)}

    def of(self, pid: int) -> Counter[str]:
        """Count what one process did."""
        return Counter(
            each.kind for each in self.commits + self.checkpoints + self.recoveries + self.closes if each.pid == pid
        )

    def counts(self) -> Counter[str]:
        return Counter(
            {
                "commits": len(self.commits),
                "checkpoints": len(self.checkpoints),
                "checkpoints at a last close": len(self.closes),
                "checkpoints cut short by a kill": sum(not each.is_over for each in self.checkpoints + self.closes),
                "commits cut short by a kill": sum(not each.is_over for each in self.commits),
                "recoveries": len(self.recoveries),
                "WAL resets": len(self.resets),
            }
        )


class _Reader:
    """Goes through the records once; holds who has which lock at that point."""

    def __init__(self) -> None:
        self.audit = Audit()
        self.holders: dict[_Key, int] = {}
        self.open: dict[_Key, Span] = {}
        self.last_seen: dict[int, int] = {}
        self.dispossessed: dict[int, str] = {}
        self.wal_seen = False

    def read(self, records: Iterable[Record]) -> Audit:
        audit = self.audit
        changes: list[tuple[int, int, Operation]] = []
        for record in records:
            audit.records += 1
            self._check_alive(record)
            match record.operation:
                case Operation.LOCK if record.path in _TRACKED:
                    self._lock(record)
                case Operation.CLOSE if record.path in _TRACKED and record.succeeded:
                    for byte in _TRACKED[record.path]:
                        self._release((record.inode, byte), record)
                case Operation.WRITE | Operation.TRUNCATE | Operation.SYNC_BEGIN | Operation.SYNC:
                    self._touch(record)
                case _:
                    pass
            if record.path == WAL and record.operation in _CHANGES and record.result != -1:
                changes.append((record.sequence, record.pid, record.operation))
        for key in list(self.open):
            self._end(key, is_over=False)
        self._compare(changes)
        return audit

    # -- locks -------------------------------------------------------------------------------------------------

    def _lock(self, record: Record) -> None:
        kind = record.data[0]
        first, last = record.offset, record.offset + (record.length or 1 << 62)
        if not record.succeeded:
            if record.error in (errno.EAGAIN, errno.EACCES) and (
                (record.path == INDEX and kind == _WRITE and first <= WRITE_LOCK < last)
                or (record.path == DATABASE and kind == _READ and first >= _PENDING)
            ):
                self.audit.refused.append((record.sequence, record.pid))
            return
        covered = [byte for byte in _TRACKED[record.path] if first <= byte < last]
        for byte in covered:
            key = record.inode, byte
            if kind == _WRITE:
                self._take(key, record, is_recovery={CHECKPOINT_LOCK, RECOVERY_LOCK} <= set(covered))
            else:
                self._release(key, record)
                if byte == SHARED and kind == _READ:
                    self._dispossess(key, record)

    def _take(self, key: _Key, record: Record, *, is_recovery: bool) -> None:
        pid, byte = record.pid, key[1]
        self._dispossess(key, record)
        if self.holders.get(key) == pid:
            return
        self.holders[key] = pid
        kind = {WRITE_LOCK: "commit", CHECKPOINT_LOCK: "checkpoint", SHARED: "close"}.get(byte)
        if byte == CHECKPOINT_LOCK:
            kind = "recovery" if is_recovery else "checkpoint"
            if self.holders.get((key[0], WRITE_LOCK)) != pid:
                self.audit.violations.append(f"{kind} of process {pid} ({record.sequence}) without the write lock")
        if kind is not None:
            self.open[key] = Span(kind, pid, record.sequence, record.sequence)

    def _dispossess(self, key: _Key, record: Record) -> None:
        """Somebody else got what a process held: it is dead, or a lock was lost."""
        former = self.holders.get(key)
        if former is not None and former != record.pid:
            self._end(key, is_over=False)
            self.dispossessed[former] = f"byte {key[1]} went to process {record.pid} ({record.sequence})"

    def _check_alive(self, record: Record) -> None:
        how = self.dispossessed.pop(record.pid, None)
        if how is not None:
            self.audit.violations.append(f"process {record.pid} lost its lock and lives ({record.sequence}): {how}")
        self.last_seen[record.pid] = record.sequence

    def _release(self, key: _Key, record: Record) -> None:
        if self.holders.get(key) != record.pid:
            return
        if key[1] == WRITE_LOCK:
            checkpoint = self.open.get((key[0], CHECKPOINT_LOCK))
            if checkpoint is not None and checkpoint.pid == record.pid and record.operation is not Operation.CLOSE:
                self.audit.violations.append(f"{checkpoint} lost the write lock at {record.sequence}")
        if key[1] == CHECKPOINT_LOCK:
            self.open[key].end = record.sequence
        self._end(key, is_over=True)

    def _end(self, key: _Key, *, is_over: bool) -> None:
        self.holders.pop(key, None)
        span = self.open.pop(key, None)
        if span is None:
            return
        span.is_over = is_over
        if span.kind in ("checkpoint", "recovery"):
            if not is_over:
                span.end = self.last_seen[span.pid]
            (self.audit.checkpoints if span.kind == "checkpoint" else self.audit.recoveries).append(span)
        elif span.writes:
            (self.audit.commits if span.kind == "commit" else self.audit.closes).append(span)

    # -- writes and syncs --------------------------------------------------------------------------------------

    def _held(self, byte: int, pid: int) -> Span | None:
        return next((span for (_, held), span in self.open.items() if held == byte and span.pid == pid), None)

    def _touch(self, record: Record) -> None:
        if record.path not in (WAL, DATABASE):
            return
        is_change = record.operation in (Operation.WRITE, Operation.TRUNCATE) and record.result != -1
        alone = self._held(SHARED, record.pid)
        if record.path == WAL:
            self.wal_seen = True
            if record.operation is Operation.WRITE and is_change and record.offset == 0:
                self.audit.resets.append((record.sequence, record.pid))
            commit = self._held(WRITE_LOCK, record.pid)
            if commit is not None:
                if is_change:
                    commit.writes += 1
                if commit.writes:
                    commit.end = record.sequence
            elif is_change and alone is None:
                self.audit.violations.append(f"process {record.pid} changed the WAL ({record}) without the write lock")
            return
        moving = self._held(CHECKPOINT_LOCK, record.pid) or alone
        if moving is None:
            if is_change and self.wal_seen:
                self.audit.violations.append(f"process {record.pid} changed the database ({record}) in no checkpoint")
            return
        if is_change and self.wal_seen:
            moving.writes += 1
        if moving.writes:
            moving.end = max(moving.end, record.sequence)
            moving.is_synced |= record.operation is Operation.SYNC and record.succeeded

    # -- the question ------------------------------------------------------------------------------------------

    def _compare(self, changes: list[tuple[int, int, Operation]]) -> None:
        audit = self.audit
        resets = set(audit.resets)
        # A recovery moves nothing, but rests on nobody's writing all the same.
        still = sorted(audit.checkpoints + audit.recoveries + audit.closes, key=lambda span: span.begin)
        for span, inside in _inside(still, changes):
            for at, pid, operation in inside:
                what = "WAL reset" if (at, pid) in resets else f"{operation.name.lower()} of the WAL"
                audit.violations.append(f"overlap: {what} by process {pid} ({at}) inside the {span}")
        commits = sorted(audit.commits, key=lambda span: span.begin)
        place = 0
        for span in still:
            while place < len(commits) and commits[place].end < span.begin:
                place += 1
            for commit in commits[place:]:
                if commit.begin > span.end:
                    break
                if commit.overlaps(span):
                    audit.violations.append(f"overlap: the {commit} and the {span}")


def _inside(
    spans: list[Span], changes: list[tuple[int, int, Operation]]
) -> Iterable[tuple[Span, list[tuple[int, int, Operation]]]]:
    """Return with each span the changes that lie inside; both are in order."""
    place = 0
    for span in spans:
        while place < len(changes) and changes[place][0] < span.begin:
            place += 1
        inside = []
        for change in changes[place:]:
            if change[0] > span.end:
                break
            inside.append(change)
        yield span, inside


def audit(records: Iterable[Record]) -> Audit:
    """Find every commit and every checkpoint in a whole record, and whatever was out of order."""
    return _Reader().read(records)
