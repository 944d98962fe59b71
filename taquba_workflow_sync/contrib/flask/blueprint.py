"""The blueprint that shows runs to those who may see them: their status, and a stream of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from flask import Blueprint, Response, abort, request
from flask.blueprints import BlueprintSetupState
from werkzeug.exceptions import HTTPException

from taquba_workflow_sync.contrib.flask.context import current
from taquba_workflow_sync.contrib.flask.events import RETRY, event, events, outcome_now
from taquba_workflow_sync.contrib.flask.extension import Taquba
from taquba_workflow_sync.contrib.flask.payload import ENDED, id_of, text_of
from taquba_workflow_sync.contrib.flask.slots import Slots
from taquba_workflow_sync.errors import InvalidRunIdError
from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.workflow.client import RunHandle, WorkflowClient
from taquba_workflow_sync.workflow.new_run import DEFAULT_QUEUE_NAME, checked_queue_name
from taquba_workflow_sync.workflow.status import RunStatus


def _unsaid(run: RunStatus) -> bool:
    """Stand for a ``can_see`` that was not given: there is no safe default."""
    return False


def status_blueprint(
    taquba: Taquba,
    *,
    can_see: Callable[[RunStatus], bool] = _unsaid,
    name: str = "taquba",
    queues: Iterable[str] = (),
    max_streams: int = 2,
    stream_seconds: float = 20.0,
) -> Blueprint:
    """Return a blueprint with ``/<run_id>``, a run's status as JSON, and ``/<run_id>/events``, the same as a stream.

    ``can_see(run: RunStatus) -> bool`` decides, in each request, whether the one who asks may see that run and its
    result; to everybody else it is not there (404). Shown are the run's id, state, step, label, progress and result:
    never its input, headers or errors. A stream asks for each status that it tells, as a new request of this viewer
    would: in a context of its own, after the ``before_request`` functions.

    ``events`` are server-sent events. A stream holds a thread, so it ends after ``stream_seconds``; a browser's
    ``EventSource`` goes on by itself. At most ``max_streams`` are open at once in a process, further requests get 503
    with ``Retry-After``. A server that handles one request at a time in a process, as gunicorn's sync workers do, is
    not held at all: each request gets what there is to say, and the browser asks again after a second.

    Runs of all flows of ``taquba`` are found, and of the low-level queues that ``queues`` names besides
    ``workflow-steps``. Where several have a run of that name it is the newest that may be seen; ``?queue=`` names one.

    Raises:
        TypeError: ``can_see`` is missing, no function, or async; or another argument is of the wrong type.
        ValueError, InvalidNameError: an argument is senseless.
    """
    validation.instance(taquba, Taquba, "taquba")
    if can_see is _unsaid:
        raise TypeError(
            "status_blueprint needs can_see=, a function of a RunStatus that returns whether the one who asks may see"
            " that run; for a page that everybody may see say so: can_see=lambda run: True"
        )
    if not callable(can_see) or inspect.iscoroutinefunction(can_see):
        raise TypeError(f"can_see must be a plain function of a RunStatus that returns a bool, not {can_see!r:.100}")
    pages = _Pages(
        taquba,
        _Visible(can_see),
        tuple(checked_queue_name(each) for each in queues),
        validation.seconds(stream_seconds, "stream_seconds", least=1),
        validation.integer(max_streams, "max_streams", least=0),
    )
    blueprint = Blueprint(name, __name__)
    blueprint.get("/<run_id>", endpoint="status")(pages.status)
    blueprint.get("/<run_id>/events", endpoint="events")(pages.events)
    blueprint.after_request(_not_kept)

    def tell(state: BlueprintSetupState) -> None:
        taquba.pages_are(state.app, ".".join(filter(None, (state.name_prefix, state.name))))

    blueprint.record(tell)
    return blueprint


class _Visible:
    """``can_see`` with its answer checked: what is truthy by mistake, such as a coroutine, must not open a run."""

    def __init__(self, can_see: Callable[[RunStatus], bool]) -> None:
        self._can_see = can_see

    def __call__(self, run: RunStatus) -> bool:
        answer = self._can_see(run)
        if not isinstance(answer, bool):
            raise TypeError(f"can_see returned a {type(answer).__name__}; it must return True or False")
        return answer


class _Pages:
    """The two views."""

    def __init__(self, taquba: Taquba, can_see: _Visible, queues: tuple[str, ...], seconds: float, most: int) -> None:
        self._taquba = taquba
        self._can_see = can_see
        self._names = tuple(dict.fromkeys((*(flow.name for flow in taquba.flows), *queues, DEFAULT_QUEUE_NAME)))
        self._seconds = seconds
        self._slots = Slots(most, seconds)

    def status(self, run_id: str) -> Response:
        """Answer with the status of a run."""
        handle, run = self._find(run_id)
        headers = {} if run.state in ENDED else {"Retry-After": "1"}
        text = text_of(run, outcome_now(handle, run))
        return Response(f"{text}\n", mimetype="application/json", headers=headers)

    def events(self, run_id: str) -> Response:
        """Answer with a stream of statuses."""
        handle, run = self._find(run_id)
        last_id = request.headers.get("Last-Event-ID")
        text = text_of(run, outcome_now(handle, run))
        if run.state in ENDED and last_id == id_of(text):
            # The one answer after which an EventSource does not ask again.
            return Response(status=204)
        if run.state in ENDED or request.method == "HEAD" or serves_one_at_a_time(request.environ):
            return _stream(RETRY + ("" if last_id == id_of(text) else event(text)))
        give_back = self._slots.take()
        if give_back is None:
            seconds = self._slots.seconds_to_next()
            return Response(
                f"this process streams to as many viewers as it may; ask again in {seconds} s, or ask for the status\n",
                status=503,
                mimetype="text/plain",
                headers={"Retry-After": str(seconds)},
            )
        try:
            response = _stream(events(handle, run, _asked_anew(self._can_see), last_id, self._seconds))
        except BaseException:
            give_back()
            raise
        response.call_on_close(give_back)
        return response

    def _find(self, run_id: str) -> tuple[RunHandle, RunStatus]:
        """Return the run that is asked for; a 404 if there is none for the one who asks."""
        named = request.args.get("queue")
        names = self._names if named is None else tuple(name for name in self._names if name == named)
        found: list[tuple[RunHandle, RunStatus]] = []
        for name in names:
            client = WorkflowClient(self._taquba.queue, queue_name=name)
            try:
                run = client.status(run_id)
            except InvalidRunIdError:
                abort(404)
            if run is not None and self._can_see(run):
                found.append((RunHandle(run.run_id, run.job_id, False, client), run))
        if not found:
            abort(404)
        return max(found, key=lambda each: each[1].submitted_at)


def _asked_anew(can_see: Callable[[RunStatus], bool]) -> Callable[[RunStatus], bool]:
    """Return ``can_see`` as a new request of the same viewer would ask it, for when this one is over.

    A context around each question, not around the stream: whatever a teardown gives back, such as a connection, is not
    held for as long as somebody watches. And a new one, not this request's: what a ``before_request`` has put into
    ``g`` for this one, a teardown may have closed.
    """
    app, environ = current(), dict(request.environ)

    def ask(run: RunStatus) -> bool:
        # The app's context is new, too, where the stream is read inside one: its ``g`` is another's.
        with app.app_context(), app.request_context(environ):
            try:
                return app.preprocess_request() is None and can_see(run)
            except HTTPException:
                # The stream has begun and cannot be answered so any more; the next request of this viewer can.
                return False

    return ask


def _not_kept(response: Response) -> Response:
    """Have nobody keep an answer, a 404 neither: who may not see a run now, or has come before it, may see it soon."""
    response.headers["Cache-Control"] = "no-store"
    return response


def _stream(body: Any) -> Response:
    # Nginx would keep events back until it has a buffer full of them.
    return Response(body, mimetype="text/event-stream", headers={"X-Accel-Buffering": "no"})


def serves_one_at_a_time(environ: dict[str, Any]) -> bool:
    """Whether a stream would keep this process from everything else.

    A test client says that it has no threads either; it is told by naming no server.
    """
    is_server = "SERVER_SOFTWARE" in environ or bool(environ.get("wsgi.multiprocess"))
    return is_server and not environ.get("wsgi.multithread")
