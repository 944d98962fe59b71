"""A health check over HTTP, as a WSGI application: for a load balancer, a probe, or a person with curl."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from taquba_workflow_sync.errors import TaqubaError
from taquba_workflow_sync.queue import Queue, StoreMetrics, validation
from taquba_workflow_sync.queue.config import Duration

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a store is well; ``problems`` says why not, a sentence each, and ``queues`` how each stands."""

    ok: bool
    problems: list[str]
    queues: dict[str, dict[str, Any]]

    def as_json(self) -> dict[str, Any]:
        """Return it as what JSON can say."""
        status = "ok" if self.ok else "unhealthy"
        return {"status": status, "problems": self.problems, "queues": self.queues}


def health(queue: Queue, *, max_ready_age: Duration | None = None, max_dead: int | None = 0) -> Health:
    """Return whether the store can be read and its queues are worked on.

    ``max_ready_age``: for how long a job may wait that could be claimed (seconds, or a timedelta); a paused queue is
    not asked. None: no limit. ``max_dead``: how many dead letters there may be, of all queues; None: no limit.

    Raises:
        TypeError, ValueError: an argument is wrong.
    """
    age, dead = _limits(queue, max_ready_age, max_dead)
    return _health(queue, age, dead)


def health_app(queue: Queue, *, max_ready_age: Duration | None = None, max_dead: int | None = 0) -> WSGIApplication:
    """Return a WSGI application that answers 200 or 503 with what :func:`health` says, as JSON; it only reads.

    Limits are those of :func:`health`. A store that cannot be read is a 503, too.

    Raises:
        TypeError, ValueError: an argument is wrong.
    """
    age, dead = _limits(queue, max_ready_age, max_dead)

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        method = environ.get("REQUEST_METHOD", "GET")
        if method not in ("GET", "HEAD"):
            allowed = [("Allow", "GET, HEAD")]
            return _answer(start_response, "405 Method Not Allowed", {"error": "only GET and HEAD"}, allowed)
        found = _health(queue, age, dead)
        status = "200 OK" if found.ok else "503 Service Unavailable"
        body = _answer(start_response, status, found.as_json(), [])
        return [b""] if method == "HEAD" else body

    return application


def _limits(queue: object, max_ready_age: object, max_dead: object) -> tuple[float | None, int | None]:
    validation.instance(queue, Queue, "queue")
    age = validation.optional_seconds(max_ready_age, "max_ready_age")
    return age, None if max_dead is None else validation.integer(max_dead, "max_dead", least=0)


def _health(queue: Queue, max_ready_age: float | None, max_dead: int | None) -> Health:
    try:
        metrics = queue.metrics()
    except TaqubaError as error:
        return Health(False, [f"the store cannot be read: {type(error).__name__}"], {})
    problems = [*_aged(metrics, max_ready_age), *_dead(metrics, max_dead)]
    queues = {
        name: {
            "pending": each.stats.pending,
            "scheduled": each.stats.scheduled,
            "claimed": each.stats.claimed,
            "dead": each.stats.dead,
            "paused": each.stats.paused,
            "oldest_ready_age": each.oldest_ready_age,
        }
        for name, each in metrics.queues.items()
    }
    return Health(not problems, problems, queues)


def _aged(metrics: StoreMetrics, most: float | None) -> list[str]:
    return [
        f"queue {name!r}: a job could be claimed for {each.oldest_ready_age:.1f} s and was not; {most:g} s are allowed;"
        " is a worker running?"
        for name, each in metrics.queues.items()
        if most is not None and not each.stats.paused and (each.oldest_ready_age or 0.0) > most
    ]


def _dead(metrics: StoreMetrics, most: int | None) -> list[str]:
    dead = {name: each.stats.dead for name, each in metrics.queues.items() if each.stats.dead}
    if most is None or sum(dead.values()) <= most:
        return []
    where = ", ".join(f"{many} in {name!r}" for name, many in dead.items())
    return [f"{sum(dead.values())} dead letters ({where}); {most} are allowed; retry or remove them"]


def _answer(
    start_response: StartResponse, status: str, content: dict[str, Any], more: list[tuple[str, str]]
) -> Iterable[bytes]:
    body = json.dumps(content).encode()
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        *more,
    ]
    start_response(status, headers)
    return [body]
