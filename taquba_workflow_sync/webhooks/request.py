"""What to deliver where: the request, its validation, and its form as headers of a job."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from taquba_workflow_sync.errors import MissingHeaderError, PermanentFailure
from taquba_workflow_sync.webhooks.url import check_url, origin

HEADER_URL = "webhook.url"
HEADER_METHOD = "webhook.method"
HEADER_TIMEOUT_MS = "webhook.timeout_ms"
#: The id that receivers see, when it shall not be the job's: deliveries of the same event share it.
HEADER_ID = "webhook.id"
#: ``http.<Name>`` is sent to the receiver as ``<Name>``.
PASS_THROUGH_PREFIX = "http."

#: A day. Sockets count their timeouts in an int of milliseconds, and no receiver deserves a thread for longer.
MAX_TIMEOUT_S = 86_400.0

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
# Latin-1 without controls: what http.client can encode, and nothing that could end a header line.
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")


class Enqueues(Protocol):
    """What is needed of a queue to enqueue a webhook."""

    def enqueue(
        self, queue_name: str, payload: bytes, /, *, job_id: str | None = None, headers: dict[str, str] | None = None
    ) -> str: ...


@dataclass(frozen=True, slots=True, repr=False)
class WebhookRequest:
    """Where a webhook goes and how: everything but its body.

    ``timeout`` (seconds or a timedelta, at most a day) bounds the whole exchange, None leaves it to the worker.
    ``headers`` are sent as they are, but for the worker's own (ids, signatures, framing), which win.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: a URL that is not http or https with a host, or that two parsers could read differently; a method or
            header name that is no token, a name given twice, a value with control characters or outside Latin-1, a
            timeout out of range.
    """

    url: str
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict, hash=False)
    timeout: float | timedelta | None = None

    def __post_init__(self) -> None:
        check_url(self.url)
        check_token("method", self.method)
        # A copy: the caller's dict may change afterwards, a validated request may not.
        object.__setattr__(self, "headers", _checked_headers(self.headers))
        if self.timeout is not None:
            timeout_seconds("timeout", self.timeout)

    def __repr__(self) -> str:
        # Paths, queries and header values are where people keep their tokens, and reprs end up in logs.
        return (
            f"WebhookRequest(url='{origin(self.url)}/...', method={self.method!r}, "
            f"headers={sorted(self.headers)}, timeout={self.timeout!r})"
        )


def enqueue_webhook(
    queue: Enqueues, target_queue: str, request: WebhookRequest, body: bytes, *, job_id: str | None = None
) -> str:
    """Enqueue the delivery of ``body`` and return the id of its job.

    As durable as any job of the queue when it returns. With a ``job_id`` a repeat is refused as a duplicate.

    Raises:
        TypeError: ``request`` is no WebhookRequest; and whatever ``queue.enqueue`` raises.
    """
    if not callable(getattr(queue, "enqueue", None)):
        raise TypeError(f"queue must be a Queue, not {type(queue).__name__}")
    return queue.enqueue(target_queue, body, job_id=job_id, headers=webhook_headers(request))


def webhook_headers(request: WebhookRequest) -> dict[str, str]:
    """Return the job headers that make a worker deliver the job's payload as ``request`` says."""
    if not isinstance(request, WebhookRequest):
        raise TypeError(f"request must be a WebhookRequest, not {type(request).__name__}")
    headers = {HEADER_URL: request.url, HEADER_METHOD: request.method}
    if request.timeout is not None:
        # At least 1: rounding must not turn a short timeout into none.
        headers[HEADER_TIMEOUT_MS] = str(max(1, round(timeout_seconds("timeout", request.timeout) * 1000)))
    headers.update((PASS_THROUGH_PREFIX + name, value) for name, value in request.headers.items())
    return headers


def read_request(job_headers: Mapping[str, str]) -> WebhookRequest:
    """Return the request that the headers of a job describe.

    Raises:
        MissingHeaderError: no ``webhook.url``.
        PermanentFailure: a header that no WebhookRequest could have made.
    """
    url = job_headers.get(HEADER_URL)
    if url is None:
        raise MissingHeaderError(f"the job has no header {HEADER_URL}; make webhook jobs with enqueue_webhook")
    try:
        timeout = _read_timeout(job_headers.get(HEADER_TIMEOUT_MS))
        return WebhookRequest(url, job_headers.get(HEADER_METHOD, "POST"), passed_through(job_headers), timeout)
    except (TypeError, ValueError) as error:
        raise PermanentFailure(f"the job is no valid webhook: {error}") from error


def passed_through(job_headers: Mapping[str, str]) -> dict[str, str]:
    """Return the ``http.<Name>`` headers of a job or run, without the prefix."""
    prefix = PASS_THROUGH_PREFIX
    return {name.removeprefix(prefix): value for name, value in job_headers.items() if name.startswith(prefix)}


def merge_headers(given: Mapping[str, str], ours: Mapping[str, str]) -> dict[str, str]:
    """Return both together; where names differ in case only, ``ours`` replaces ``given``."""
    taken = {name.lower() for name in ours}
    return {name: value for name, value in given.items() if name.lower() not in taken} | dict(ours)


def check_token(what: str, value: str) -> None:
    """Refuse what is no token of HTTP: the form of methods and header names."""
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a str, not {type(value).__name__}")
    if not _TOKEN.fullmatch(value):
        raise ValueError(f"{what} must be a token of letters, digits and !#$%&'*+-.^_`|~, not {value[:100]!r}")


def check_header_value(name: str, value: str) -> None:
    """Refuse what cannot be sent as the value of a header. The message does not show it."""
    if not isinstance(value, str):
        raise TypeError(f"the value of header {name} must be a str, not {type(value).__name__}")
    if not _HEADER_VALUE.fullmatch(value):
        raise ValueError(f"the value of header {name} must be Latin-1 text without control characters")


def timeout_seconds(what: str, value: float | timedelta) -> float:
    """Return a timeout given as seconds or timedelta in seconds, above 0 and at most a day."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    # A bool is an int to Python, and timeout=True a mistake.
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"{what} must be seconds or a timedelta, not {type(value).__name__}")
    if not 0 < seconds <= MAX_TIMEOUT_S:  # not a number fails this, too
        raise ValueError(f"{what} must be more than 0 and at most {MAX_TIMEOUT_S:.0f} seconds, not {value!r}")
    return float(seconds)


def _checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    if not isinstance(headers, Mapping):
        raise TypeError(f"headers must be a mapping of str to str, not {type(headers).__name__}")
    checked = dict(headers)
    for name, value in checked.items():
        check_token("a header name", name)
        check_header_value(name, value)
    if len({name.lower() for name in checked}) < len(checked):
        raise ValueError(f"headers hold a name twice, in different case: {sorted(checked)}")
    return checked


def _read_timeout(timeout_ms: str | None) -> float | None:
    if timeout_ms is None:
        return None
    # 9 digits are more than a day; int() itself would accept signs, spaces and underscores.
    if not re.fullmatch(r"[0-9]{1,9}", timeout_ms):
        raise ValueError(f"{HEADER_TIMEOUT_MS} must be a whole number of milliseconds, not {timeout_ms[:100]!r}")
    return timeout_seconds(HEADER_TIMEOUT_MS, int(timeout_ms) / 1000)
