"""The command line as a process of its own: with pipes, or on a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-W", "error", "-m", "taquba_workflow_sync"]


def environment(store: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "NOTIFY_SOCKET")}
    return {**kept, "TAQUBA_STORE": str(store), "PYTHONPATH": str(ROOT), "TERM": "xterm", **more}


@contextmanager
def started(store: Path, *arguments: str, cwd: Path | None = None, **more: str) -> Iterator[subprocess.Popen[str]]:
    """A command that runs; killed at the end, if it still does."""
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=cwd,
        env=environment(store, **more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
        process.communicate()


class Terminal:
    """A command on a terminal of its own, and what it has shown."""

    def __init__(self, store: Path, *arguments: str, **more: str) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            env=environment(store, **more),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            preexec_fn=lambda: os.login_tty(slave),  # so that Ctrl-C reaches it
            pass_fds=(slave,),
        )
        os.close(slave)
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def wait_for(self, pattern: str) -> None:
        """Return once the pattern has been shown."""
        deadline = time.monotonic() + PATIENCE
        while not re.search(pattern, self.shown):
            assert time.monotonic() < deadline and self._read(), f"{pattern!r} was not shown: {self.shown!r}"

    def _read(self) -> bool:
        if not select.select([self._master], [], [], 1.0)[0]:
            return True
        try:
            data = os.read(self._master, 65_536)
        except OSError:  # the last one who had it open has gone
            return False
        self.shown += data.decode(errors="replace")
        return bool(data)

    def end(self) -> int:
        """Read to the end and return the exit code."""
        deadline = time.monotonic() + PATIENCE
        while self._read() and time.monotonic() < deadline:
            if self.process.poll() is not None and not select.select([self._master], [], [], 0)[0]:
                break
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            os.close(self._master)


class NotifySocket:
    """Stands where systemd listens."""

    def __init__(self, directory: Path) -> None:
        self.path = str(directory / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.settimeout(PATIENCE)

    def hear(self) -> str:
        return self._socket.recv(4096).decode()

    def close(self) -> None:
        self._socket.close()
