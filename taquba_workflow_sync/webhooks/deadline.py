"""One deadline for a whole HTTP exchange: connecting, TLS, sending, and every byte of the answer.

The timeouts of requests and urllib3 bound each wait for the socket, so a receiver that drips a byte a second holds a
thread for ever. Here the deadline travels as the request's timeout, down to connections whose sockets give each
operation only what is left. No watchdog thread, no exception injected, nothing process-wide. Only the name lookup is
outside: Python cannot interrupt it (it counts, but does not end, when the time is up).

This module imports urllib3, which requests brings along, and is therefore imported with the first delivery.
"""

from __future__ import annotations

import io
import socket
import time
from typing import TYPE_CHECKING, Any

import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import prepend_scheme_if_needed
from urllib3.connection import HTTPConnection
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError
from urllib3.util.connection import allowed_gai_family, create_connection

if TYPE_CHECKING:
    _Connection = HTTPConnection
else:
    # At run time the mixins stand before whatever connection class the adapter uses.
    _Connection = object

#: Never 0, which would mean "do not block" to a socket.
_LEAST_TIMEOUT_S = 0.001


class DeadlineTimeout(urllib3.Timeout):
    """A timeout for one request: what is left until ``deadline``, a reading of ``time.monotonic()``."""

    def __init__(self, deadline: float) -> None:
        super().__init__()
        self.deadline = deadline

    def clone(self) -> DeadlineTimeout:
        return DeadlineTimeout(self.deadline)

    @property
    def connect_timeout(self) -> _Remaining:
        return _Remaining(self.deadline)

    @property
    def read_timeout(self) -> _Remaining:
        return _Remaining(self.deadline)


class _Remaining(float):
    """The seconds left when it was made, which still knows the deadline: urllib3 hands it to its connections."""

    deadline: float

    def __new__(cls, deadline: float) -> _Remaining:
        self = super().__new__(cls, max(deadline - time.monotonic(), _LEAST_TIMEOUT_S))
        self.deadline = deadline
        return self


def _deadline_of(timeout: object) -> float | None:
    return timeout.deadline if isinstance(timeout, _Remaining) else None


def enforce_deadlines(adapter: object, proxy: str | None = None) -> bool:
    """Make the connections of ``adapter`` obey a :class:`DeadlineTimeout`; False if it is not built on urllib3.

    Requests with any other timeout go through such an adapter as before. A repeat changes nothing.
    """
    if not isinstance(adapter, HTTPAdapter):
        return False
    _install(adapter.poolmanager)
    if proxy is not None:
        url = prepend_scheme_if_needed(proxy, "http")  # type: ignore[no-untyped-call]  # a gap in the stubs
        _install(adapter.proxy_manager_for(url))
    return True


def _install(manager: Any) -> None:
    pools = manager.pool_classes_by_scheme
    if all(issubclass(pool.ConnectionCls, _DeadlineConnection) for pool in pools.values()):
        return
    # A new dict: the one that is there is shared by all managers of the process.
    manager.pool_classes_by_scheme = {scheme: _pool_class(pool) for scheme, pool in pools.items()}
    manager.clear()  # pools made before keep their class; their idle connections are reopened


def _pool_class(pool: Any) -> Any:
    connection = pool.ConnectionCls
    # SOCKS, Unix sockets and the like connect in their own way: there only the waits after connecting are bounded.
    stock = connection._new_conn is HTTPConnection._new_conn
    mixins = (_DeadlineConnect, _DeadlineConnection) if stock else (_DeadlineConnection,)
    connection = type(connection.__name__, (*mixins, connection), {})
    return type(pool.__name__, (pool,), {"ConnectionCls": connection})


class _DeadlineConnection(_Connection):
    """A connection whose socket obeys the deadline of the request under way, if it has one."""

    def connect(self) -> None:
        super().connect()
        self.sock: Any = _DeadlineSocket(self.sock, _deadline_of(self.timeout))

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None:
            # A kept-alive connection: its socket still has the deadline of the request before.
            self.sock.deadline = _deadline_of(self.timeout)
        super().request(*args, **kwargs)


class _DeadlineConnect(_Connection):
    """Connects within the deadline however many addresses the host has (urllib3 gives each the whole timeout)."""

    def _new_conn(self) -> socket.socket:
        deadline = _deadline_of(self.timeout)
        if deadline is None:
            return super()._new_conn()
        addresses = self._addresses()
        error: OSError = OSError("the name has no address")
        for left, (address, port) in zip(range(len(addresses), 0, -1), addresses, strict=True):
            # An even share each, so that one that swallows packets leaves time for the next (IPv6, then IPv4).
            share = _Remaining(deadline) / left
            try:
                sock = create_connection((address, port), share, self.source_address, self.socket_options)
            except OSError as failure:
                error = failure
                continue
            sock.settimeout(_Remaining(deadline))  # for the TLS handshake, which takes the socket as it is
            return sock
        if isinstance(error, TimeoutError):
            raise ConnectTimeoutError(self, f"Connection to {self.host} timed out.") from error
        raise NewConnectionError(self, f"Failed to establish a new connection: {error}") from error

    def _addresses(self) -> list[tuple[str, int]]:
        try:
            found = socket.getaddrinfo(self.host.strip("[]"), self.port, allowed_gai_family(), socket.SOCK_STREAM)
        except socket.gaierror as error:
            raise NewConnectionError(self, f"Failed to resolve {self.host!r}: {error}") from error
        return [(str(address[0]), int(address[1])) for *_, address in found]


class _DeadlineSocket:
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

    def __init__(self, sock: _DeadlineSocket) -> None:
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
