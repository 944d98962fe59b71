"""What systemd is told of a service of ``Type=notify`` (sd_notify(3)), and what a supervisor hears in its place."""

from __future__ import annotations

import os
import socket
import tempfile
from contextlib import suppress
from typing import Final

_VARIABLE: Final = "NOTIFY_SOCKET"
_READY: Final = "READY=1"


def notify(state: str) -> bool:
    """Send a state such as ``READY=1`` to who started this process and asked for it; whether it was sent."""
    address = os.environ.get(_VARIABLE)
    if not address or address[0] not in "/@":
        return False
    if address[0] == "@":
        address = f"\0{address[1:]}"  # an abstract socket, which has no file
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect(address)
            sender.sendall(state.encode())
    except OSError:
        return False  # nobody listens: the work is more important than its announcement
    return True


class Listener:
    """Hears whether a process that was started with its ``environment`` is ready."""

    def __init__(self) -> None:
        self._directory = tempfile.mkdtemp(prefix="taquba-")
        self._path = os.path.join(self._directory, "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self._path)
        self._socket.setblocking(False)

    @property
    def environment(self) -> dict[str, str]:
        """What the process has to have in its environment."""
        return {_VARIABLE: self._path}

    def hears_ready(self) -> bool:
        """Whether it has said so since the last look."""
        is_ready = False
        with suppress(OSError):  # nothing more to be read, or closed
            while True:
                said = self._socket.recv(4096).decode(errors="replace")
                is_ready = is_ready or _READY in said.splitlines()
        return is_ready

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()
        with suppress(OSError):
            os.unlink(self._path)
            os.rmdir(self._directory)
