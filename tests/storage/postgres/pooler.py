"""PgBouncer in front of a server of the tests, if this machine has it."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.postgres import Server, other_user, user_of_server

_START = 20.0


@contextmanager
def pooled(server: Server, mode: str, *, ignores_options: bool = False) -> Iterator[str]:
    """Run a pooler in front of a server; yields the URL that leads through it.

    ``ignores_options``: configured to ignore the settings that a client asks for, instead of refusing it.
    """
    binary = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin:/usr/local/sbin")
    if binary is None:
        pytest.skip("no pgbouncer on this machine")
    root = Path(tempfile.mkdtemp(prefix="taquba-pool-"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    lines = [
        "[databases]",
        f"* = host={server.directory} port={server.port} user=taquba",
        "[pgbouncer]",
        "listen_addr = 127.0.0.1",
        f"listen_port = {port}",
        f"unix_socket_dir = {root}",
        "auth_type = any",
        f"pool_mode = {mode}",
        "default_pool_size = 5",
        f"logfile = {root / 'log'}",
        *(["ignore_startup_parameters = options"] if ignores_options else []),
    ]
    (root / "pgbouncer.ini").write_text("\n".join(lines) + "\n")
    other = other_user()
    if other:
        shutil.chown(root, user_of_server())
    process = subprocess.Popen(
        [binary, "-q", str(root / "pgbouncer.ini")],
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **other,
    )
    try:
        _await(port, process, root)
        yield f"postgresql://taquba@127.0.0.1:{port}/postgres"
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(root, ignore_errors=True)


def _await(port: int, process: subprocess.Popen[bytes], root: Path) -> None:
    until = time.monotonic() + _START
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > until or process.poll() is not None:
                log = root / "log"
                raise AssertionError(f"no pooler: {log.read_text() if log.exists() else 'it said nothing'}") from None
            time.sleep(0.05)
