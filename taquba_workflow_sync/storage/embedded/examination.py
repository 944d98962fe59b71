"""How a store is, and what it stands on, told to an operator: read, and nothing done about it."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from taquba_workflow_sync.storage.embedded.boot_clock import BootClock
from taquba_workflow_sync.storage.embedded.cache import DATABASE_NAME, stray_settings
from taquba_workflow_sync.storage.embedded.connections import Connections
from taquba_workflow_sync.storage.embedded.filesystem import ALLOW_VARIABLE, filesystem_of, is_unsafe
from taquba_workflow_sync.storage.embedded.owners import is_alive, owners_in
from taquba_workflow_sync.storage.port.finding import Finding
from taquba_workflow_sync.storage.port.worker import pid_of
from taquba_workflow_sync.storage.relational import reads, sql
from taquba_workflow_sync.storage.relational.checking.findings import hooks

#: The versions that the WAL-reset bug was mended in: https://www.sqlite.org/wal.html#walresetbug
_MENDED: Final = (3, 51, 3)
_MENDED_BRANCHES: Final = {(3, 50): 7, (3, 44): 6}
_LARGE_LOG: Final = 64 * 2**20
_AHEAD_MS: Final = 60_000
_PATIENCE: Final = 0.2


def examine(root: Path, connections: Connections, own: str, now_ms: int) -> list[Finding]:
    """Return what was looked at, and what is to be done. ``own``: the owner that asks."""
    found = [*_sqlite(), *_filesystem(root), *_permissions(root), *_log(root)]
    with connections.reading() as connection:
        found += [*_settings(connection), *_clock(connection, now_ms), *hooks(connection)]
        found += _owners(root / "owners", connection, own)
    return found


def _sqlite() -> Iterator[Finding]:
    version = sqlite3.sqlite_version_info
    is_mended = version >= _MENDED or version[2] >= _MENDED_BRANCHES.get(version[:2], 10**6)
    guarded = "" if is_mended else ", with the WAL-reset bug, which the library guards against"
    yield Finding("SQLite", f"{sqlite3.sqlite_version}{guarded}")


def _filesystem(root: Path) -> Iterator[Finding]:
    kind = filesystem_of(root)
    if kind is None:
        yield Finding("filesystem", "this system does not tell its type")
    elif is_unsafe(kind):
        todo = f"move the store to a local filesystem; {ALLOW_VARIABLE} lets it be used here, if one machine alone does"
        yield Finding("filesystem", f"{kind}, where SQLite's locks cannot be trusted", todo)
    else:
        yield Finding("filesystem", f"{kind}, local")


def _permissions(root: Path) -> Iterator[Finding]:
    wrong = []
    parts = ((root, 0o700), (root / "db", 0o700), (root / "owners", 0o700), (root / "db" / DATABASE_NAME, 0o600))
    for path, wanted in parts:
        found = path.stat()
        mode = stat.S_IMODE(found.st_mode)
        if mode & ~wanted & 0o077:
            wrong.append(f"chmod {wanted:04o} {path} (it is {mode:04o})")
        if found.st_uid != os.geteuid():
            wrong.append(f"run as the owner of {path}, user {found.st_uid} (this is user {os.geteuid()})")
    if wrong:
        yield Finding("permissions", "others than the owner can read what the store holds", "; ".join(wrong))
    else:
        yield Finding("permissions", "private to its owner")


def _log(root: Path) -> Iterator[Finding]:
    try:
        size = (root / "db" / f"{DATABASE_NAME}-wal").stat().st_size
    except FileNotFoundError:
        size = 0
    todo = "end what holds a read transaction open on the database: a shell, a backup" if size > _LARGE_LOG else None
    yield Finding("log", f"{size / 2**20:.1f} MiB", todo)


def _settings(connection: sqlite3.Connection) -> Iterator[Finding]:
    stray = [key for key, _, _ in stray_settings(connection)]
    if stray:
        todo = "another program has changed them: stop it, and open the store anew"
        yield Finding("settings", f"not the store's own: {', '.join(stray)}", todo)
    else:
        yield Finding("settings", "the store's own")


def _clock(connection: sqlite3.Connection, now_ms: int) -> Iterator[Finding]:
    row = connection.execute(sql.NEWEST_ROW_MS).fetchone()
    ahead_ms = 0 if row is None or type(row[0]) is not int else row[0] - now_ms
    if ahead_ms > _AHEAD_MS:
        todo = "set this machine's clock, and see that it is kept right (chrony, systemd-timesyncd)"
        yield Finding("clock", f"{ahead_ms // 1000} s behind the newest row of the store", todo)
    elif BootClock().boot == 0:
        yield Finding("clock", "no clock of the machine's boot here: delays go by the wall clock")
    else:
        yield Finding("clock", "not behind the store; delays go by the clock of the machine's boot")


def _owners(directory: Path, connection: sqlite3.Connection, own: str) -> Iterator[Finding]:
    living, dead = [], []
    for owner in owners_in(directory):
        if owner == own:
            continue
        if is_alive(directory, owner, _PATIENCE):
            living.append(owner)
        elif reads.has_claims(connection, owner):
            dead.append(owner)
    pids = f" (process {', '.join(sorted(map(pid_of, living)))})" if living else ""
    yield Finding("open elsewhere", f"{len(living)} handles{pids}")
    if dead:
        todo = "start a worker of their queues, which takes them over"
        left = ", ".join(sorted(map(pid_of, dead)))
        yield Finding("dead owners", f"{len(dead)} have left claims: process {left}", todo)
    else:
        yield Finding("dead owners", "none has left claims")
