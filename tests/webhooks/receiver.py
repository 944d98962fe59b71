"""A real HTTP server on 127.0.0.1 that misbehaves on demand, one behaviour per path."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

#: A behaviour answers one request and says whether the connection stays open for another.
Behaviour = Callable[["Connection", "Received"], bool]


@dataclass(frozen=True)
class Received:
    """A request as it came: ``names`` are the header names with their case and their repetitions."""

    method: str
    target: str
    headers: dict[str, str]
    names: list[str]
    body: bytes


@dataclass
class Connection:
    """The receiver's end of one connection."""

    sock: socket.socket
    closing: threading.Event
    number: int

    def drip(self, data: bytes, interval: float) -> None:
        """Send a byte at a time until the client or the test has had enough."""
        for byte in data:
            self.sock.sendall(bytes([byte]))
            if self.closing.wait(interval):
                return

    def wait_for_the_end(self) -> None:
        """Return when the client has hung up or the test is over (which shuts the socket down)."""
        with contextlib.suppress(OSError):
            while self.sock.recv(65536):
                pass


@dataclass
class Receiver:
    """Listens until closed; ``on(path, behaviour)`` returns the URL of that path."""

    tls: ssl.SSLContext | None = None
    requests: list[Received] = field(default_factory=list)
    connections: int = 0
    _behaviours: dict[str, Behaviour] = field(default_factory=dict)
    _closing: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _threads: list[threading.Thread] = field(default_factory=list)
    _sockets: list[socket.socket] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._listener = socket.socket()
        # Inherited by accepted sockets: a client soon notices that nobody reads.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(64)
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    def on(self, path: str, behaviour: Behaviour) -> str:
        self._behaviours[path] = behaviour
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}{path}"

    def join_connections(self) -> None:
        """Wait until every connection made so far has ended, on this side too."""
        for thread in self._threads[1:]:
            thread.join(30)
            assert not thread.is_alive()

    def close(self) -> None:
        self._closing.set()
        with self._lock:
            sockets = [self._listener, *self._sockets]
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(30)
        self._listener.close()
        assert not any(thread.is_alive() for thread in self._threads), "the receiver left a thread behind"

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, name="receiver", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._sockets.append(sock)
                self.connections += 1
                number = self.connections
            if self._closing.is_set():
                sock.close()
                return
            self._start(self._serve, Connection(sock, self._closing, number))

    def _serve(self, connection: Connection) -> None:
        with connection.sock, contextlib.suppress(OSError):
            if self.tls is None:
                self._converse(connection)
                return
            with self.tls.wrap_socket(connection.sock, server_side=True) as sock:
                with self._lock:
                    self._sockets.append(sock)
                self._converse(Connection(sock, self._closing, connection.number))

    def _converse(self, connection: Connection) -> None:
        while True:
            head = _read_head(connection.sock)
            if head is None:
                return
            target = head.split(b" ", 2)[1].decode()
            behaviour = self._behaviours[target.partition("?")[0]]
            if getattr(behaviour, "unread", False):
                behaviour(connection, _parsed(head, b""))
                return
            received = _parsed(head, b"")
            received = _parsed(head, _read_exactly(connection.sock, int(received.headers["content-length"])))
            with self._lock:
                self.requests.append(received)
            if not behaviour(connection, received):
                return


def _read_head(sock: socket.socket) -> bytes | None:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        if not byte:
            return None
        head += byte
    return head


def _read_exactly(sock: socket.socket, size: int) -> bytes:
    body = bytearray()
    while len(body) < size:
        piece = sock.recv(min(65536, size - len(body)))
        if not piece:
            raise ConnectionError("the client hung up")
        body += piece
    return bytes(body)


def _parsed(head: bytes, body: bytes) -> Received:
    start, *lines = head.decode("latin-1").split("\r\n")[:-2]
    method, target, _ = start.split(" ", 2)
    pairs = [line.split(": ", 1) for line in lines]
    return Received(method, target, {n.lower(): v for n, v in pairs}, [n for n, _ in pairs], body)


def answers(status: int, body: bytes = b"", **headers: str) -> Behaviour:
    """Answer properly; header names are given with underscores."""

    def behaviour(connection: Connection, _: Received) -> bool:
        lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        connection.sock.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        return True

    return behaviour


def answers_in_turn(*behaviours: Behaviour) -> Behaviour:
    """Behave differently at each request; the last one stays."""
    turns = list(behaviours)

    def behaviour(connection: Connection, received: Received) -> bool:
        return (turns.pop(0) if len(turns) > 1 else turns[0])(connection, received)

    return behaviour


def sends(data: bytes) -> Behaviour:
    """Send these bytes and hang up."""

    def behaviour(connection: Connection, _: Received) -> bool:
        connection.sock.sendall(data)
        return False

    return behaviour


def never_answers(connection: Connection, _: Received) -> bool:
    connection.wait_for_the_end()
    return False


def drips(data: bytes, *, after: bytes = b"", interval: float = 0.1) -> Behaviour:
    """Send ``after`` at once, then ``data`` byte by byte: each wait of the client is short, all together are not."""

    def behaviour(connection: Connection, _: Received) -> bool:
        connection.sock.sendall(after)
        connection.drip(data, interval)
        return False

    return behaviour


def endless(head: bytes, piece: bytes) -> Behaviour:
    """Send a head, then the same piece until the client hangs up."""

    def behaviour(connection: Connection, _: Received) -> bool:
        connection.sock.sendall(head)
        while not connection.closing.is_set():
            connection.sock.sendall(piece)
        return False

    return behaviour


def resets(connection: Connection, _: Received) -> bool:
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def never_reads(connection: Connection, _: Received) -> bool:
    """Leave the request's body where it is, so that the client's send blocks."""
    connection.closing.wait()
    return False


def reads_slowly(connection: Connection, _: Received) -> bool:
    """Read at most 5 MB/s, in sips: the kernel wakes the client for each megabyte or so, some five times a second."""
    while not connection.closing.wait(0.05):
        _read_exactly(connection.sock, 250_000)
    return False


for behaviour_that_reads in (never_reads, reads_slowly):
    behaviour_that_reads.unread = True  # type: ignore[attr-defined]  # the receiver must not read the body for it


def answers_and_hangs_up(connection: Connection, received: Received) -> bool:
    """Promise to keep the connection, then close it."""
    answers(200)(connection, received)
    return False
