"""Connections that obey an :class:`.ExchangeTimeout`: its deadline, its ``allow``, and its silence about the path.

They are subclasses of whatever connections and pools an adapter uses. Requests of others, through the same session, go
through them as if they were not there. This module imports requests and urllib3, see :mod:`.deadline`.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter
from requests.utils import prepend_scheme_if_needed
from urllib3 import HTTPConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError
from urllib3.util import parse_url
from urllib3.util.connection import allowed_gai_family, create_connection

from taquba_workflow_sync.errors import PermanentFailure
from taquba_workflow_sync.webhooks.deadline import (
    DeadlineSocket,
    ExchangeTimeout,
    Remaining,
    exchange_of_connection,
    exchange_of_request,
)
from taquba_workflow_sync.webhooks.target import WebhookTarget, ask, plain_address
from taquba_workflow_sync.webhooks.url import bracketed

if TYPE_CHECKING:
    _Connection = HTTPConnection
    _Pool = HTTPConnectionPool
else:
    # At run time the mixins stand before whatever class the adapter uses.
    _Connection = _Pool = object

#: What urllib3 is told in the place of a path and a query.
_HIDDEN = "/..."

_MOST_SHOWN = 3


def take_over(adapter: object, proxy: str | None = None) -> bool:
    """Make the connections of ``adapter`` obey an :class:`.ExchangeTimeout`; False if it is not built on urllib3.

    A repeat changes nothing.
    """
    if not isinstance(adapter, HTTPAdapter):
        return False
    _install(adapter.poolmanager)
    if proxy is not None:
        url = prepend_scheme_if_needed(proxy, "http")  # type: ignore[no-untyped-call]  # a gap in the stubs
        _install(adapter.proxy_manager_for(url))
    return True


def asks_before_connecting(adapter: Any, request: requests.PreparedRequest, verify: Any, cert: Any) -> bool:
    """Whether ``adapter``, once taken over, would send ``request`` over a connection that asks ``allow``.

    Not so: proxies (what is connected to is the proxy), SOCKS, Unix sockets, and pools that the adapter makes itself.
    """
    find = getattr(adapter, "get_connection_with_tls_context", None)  # requests 2.32.2
    if find is None:
        return False
    pool = find(request, verify, cert=cert)
    return getattr(pool, "proxy", None) is None and issubclass(getattr(pool, "ConnectionCls", object), _AskingConnect)


def _install(manager: Any) -> None:
    pools = manager.pool_classes_by_scheme
    if all(issubclass(pool, _ExchangePool) for pool in pools.values()):
        return
    # A new dict: the one that is there is shared by all managers of the process.
    manager.pool_classes_by_scheme = {scheme: _pool_class(pool) for scheme, pool in pools.items()}
    manager.clear()  # pools made before keep their class; their idle connections are reopened


def _pool_class(pool: Any) -> Any:
    connection = pool.ConnectionCls
    # SOCKS, Unix sockets and the like connect in their own way: there only the waits after connecting are bounded.
    stock = connection._new_conn is HTTPConnection._new_conn
    mixins = (_AskingConnect, _ExchangeConnection) if stock else (_ExchangeConnection,)
    connection = type(connection.__name__, (*mixins, connection), {})
    return type(pool.__name__, (_ExchangePool, pool), {"ConnectionCls": connection})


class _ExchangePool(_Pool):
    """Keeps path and query from urllib3, which logs them, retries and failed header lines included.

    Filters on its loggers would be everybody's. So they travel in the timeout, and the connection puts them back where
    the request's first line is written.
    """

    def urlopen(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        exchange = exchange_of_request(kwargs.get("timeout"))
        if exchange is not None and exchange.target is None:  # else a retry of urllib3's, whose URL is hidden already
            kwargs["timeout"] = exchange.with_target(url)
            url = _without_target(url)
        return super().urlopen(method, url, *args, **kwargs)


def _without_target(url: str) -> str:
    if url.startswith("/"):
        return _HIDDEN
    # A proxy is told the whole URL, of which urllib3 needs the scheme.
    return parse_url(url)._replace(path=_HIDDEN, query=None, fragment=None).url


class _ExchangeConnection(_Connection):
    """A connection that obeys the exchange under way, if the request is part of one."""

    #: Whether ``allow`` has been asked about this connection's peer on behalf of the request under way.
    _asked = False

    def connect(self) -> None:
        exchange = exchange_of_connection(self.timeout)
        super().connect()
        if exchange is not None and exchange.allow is not None and not self._asked:
            # A connection class that connects without its _new_conn, where it would have been asked.
            self.close()
            raise PermanentFailure(f"allow can't be asked by {type(self).__name__}, so nothing was sent")
        self.sock: Any = DeadlineSocket(self.sock, None if exchange is None else exchange.deadline)

    def request(self, *args: Any, **kwargs: Any) -> None:
        exchange = exchange_of_connection(self.timeout)
        if self.sock is not None:
            # A kept-alive connection: its socket still has the deadline of the request before.
            self.sock.deadline = None if exchange is None else exchange.deadline
            if exchange is not None and not self._asked and not self._may_reuse(exchange):
                self.close()  # and so connect anew: the host may have other addresses
        try:
            super().request(*args, **kwargs)
        finally:
            self._asked = False

    def putrequest(self, method: str, url: str, *args: Any, **kwargs: Any) -> None:
        exchange = exchange_of_connection(self.timeout)
        target = None if exchange is None else exchange.target
        super().putrequest(method, url if target is None else target, *args, **kwargs)

    def _may_reuse(self, exchange: ExchangeTimeout) -> bool:
        # The answer may have changed, and in a shared session the connection may be someone else's, who never asked.
        if exchange.allow is None:
            return True
        address, port = self.sock.getpeername()[:2]
        return ask(exchange.allow, self._target(address, port))

    def _target(self, address: str, port: int) -> WebhookTarget:
        scheme = "https" if isinstance(self, HTTPSConnection) else "http"
        return WebhookTarget(plain_address(address), port, self._dns_host.strip("[]"), scheme)


class _AskingConnect(_ExchangeConnection):
    """Resolves the name itself, asks about each address before it tries it, and connects to that very address.

    All within the deadline, however many addresses the host has (urllib3 gives each the whole timeout).
    """

    def _new_conn(self) -> socket.socket:
        exchange = exchange_of_connection(self.timeout)
        if exchange is None:
            return super()._new_conn()
        targets = self._targets()
        refused: list[str] = []
        error: OSError = OSError("the name has no address")
        for left, target in zip(range(len(targets), 0, -1), targets, strict=True):
            if exchange.allow is not None and not ask(exchange.allow, target):
                refused.append(target.address)
                continue
            self._asked = True
            # An even share each, so that one that swallows packets leaves time for the next (IPv6, then IPv4).
            share = Remaining(exchange) / left
            try:
                # By address: a second lookup could find another one than was asked about.
                sock = create_connection(target[:2], share, self.source_address, self.socket_options)
            except OSError as failure:
                error = failure
                continue
            sock.settimeout(Remaining(exchange))  # for the TLS handshake, which takes the socket as it is
            return sock
        if refused and len(refused) == len(targets):
            raise _not_allowed(targets[0], refused)
        if isinstance(error, TimeoutError):
            raise ConnectTimeoutError(self, f"Connection to {self.host} timed out.") from error
        raise NewConnectionError(self, f"Failed to establish a new connection: {error}") from error

    def _targets(self) -> list[WebhookTarget]:
        # The name with its dot at the end, if it has one: without it, another name may be found.
        name = self._dns_host.strip("[]")
        try:
            found = socket.getaddrinfo(name, self.port, allowed_gai_family(), socket.SOCK_STREAM)
        except socket.gaierror as error:
            raise NewConnectionError(self, f"Failed to resolve {self.host!r}: {error}") from error
        return [self._target(str(address[0]), int(address[1])) for *_, address in found]


def _not_allowed(target: WebhookTarget, addresses: list[str]) -> PermanentFailure:
    shown = ", ".join(addresses[:_MOST_SHOWN]) + (", ..." if len(addresses) > _MOST_SHOWN else "")
    return PermanentFailure(f"the address of {bracketed(target.host)}:{target.port} is not allowed ({shown})")
