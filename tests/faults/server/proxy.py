"""A TCP proxy between processes and a server, which knows where messages of the protocol begin, and misbehaves as told.

Each connection has two threads, one a direction. Faults are asked for by name and message; see :class:`Fault`.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Literal

Side = Literal["client", "server"]
#: What is done to a connection: ended with a reset, ended in one direction, not served any more, or kept for a while.
What = Literal["cut", "half-close", "silence", "delay"]

_RESET: Final = struct.pack("ii", 1, 0)
_CHUNK: Final = 1 << 16
_STARTUP_CODES: Final = (80877103, 80877104)  # what asks for encryption, answered by one letter


@dataclass
class Fault:
    """One misdeed: at the ``number``-th message from ``side`` on a connection once it is armed, before it is passed on.

    ``armed_by``: a message of the client's that has these bytes in it arms it for that connection, and counts as 0.
    """

    what: What
    side: Side
    number: int = 0
    armed_by: bytes = b""
    delay_s: float = 0.5
    times: int = 1
    done: int = 0
    is_over: threading.Event = field(default_factory=threading.Event)


class _Link:
    """One connection through the proxy."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.is_silent = False
        self.armed: dict[int, dict[str, int]] = {}

    def cut(self) -> None:
        """End both sides with a reset, as a host does that has just come up and knows of no connection."""
        for end in (self.client, self.server):
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            with suppress(OSError):
                end.close()


class Proxy:
    """Listens on a loopback port; ``port`` is what clients are given."""

    def __init__(self, host: str, port: int) -> None:
        #: Where connections go from now on.
        self.target: tuple[str, int] = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._links: list[_Link] = []
        self._threads: list[threading.Thread] = []
        self._faults: list[Fault] = []
        self._is_partitioned = False
        self._is_over = False
        self.delay_s = 0.0
        #: Set while messages are passed on.
        self._flows = threading.Event()
        self._flows.set()
        self._start(self._accept)

    def _start(self, body: Callable[[], None]) -> None:
        thread = threading.Thread(target=body, name="test-proxy", daemon=True)
        thread.start()
        self._threads.append(thread)

    def url(self, database: str = "postgres", user: str = "taquba", **options: str) -> str:
        """Return the URL of a database through this proxy."""
        more = "".join(f"&{name}={value}" for name, value in options.items())
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}?sslmode=disable&gssencmode=disable{more}"

    def add(self, fault: Fault) -> Fault:
        """Have a misdeed done once its message comes."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def partition(self) -> None:
        """Pass nothing on, of old connections or new; nobody is told, as when a cable is pulled."""
        self._is_partitioned = True
        self._flows.clear()

    def vanish(self) -> None:
        """As :meth:`partition`, and the server has noticed: it ends its side of every connection."""
        self.partition()
        with self._lock:
            links = tuple(self._links)
        for link in links:
            link.is_silent = True
            with suppress(OSError):
                link.server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            with suppress(OSError):
                link.server.shutdown(socket.SHUT_RDWR)

    def heal(self) -> None:
        """Pass on what comes, and what was kept; of connections that the server has ended, the client hears now."""
        with self._lock:
            for link in self._links:
                if link.is_silent:
                    link.cut()
        self._is_partitioned = False
        self._flows.set()

    def cut_all(self) -> None:
        """End every connection with a reset."""
        with self._lock:
            links, self._links = self._links, []
        for link in links:
            link.cut()

    def close(self) -> None:
        """End everything."""
        self._is_over = True
        self._flows.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut_all()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while not self._is_over:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self.target, timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = _Link(client, server)
            with self._lock:
                self._links.append(link)
            self._start(lambda link=link: self._pass(link, "client"))  # type: ignore[misc]
            self._start(lambda link=link: self._pass(link, "server"))  # type: ignore[misc]

    def _pass(self, link: _Link, side: Side) -> None:
        source, target = (link.client, link.server) if side == "client" else (link.server, link.client)
        messages = _Messages(side)
        try:
            while True:
                data = source.recv(_CHUNK)
                if not data:
                    break
                for message in messages.split(data):
                    self._flows.wait()
                    if self.delay_s:
                        threading.Event().wait(self.delay_s)
                    if self._is_over or not self._deliver(link, side, message, target):
                        return
        except OSError:
            pass
        finally:
            self._flows.wait()
            if not link.is_silent:
                with suppress(OSError):
                    target.shutdown(socket.SHUT_WR)

    def _deliver(self, link: _Link, side: Side, message: bytes, target: socket.socket) -> bool:
        """Pass a message on; False if the connection is at its end."""
        fault = self._due(link, side, message)
        if fault is not None:
            fault.done += 1
            fault.is_over.set()
            match fault.what:
                case "cut":
                    link.cut()
                    return False
                case "half-close":
                    return False  # which ends this direction, as the end of what comes would
                case "silence":
                    link.is_silent = True
                case "delay":
                    threading.Event().wait(fault.delay_s)
        if not link.is_silent:
            target.sendall(message)
        return True

    def _due(self, link: _Link, side: Side, message: bytes) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.done >= fault.times:
                    continue
                counts = link.armed.get(id(fault))
                if counts is None and (not fault.armed_by or (side == "client" and fault.armed_by in message)):
                    counts = link.armed[id(fault)] = {"client": 0, "server": 0}
                if counts is None:
                    continue
                number = counts[side]
                counts[side] += 1
                if side == fault.side and number == fault.number:
                    return fault
        return None


class _Messages:
    """Splits what comes from one side at its messages; what is not whole yet waits for the rest."""

    def __init__(self, side: Side) -> None:
        self._rest = b""
        self._is_startup = side == "client"

    def split(self, data: bytes) -> list[bytes]:
        """Return the messages that are whole now."""
        self._rest += data
        found: list[bytes] = []
        while True:
            begin = 0 if self._is_startup else 1
            if len(self._rest) < begin + 4:
                return found
            (length,) = struct.unpack_from("!i", self._rest, begin)
            if len(self._rest) < begin + length:
                return found
            message, self._rest = self._rest[: begin + length], self._rest[begin + length :]
            if self._is_startup and not (
                len(message) == 8 and struct.unpack_from("!i", message, 4)[0] in _STARTUP_CODES
            ):
                self._is_startup = False
            found.append(message)
