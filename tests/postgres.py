"""A private server of the machine's PostgreSQL for the tests, or the one that ``TAQUBA_TEST_POSTGRES`` names.

Started by the first test that needs it, in each process that runs tests; ended with that process. Never as root: where
the tests are, the server runs as the user ``postgres``, or ``nobody``.
"""

from __future__ import annotations

import atexit
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

ADDRESS: Final = "TAQUBA_TEST_POSTGRES"
#: Set where the tests must not be skipped for want of a server.
REQUIRED: Final = "TAQUBA_REQUIRE_POSTGRES"
_START: Final = 60.0
# What a power cut leaves of the server's files is not what these tests look at.
_SETTINGS: Final = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "300",
    "shared_buffers": "64MB",
    "autovacuum_naptime": "5s",
    "log_min_messages": "fatal",
}
_numbers = itertools.count()


class Server:
    """A server that runs; ``url`` is that of its database, to which a schema is added."""

    def __init__(
        self,
        directory: Path,
        port: int,
        process: subprocess.Popen[bytes],
        binaries: Path,
        settings: dict[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.settings = settings or {}
        self.port = port
        self.process = process
        self.binaries = binaries

    @property
    def url(self) -> str:
        return f"postgresql://taquba@/postgres?host={self.directory}&port={self.port}"

    @property
    def loopback_url(self) -> str:
        return f"postgresql://taquba@127.0.0.1:{self.port}/postgres"

    def processes(self) -> list[int]:
        """Return the server's processes, its first one last."""
        found = []
        for place in Path("/proc").glob("[0-9]*/stat"):
            try:
                words = place.read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has just ended
            if int(words[1]) == self.process.pid:
                found.append(int(place.parent.name))
        return [*found, self.process.pid]

    def signal_all(self, number: signal.Signals) -> None:
        """Send a signal to every process of the server, as to one."""
        for pid in reversed(self.processes()) if number == signal.SIGSTOP else self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """Kill -9, all of it: what it had not written is lost."""
        # The first one first: it would else begin to clear up after its children.
        pids = self.processes()
        self.process.kill()
        for pid in pids[:-1]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """End it at once: nobody needs what it holds."""
        self.process.send_signal(signal.SIGQUIT)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _binaries() -> Path | None:
    """Return where ``initdb`` and ``postgres`` are, of the newest version that is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    there = shutil.which("initdb")
    return None if there is None else Path(there).resolve().parent


def other_user() -> dict[str, Any]:
    """Return what makes a child another user than root, where it must be."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    return {}


def start(
    settings: dict[str, str] | None = None, *, directory: Path | None = None, port: int | None = None
) -> Server | None:
    """Start a server of its own; None if the machine has none.

    Its directory is private, in a short path: a socket's may have 107 characters. One that is given, with what another
    server has left in ``data``, is gone on with; ``port``: where that one listened.
    """
    binaries = _binaries()
    if binaries is None:
        return None
    other = other_user()
    root = Path(tempfile.mkdtemp(prefix="taquba-pg-")) if directory is None else directory
    if other:
        os.chown(root, other["user"], other["group"])
    data = root / "data"
    if not data.exists():
        command = [binaries / "initdb", "-D", data, "-U", "taquba", "-A", "trust", "-E", "UTF8", "--locale=C"]
        subprocess.run([*map(str, command), "--no-sync"], check=True, cwd="/", capture_output=True, **other)
    if port is None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
    chosen = {**_SETTINGS, "listen_addresses": "127.0.0.1", **(settings or {}), "port": str(port)}
    options = [word for name, value in chosen.items() for word in ("-c", f"{name}={value}")]
    log = (root / "log").open("ab")
    process = subprocess.Popen(
        [str(binaries / "postgres"), "-D", str(data), "-k", str(root), *options],
        cwd="/",
        stdout=log,
        stderr=log,
        **other,
    )
    log.close()
    server = Server(root, port, process, binaries, settings)
    _await(server)
    return server


def user_of_server() -> str:
    """Return whom servers run as where the tests are root."""
    try:
        pwd.getpwnam("postgres")
    except KeyError:
        return "nobody"
    return "postgres"


def _await(server: Server) -> None:
    import psycopg

    until = time.monotonic() + _START
    while True:
        try:
            psycopg.connect(server.url, connect_timeout=5).close()
            return
        except psycopg.OperationalError:
            if time.monotonic() > until or server.process.poll() is not None:
                raise AssertionError(f"the server did not start: {(server.directory / 'log').read_text()}") from None
            time.sleep(0.05)


@cache
def _shared() -> str | None:
    given = os.environ.get(ADDRESS)
    if given:
        return given
    try:
        import psycopg  # noqa: F401
    except ModuleNotFoundError:
        return None
    server = start()
    if server is None:
        return None
    pid = os.getpid()

    def end() -> None:
        if os.getpid() == pid:  # not in a child of a test, which has inherited this
            server.stop()
            shutil.rmtree(server.directory, ignore_errors=True)

    atexit.register(end)
    return server.url


def server_url() -> str:
    """Return the URL of a server's database; where there is none, the test is skipped, or fails."""
    url = _shared()
    if url is None:
        reason = "no PostgreSQL here: neither its binaries and psycopg, nor TAQUBA_TEST_POSTGRES"
        if os.environ.get(REQUIRED):
            pytest.fail(reason)
        pytest.skip(reason)
    return url


def store_url(name: str | None = None) -> str:
    """Return the URL of a store that nobody has used, or of the one of that name."""
    url = server_url()
    schema = f"t{os.getpid()}_{next(_numbers)}" if name is None else name
    return f"{url}{'&' if '?' in url else '?'}schema={schema}"


def clear_stores(urls: Iterable[str]) -> None:
    """Have stores be as they were made."""
    from taquba_workflow_sync.storage.postgres.address import parsed
    from taquba_workflow_sync.storage.postgres.dialect import tables
    from taquba_workflow_sync.storage.relational import sql

    names = [*tables(), sql.GRAPH, "taquba_live", "taquba_arrival", "taquba_arrival_refused"]
    for url in urls:
        where = parsed(url)
        import psycopg

        with psycopg.connect(where.dsn, autocommit=True) as connection:
            text = ";".join(f'DELETE FROM "{where.schema}".{name}' for name in names)
            meta = f"INSERT INTO \"{where.schema}\".{sql.META} (key, value) VALUES ('next_seq', 1), ('commits', 0)"
            connection.execute(f"{text};{meta}".encode())
