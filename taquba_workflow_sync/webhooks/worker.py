"""The worker of webhook jobs: from a job to a request, from an answer to a verdict."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from taquba_workflow_sync.errors import PermanentFailure
from taquba_workflow_sync.webhooks.errors import RetryLater
from taquba_workflow_sync.webhooks.request import (
    HEADER_ID,
    WebhookRequest,
    check_header_value,
    check_token,
    merge_headers,
    read_request,
    timeout_seconds,
)
from taquba_workflow_sync.webhooks.retry_after import parse_retry_after
from taquba_workflow_sync.webhooks.signing import signature_headers, signing_keys
from taquba_workflow_sync.webhooks.target import Allow
from taquba_workflow_sync.webhooks.url import origin

if TYPE_CHECKING:
    import requests

    from taquba_workflow_sync.webhooks.delivery import Answer

_log = logging.getLogger(__name__)

_DEFAULT_HEADERS = {
    "Content-Type": "application/octet-stream",
    # Bodies are read to a bound and quoted in errors: no receiver shall hand us a compressed bomb or gibberish.
    "Accept-Encoding": "identity",
}
# How the body is framed is decided by the body: a length that comes with the job could only be wrong.
_FRAMING = frozenset({"content-length", "transfer-encoding"})
_REQUEST_TIMEOUT, _TOO_MANY_REQUESTS = 408, 429


class DeliveryJob(Protocol):
    """What is needed of a job; any JobRecord has it."""

    @property
    def id(self) -> str: ...
    @property
    def payload(self) -> bytes: ...
    @property
    def headers(self) -> Mapping[str, str]: ...


class DeliveryClaim(Protocol):
    """What is needed of a claim."""

    @property
    def cancel_token(self) -> threading.Event: ...


class WebhookWorker:
    """Delivers webhook jobs; for ``run_worker``, and for any number of threads at once.

    The timeout of a delivery (the job's, else ``default_timeout``) bounds the whole exchange, name lookup excepted.
    A receiver may see a delivery more than once, always under the same id in ``delivery_id_header``: the job header
    ``webhook.id``, else the job's id. With ``secret`` (``whsec_...``, base64, raw bytes, or a sequence of them during a
    rotation) requests are signed as in Standard Webhooks.

    ``allow`` is called on the worker's threads with a ``WebhookTarget`` before each connection: after the name was
    resolved, for each address that would be tried, and for a kept connection before another webhook goes over it. If it
    returns False, there is no connection to that address, and if there is none to any, the webhook is dead. If it
    raises, the webhook is retried. Where it can't be asked (a session's proxy, an adapter that does not connect through
    urllib3), nothing is sent.

    Without a ``session`` each thread keeps one of its own, which ignores proxies, netrc and CA bundles named in the
    environment, and cookies. A ``session`` given is shared by all threads and used with all its settings; the total
    deadline holds with every adapter derived from ``HTTPAdapter``, whose idle connections are dropped once for it. With
    other adapters, and while a proxy's tunnel or a SOCKS connection is set up, the timeout bounds each wait. Retries
    set on an adapter sleep outside the deadline: leave them off, the queue retries.

    Raises:
        TypeError: an argument of the wrong type, an ``allow`` that cannot be called.
        ValueError: a timeout out of range, a ``delivery_id_header`` that is no token, a secret that is no base64.
    """

    def __init__(
        self,
        *,
        session: requests.Session | None = None,
        default_timeout: float | timedelta = 30.0,
        secret: str | bytes | Sequence[str | bytes] | None = None,
        delivery_id_header: str = "Webhook-Id",
        allow: Allow | None = None,
    ) -> None:
        # By its method: importing requests for an isinstance would cost everyone who never delivers anything.
        if session is not None and not callable(getattr(session, "get_adapter", None)):
            raise TypeError(f"session must be a requests.Session, not {type(session).__name__}")
        check_token("delivery_id_header", delivery_id_header)
        if allow is not None and not callable(allow):
            raise TypeError(f"allow must be callable, not {type(allow).__name__}")
        self._given_session = session
        self._allow = allow
        self._own = threading.local()
        self._default_timeout_s = timeout_seconds("default_timeout", default_timeout)
        self._keys = () if secret is None else signing_keys(secret)
        self._delivery_id_header = delivery_id_header

    def process(self, job: DeliveryJob, claim: DeliveryClaim) -> None:
        """Deliver the job's payload as its headers say; return when the receiver has answered with 2xx.

        Raises:
            RetryLater: 408, 429, 5xx, no answer in time, a transport error, an ``allow`` that raised, or a claim that
                was lost beforehand.
            PermanentFailure: any other status (redirects are not followed), headers that make no request, or no address
                that is allowed.
            MissingHeaderError: no ``webhook.url``.
        """
        if claim.cancel_token.is_set():
            raise RetryLater("the claim was lost or cancelled before the webhook was sent")
        request = read_request(job.headers)
        headers = self._request_headers(job, request)
        timeout = self._default_timeout_s if request.timeout is None else timeout_seconds("timeout", request.timeout)

        from taquba_workflow_sync.webhooks.delivery import deliver  # brings requests: not before it is needed

        answer = deliver(self._session(), request, headers, job.payload, timeout, self._allow)
        judge(answer, request.url, datetime.now(UTC))
        _log.debug("webhook delivered", extra={"job_id": job.id, "status": answer.status})

    def _request_headers(self, job: DeliveryJob, request: WebhookRequest) -> dict[str, str]:
        delivery_id = _delivery_id(job)
        given = {name: value.strip() for name, value in request.headers.items() if name.lower() not in _FRAMING}
        headers = merge_headers(_DEFAULT_HEADERS, given)
        headers = merge_headers(headers, {self._delivery_id_header: delivery_id})
        if self._keys:
            # Signed anew each time: receivers refuse timestamps older than a few minutes, and retries take longer.
            signature = signature_headers(self._keys, delivery_id, int(time.time()), job.payload)
            headers = merge_headers(headers, signature)
        return headers

    def _session(self) -> requests.Session:
        if self._given_session is not None:
            return self._given_session
        from taquba_workflow_sync.webhooks.delivery import new_session

        # Per thread, since a Session does not promise to be thread-safe; per process, since after a fork parent and
        # child would talk over one kept-alive connection.
        if getattr(self._own, "pid", None) != os.getpid():
            self._own.session, self._own.pid = new_session(), os.getpid()
        session: requests.Session = self._own.session
        return session


def judge(answer: Answer, url: str, now: datetime) -> None:
    """Return for a delivered webhook; raise RetryLater or PermanentFailure for any other answer."""
    status = answer.status
    if 200 <= status < 300:
        return
    message = f"HTTP {status} from {origin(url)}" + (f": {answer.excerpt}" if answer.excerpt else "")
    if status in (_REQUEST_TIMEOUT, _TOO_MANY_REQUESTS) or 500 <= status < 600:
        raise RetryLater(message, parse_retry_after(answer.retry_after, now))
    raise PermanentFailure(message)


def _delivery_id(job: DeliveryJob) -> str:
    delivery_id = job.headers.get(HEADER_ID, job.id)
    try:
        check_header_value(HEADER_ID, delivery_id)
    except ValueError as error:
        raise PermanentFailure(f"the job is no valid webhook: {error}") from error
    if not delivery_id.strip():
        raise PermanentFailure(f"the job's header {HEADER_ID} is empty")
    return delivery_id
