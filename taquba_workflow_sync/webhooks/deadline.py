"""One deadline for a whole HTTP exchange: connecting, TLS, sending, and every byte of the answer.

The timeouts of requests and urllib3 bound each wait for the socket, so a receiver that drips a byte a second holds a
thread for ever. Here the deadline travels as the request's timeout, down to connections (:mod:`.connections`) whose
sockets give each operation only what is left. No watchdog thread, no exception injected, nothing process-wide. Only the
name lookup is outside: Python cannot interrupt it (it counts, but does not end, when the time is up).

This module imports urllib3, which requests brings along, and is therefore imported with the first delivery.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import urllib3

from taquba_workflow_sync.webhooks.target import Allow

#: Never 0, which would mean "do not block" to a socket.
_LEAST_TIMEOUT_S = 0.001

# Read by connection pools only, and only for adapters that put a timeout of their own in the place of ours.
_under_way: ContextVar[ExchangeTimeout | None] = ContextVar("_under_way", default=None)


class ExchangeTimeout(urllib3.Timeout):
    """The timeout of one request: what is left until ``deadline``, a reading of ``time.monotonic()``.

    It is also how what else holds for the request reaches its connection: whom to ask before connecting (``allow``),
    and what the first line of the request asks for (``target``), once the pool has taken that out of the URL.
    """

    def __init__(self, deadline: float, allow: Allow | None = None, target: str | None = None) -> None:
        super().__init__()
        self.deadline = deadline
        self.allow = allow
        self.target = target

    def clone(self) -> ExchangeTimeout:
        return ExchangeTimeout(self.deadline, self.allow, self.target)

    def with_target(self, target: str) -> ExchangeTimeout:
        return ExchangeTimeout(self.deadline, self.allow, target)

    @property
    def connect_timeout(self) -> Remaining:
        return Remaining(self)

    @property
    def read_timeout(self) -> Remaining:
        return Remaining(self)

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Hold for the requests made by this thread in the block, whatever timeout an adapter gives them."""
        token = _under_way.set(self)
        try:
            yield
        finally:
            _under_way.reset(token)


class Remaining(float):
    """The seconds left when it was made, which still knows its exchange: urllib3 hands it to its connections."""

    exchange: ExchangeTimeout

    def __new__(cls, exchange: ExchangeTimeout) -> Remaining:
        self = super().__new__(cls, max(exchange.deadline - time.monotonic(), _LEAST_TIMEOUT_S))
        self.exchange = exchange
        return self


def exchange_of_request(timeout: object) -> ExchangeTimeout | None:
    """Return the exchange that a request with this ``timeout`` belongs to, None if it is not one of ours."""
    return timeout if isinstance(timeout, ExchangeTimeout) else _under_way.get()


def exchange_of_connection(timeout: object) -> ExchangeTimeout | None:
    """Return the exchange that a connection with this ``timeout`` is used for, None if it is not one of ours."""
    return timeout.exchange if isinstance(timeout, Remaining) else None


class DeadlineSocket:
    """A socket (plain or TLS) that gives each operation only the time left; without a deadline, it is as it was."""

    def __init__(self, sock: Any, deadline: float | None) -> None:
        self._sock = sock
        self.deadline = deadline

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def arm(self) -> None:
        """Set the socket's timeout to what is left, or raise TimeoutError if nothing is."""
        if self.deadline is None:
            return
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._sock.settimeout(left)

    def sendall(self, data: bytes | bytearray | memoryview, flags: int = 0) -> None:
        # Not the socket's own sendall: that of TLS sockets starts its timeout anew with every piece.
        unsent = memoryview(data).cast("B")
        while unsent:
            self.arm()
            unsent = unsent[self._sock.send(unsent, flags) :]

    def makefile(self, mode: str, buffering: int | None = None, **_: Any) -> io.BufferedReader:
        # http.client reads answers through this, and only reads.
        size = io.DEFAULT_BUFFER_SIZE if buffering in (None, -1) else buffering
        return io.BufferedReader(_DeadlineReader(self), size or io.DEFAULT_BUFFER_SIZE)


class _DeadlineReader(io.RawIOBase):
    """Arms the socket before each read.

    It reads through the socket's own unbuffered file, which also keeps the socket open when the connection is closed
    before the answer is read (``Connection: close``).
    """

    def __init__(self, sock: DeadlineSocket) -> None:
        super().__init__()
        self._arm = sock.arm
        self._file = sock._sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._arm()
        return self._file.readinto(buffer)  # type: ignore[no-any-return]  # the socket is Any: plain or TLS

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()
