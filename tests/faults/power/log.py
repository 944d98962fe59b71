"""The commits of a recorded scenario, in their order, each with a fingerprint of the whole database after it.

Read from SQLite's own format (sqlite.org/fileformat2.html, section 4: a frame is a header of 24 bytes and a page; a
frame whose header names a database size ends a transaction), so that nothing of SQLite or of the library decides what
was committed when.
"""

from __future__ import annotations

import hashlib
import sqlite3
import struct
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.faults.interpose import Operation, Record
from tests.faults.power.disk import Disk, Tree

PAGE: Final = 4096
_FRAME: Final = PAGE + 24
_DATABASE: Final = "cache.db"
_EVERY_SUM: Final = 1 << 128


@dataclass(frozen=True, slots=True)
class Commit:
    """The database as it was from this instant on."""

    sequence: int
    fingerprint: int


def page_hashes(content: bytes) -> dict[int, int]:
    """Return the hash of each page of a database given as a file."""
    pages = range(len(content) // PAGE)
    return {each + 1: _page_hash(each + 1, content[each * PAGE : (each + 1) * PAGE]) for each in pages}


def _page_hash(number: int, content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(number.to_bytes(4) + content, digest_size=16).digest())


def content(database: Path) -> bytes:
    """Return what SQLite makes of a database and its log, as one file; empty where there is none."""
    if not database.exists():
        return b""
    with closing(sqlite3.connect(database)) as connection:
        (count,) = connection.execute("PRAGMA page_count").fetchone()  # reads, and so recovers
        return connection.serialize() if count else b""


def fingerprint(pages: Mapping[int, int]) -> int:
    """Return what tells one database from another."""
    return sum(pages.values()) % _EVERY_SUM


def commits(records: Iterable[Record], base: Tree, before: bytes) -> list[Commit]:
    """Return the states that the database went through: as it was before, then one after each commit."""
    disk = Disk(base)
    pages = page_hashes(before)
    found = [Commit(-1, fingerprint(pages))]
    headers: dict[int, tuple[int, int]] = {}
    frames: dict[int, tuple[int, int, int]] = {}
    committed: int | None = None  # after a cut the log may begin in its middle: right behind what was recovered
    is_logged = before[18:19] == b"\2"  # the file's own word for it
    for record in records:
        disk.apply(record)
        name = record.path.rpartition("/")[2]
        if not record.succeeded:
            continue
        if record.operation is Operation.UNLINK and name == f"{_DATABASE}-journal" and not is_logged:
            # Until the log is in use a transaction ends with the removal of its journal.
            file = disk.file(record.path.removesuffix("-journal"))
            pages = page_hashes(bytes(file.cached) if file is not None else b"")
            found.append(Commit(record.sequence, fingerprint(pages)))
        if record.operation is not Operation.WRITE or name != f"{_DATABASE}-wal":
            continue
        is_logged = True
        index, inside = divmod(record.offset - 32, _FRAME)
        if record.offset == 0 and record.result == 32:
            committed = 0
            headers.clear()
            frames.clear()
        elif inside == 0 and record.result == 24:
            headers[index] = struct.unpack(">II", record.data[:8])
            committed = index if committed is None else committed
        elif inside == 24 and record.result == PAGE:
            number, size = headers.pop(index)
            frames[index] = number, size, _page_hash(number, record.data)
            if size:
                assert committed is not None
                for each in range(committed, index + 1):
                    pages[frames[each][0]] = frames[each][2]
                committed = index + 1
                pages = {number: value for number, value in pages.items() if number <= size}
                found.append(Commit(record.sequence, fingerprint(pages)))
        else:
            raise ValueError(f"not how SQLite writes its log as far as this model knows: {record}")
    return found
