"""The console by itself, for whoever knows its token: loopback is open to every user of a machine, a store is not."""

from __future__ import annotations

import logging
import socket
import socketserver
from collections.abc import Iterable
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from taquba_workflow_sync.console.access import Access
from taquba_workflow_sync.console.app import Console
from taquba_workflow_sync.console.guard import csrf_of, derived, guarded, is_same, why_forged
from taquba_workflow_sync.console.messages import Fields, Request, Response, redirect, text_response
from taquba_workflow_sync.console.wsgi import TooLargeError, form_of, headers_of, query_of, start
from taquba_workflow_sync.queue.queue import Queue

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

_log = logging.getLogger(__name__)

TOKEN: Final = "token"
#: What listens at every address is reached at one.
_REACHED_AT: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
_LOCAL: Final = ("127.0.0.1", "localhost", "[::1]")
#: A client that sends nothing, or takes nothing, is given up after so many seconds.
_PATIENCE: Final = 60.0
#: A thread each, which costs little; a browser has a few of them.
_MOST_STREAMS: Final = 1_000


class Standalone:
    """A WSGI application that asks for a token.

    The token comes in the address that is printed, once; from then on a cookie stands for it. A page of another site
    whose name suddenly leads here (DNS rebinding) is told by ``Host``: that must be one of ``hosts`` or an address, at
    whatever port, since a tunnel may begin at another one.
    """

    def __init__(self, queue: Queue, token: str, *, hosts: Iterable[str], access: Access = Access.ACT) -> None:
        self._console = Console(most_streams=_MOST_STREAMS)
        self._stores = {"default": queue}
        self._token = token
        self._hosts = frozenset(_name_of(host) for host in hosts)
        self._access = access
        self._session = derived(token, "session")
        # Cookies know no ports. By its name two consoles of one machine do not take each other's; by its path, which
        # nobody else knows, no other server of this host is ever sent it, be it another user's.
        self._base = f"/{derived(token, 'path')[:16]}"
        self._cookie = f"taquba_console_{derived(token, 'name')[:8]}"

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        return start(guarded(self._secured(environ)), environ, start_response)

    def _secured(self, environ: WSGIEnvironment) -> Response:
        headers = headers_of(environ)
        host = headers.get("host", "")
        if _name_of(host) not in self._hosts and not _is_address(_name_of(host)):
            return text_response(421, "this console is not served under that name; open the address that it printed")
        query = query_of(environ)
        path = environ.get("PATH_INFO", "")
        given = query.get(TOKEN)
        if given is not None:
            if not is_same(given, self._token):
                return _refused()
            response = redirect(f"{self._base}/")
            cookie = f"{self._cookie}={self._session}; Path={self._base}/; HttpOnly; SameSite=Strict"
            response.headers |= {"Set-Cookie": cookie, "Referrer-Policy": "no-referrer"}
            return response
        if not is_same(self._session_of(headers), self._session) or not path.startswith(f"{self._base}/"):
            return _refused()
        csrf = csrf_of(self._session)
        form = Fields({})
        if environ.get("REQUEST_METHOD") == "POST":
            try:
                form = form_of(environ)
            except TooLargeError as error:
                return text_response(413, str(error))
            except TimeoutError:
                return text_response(408, "the form did not come")
            forged = why_forged(headers, host, form, csrf)
            if forged is not None:
                return text_response(403, forged)
        return self._console.answer(
            Request(
                method=environ.get("REQUEST_METHOD", "GET"),
                path=path[len(self._base) + 1 :],
                query=query,
                form=form,
                base=self._base,
                stores=self._stores,
                access=self._access,
                csrf=csrf,
                last_event_id=headers.get("last-event-id"),
            )
        )

    def _session_of(self, headers: dict[str, str]) -> str | None:
        # Not by SimpleCookie, which stops at the first that is written as the standard does not say, whoever set it.
        pairs = (pair.strip().partition("=") for pair in headers.get("cookie", "").split(";"))
        return next((value for name, _, value in pairs if name == self._cookie), None)


def _refused() -> Response:
    return text_response(403, "open the address that the console printed, with its token; it is another at each start")


def _name_of(host: str) -> str:
    """Return what ``Host`` says without the port."""
    name, colon, port = host.lower().rpartition(":")
    return name if colon and port.isdecimal() else host.lower()


def _is_address(name: str) -> bool:
    """Whether this is no name at all: nobody can have it lead elsewhere."""
    try:
        ip_address(name[1:-1] if name.startswith("[") and name.endswith("]") else name)
    except ValueError:
        return False
    return True


class _RequestHandler(WSGIRequestHandler):
    timeout = _PATIENCE

    def log_message(self, format: str, *args: Any) -> None:
        """Say it to the log, where it is wanted; never what is behind the question mark, which may be the token."""
        _log.debug("%s %s", self.command, self.path.partition("?")[0])

    def address_string(self) -> str:
        """Return the client's address, without asking anybody for its name."""
        return str(self.client_address[0])


class Server(socketserver.ThreadingMixIn, WSGIServer):
    """Serves an application with a thread for each request; none of them keeps the process."""

    daemon_threads = True
    request_queue_size = 128
    address_family: int
    server_name: str
    server_port: int

    def __init__(self, host: str, port: int) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _RequestHandler)

    def server_bind(self) -> None:
        """Bind, without asking anybody for the name of this host."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[0], self.server_address[1]  # type: ignore[assignment]  # a str, of both families
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say it to the log: a viewer who goes while something is sent is nothing to print."""
        _log.debug("a connection to the console ended early", exc_info=True)


def names_of(host: str, port: int) -> list[str]:
    """Return what ``Host`` may say for a server at that address, what it is best called first."""
    host = _REACHED_AT.get(host, host)
    literal = f"[{host}]" if ":" in host else host
    names = [literal, *(name for name in _LOCAL if literal in _LOCAL and name != literal)]
    return [f"{name}:{port}" for name in names]
