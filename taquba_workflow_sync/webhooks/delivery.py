"""One HTTP exchange: send a request, read what the verdict needs of the answer, and name what went wrong.

Imports requests, and is therefore itself imported with the first delivery.
"""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.utils import select_proxy
from urllib3.exceptions import HTTPError as Urllib3Error

from taquba_workflow_sync.errors import PermanentFailure
from taquba_workflow_sync.webhooks.deadline import DeadlineTimeout, enforce_deadlines
from taquba_workflow_sync.webhooks.errors import RetryLater
from taquba_workflow_sync.webhooks.request import WebhookRequest, origin

#: An answer read to its end lets the connection be used again. Beyond this the connection is worth less than the bytes.
BODY_BOUND = 64 * 1024
EXCERPT_CHARACTERS = 200

#: Small, since what has come of an unfinished piece is lost when the time is up, and the excerpt fits into 3 of them.
_PIECE = 256

_TRANSPORT_ERRORS = (requests.RequestException, Urllib3Error, http.client.HTTPException, OSError, ValueError)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the receiver said: ``excerpt`` is the beginning of its body."""

    status: int
    retry_after: str | None
    excerpt: str


def new_session() -> requests.Session:
    """Return a session that does what the job says and nothing that the environment or earlier answers say."""
    session = requests.Session()
    # No proxies, no ~/.netrc credentials, no CA bundle from the environment: whoever wants them gives a session.
    session.trust_env = False
    # Jobs of different tenants may go to one host; no receiver's cookie may tie them together.
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.headers["User-Agent"] = "taquba-workflow-sync"
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=1))  # a session per thread: one connection per host at a time
    return session


def deliver(
    session: requests.Session, request: WebhookRequest, headers: Mapping[str, str], body: bytes, timeout: float
) -> Answer:
    """Send ``body`` and return the answer, at most ``timeout`` seconds later (see :mod:`.deadline`).

    The status is the answer: if the body breaks off or is still coming when the time is up, what there is of it counts.

    Raises:
        RetryLater: no status line and headers in time, or the transport failed.
        PermanentFailure: the request can't be sent at all, however often it is tried.
    """
    deadline = time.monotonic() + timeout
    try:
        limit = DeadlineTimeout(deadline) if _obeys_deadlines(session, request.url) else timeout
        response = _exchange(session, request, headers, body, limit)
    except _TRANSPORT_ERRORS as error:
        # from None: the texts of requests and urllib3 quote the URL's path and query, and header values.
        raise _explained(error, request.url, timeout, deadline) from None
    with response:
        start = _read_body(response, deadline)
    excerpt = start.decode("utf-8", "replace")[:EXCERPT_CHARACTERS]
    return Answer(response.status_code, response.headers.get("Retry-After"), excerpt)


def _obeys_deadlines(session: requests.Session, url: str) -> bool:
    settings = session.merge_environment_settings(url, {}, True, None, None)
    return enforce_deadlines(session.get_adapter(url), select_proxy(url, settings["proxies"]))


def _exchange(
    session: requests.Session, request: WebhookRequest, headers: Mapping[str, str], body: bytes, limit: Any
) -> requests.Response:
    try:
        return session.request(
            request.method,
            request.url,
            data=body,
            headers=dict(headers),
            timeout=limit,
            allow_redirects=False,
            stream=True,
            # A request's hooks replace the session's, so those are named again, and come first.
            hooks={"response": [*session.hooks.get("response", ()), _without_location]},
        )
    except requests.HTTPError as error:
        # A session may have a hook that calls raise_for_status: the status is the answer all the same.
        if error.response is None:
            raise
        return error.response


def _without_location(response: requests.Response, *_: Any, **__: Any) -> None:
    # For a redirect that it does not follow, requests still prepares the next request: it reads the body, without any
    # bound, and raises on a malformed Location.
    response.headers.pop("Location", None)


def _read_body(response: requests.Response, deadline: float) -> bytes:
    """Return the beginning of the body, having read up to the bound so that the connection may be used again."""
    start = b""
    read = 0
    try:
        while read < BODY_BOUND and time.monotonic() < deadline:
            piece = response.raw.read(_PIECE, decode_content=False)
            if not piece:
                break
            read += len(piece)
            if len(start) < EXCERPT_CHARACTERS * 4:  # UTF-8 has at most 4 bytes a character
                start += piece
    except (Urllib3Error, http.client.HTTPException, OSError):
        pass  # the status has been given; closing the response closes the connection
    return start


def _explained(error: Exception, url: str, timeout: float, deadline: float) -> RetryLater | PermanentFailure:
    # What requests refuses to send is a ValueError, too; and so is a certificate that does not verify.
    if isinstance(error, ValueError) and not isinstance(error, ssl.SSLError):
        return PermanentFailure(f"the webhook to {origin(url)} can't be sent as it is ({type(error).__name__})")
    if isinstance(error, requests.Timeout) or time.monotonic() >= deadline:
        return RetryLater(f"no answer from {origin(url)} within {timeout:g} seconds")
    cause = _innermost(error)
    return RetryLater(f"no answer from {origin(url)}: {type(cause).__name__}: {str(cause)[:EXCERPT_CHARACTERS]}")


def _innermost(error: BaseException) -> BaseException:
    """Return the error at the bottom, the only one whose text says what happened and does not quote the URL."""
    inner = next((e for e in (getattr(error, "reason", None), *error.args) if isinstance(e, BaseException)), None)
    return error if inner is None else _innermost(inner)
