"""A private server that syncs, with the same settings for everybody who is measured on it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from tests.postgres import Server, start

#: All but the last three are what a server has that nobody has changed, or what docs/fleet/operating.md asks for.
SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "wal_sync_method": "fdatasync",
    "autovacuum_naptime": "15s",
    "max_connections": "300",
    "shared_buffers": "1GB",
    "max_wal_size": "4GB",
}
_CHECKED = ("fsync", "synchronous_commit", "full_page_writes")


class NoServerError(RuntimeError):
    """Raised when there are no binaries of PostgreSQL here."""


@contextmanager
def server_on(place: Path, settings: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Run a server whose files are below `place`. Raises NoServerError, or RuntimeError if it does not sync."""
    # As root it runs as another user, who has to find its directory below ours.
    place.chmod(place.stat().st_mode | 0o011)
    with tempfile.TemporaryDirectory(prefix="pg-", dir=place.resolve(), ignore_cleanup_errors=True) as root:
        chosen = SETTINGS | dict(settings or {})
        server = start(chosen, directory=Path(root))
        if server is None:
            raise NoServerError("no binaries of PostgreSQL here")
        try:
            shown = {name: one(server, f"SHOW {name}") for name in _CHECKED}
            if any(value != "on" for value in shown.values()):
                raise RuntimeError(f"not durable: {shown}")
            yield server
        finally:
            server.stop()
            shutil.rmtree(server.directory / "data", ignore_errors=True)


@contextmanager
def database(server: Server, name: str) -> Iterator[str]:
    """Make a database, lend its URL, and drop it, so that nobody works beside what another has left."""
    with psycopg.connect(server.loopback_url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        yield server.loopback_url.rpartition("/")[0] + f"/{name}"
    finally:
        with psycopg.connect(server.loopback_url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def one(server: Server, question: str) -> Any:
    """Return the one value that the server answers."""
    with psycopg.connect(server.loopback_url, autocommit=True) as connection:
        row = connection.execute(question.encode()).fetchone()
    assert row is not None
    return row[0]
