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
from taquba_workflow_sync.webhooks.connections import asks_before_connecting, take_over
from taquba_workflow_sync.webhooks.deadline import ExchangeTimeout
from taquba_workflow_sync.webhooks.errors import RetryLater
from taquba_workflow_sync.webhooks.prepared import prepared_alike
from taquba_workflow_sync.webhooks.request import WebhookRequest
from taquba_workflow_sync.webhooks.target import Allow
from taquba_workflow_sync.webhooks.url import origin

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
    session: requests.Session,
    request: WebhookRequest,
    headers: Mapping[str, str],
    body: bytes,
    timeout: float,
    allow: Allow | None = None,
) -> Answer:
    """Send ``body`` and return the answer, at most ``timeout`` seconds later (see :mod:`.deadline`).

    The status is the answer: if the body breaks off or is still coming when the time is up, what there is of it counts.

    Raises:
        RetryLater: no status line and headers in time, the transport failed, or ``allow`` did.
        PermanentFailure: the request can't be sent at all, however often it is tried, or ``allow`` refuses it.
    """
    deadline = time.monotonic() + timeout
    try:
        if _can_take_over(session, request.url, allow):
            limit = ExchangeTimeout(deadline, allow)
            with limit.under_way():
                response = _exchange(session, request, headers, body, limit)
        else:
            response = _exchange(session, request, headers, body, timeout)
    except _TRANSPORT_ERRORS as error:
        # from None: the texts of requests and urllib3 quote the URL's path and query, and header values.
        raise _explained(error, request.url, timeout, deadline) from None
    with response:
        start = _read_body(response, deadline)
    excerpt = start.decode("utf-8", "replace")[:EXCERPT_CHARACTERS]
    return Answer(response.status_code, response.headers.get("Retry-After"), excerpt)


def _can_take_over(session: requests.Session, url: str, allow: Allow | None) -> bool:
    """Whether the connections on the way to ``url`` obey an ExchangeTimeout; with ``allow``, they do or this raises."""
    # Not the URL as it was given: the session chooses adapter and proxy by the one that requests makes of it.
    sent = prepared_alike(url)
    sent_url = str(sent.url)
    settings = session.merge_environment_settings(sent_url, {}, True, None, None)
    adapter, proxy = session.get_adapter(sent_url), select_proxy(sent_url, settings["proxies"])
    ours = take_over(adapter, proxy)
    if allow is None:
        return ours
    if proxy:
        raise _unaskable(url, "it would go through a proxy")
    if not ours or not asks_before_connecting(adapter, sent, settings["verify"], settings["cert"]):
        raise _unaskable(url, f"the session's {type(adapter).__name__} connects in its own way")
    return True


def _unaskable(url: str, why: str) -> PermanentFailure:
    return PermanentFailure(f"the webhook to {origin(url)} was not sent, since allow can't be asked: {why}")


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
