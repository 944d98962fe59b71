"""The console as a blueprint."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Final

from flask import Blueprint, Response, request

from taquba_workflow_sync.console.access import Access, checked_access
from taquba_workflow_sync.console.app import Console
from taquba_workflow_sync.console.guard import csrf_of, guarded, new_secret, why_forged
from taquba_workflow_sync.console.messages import Fields, Request, text_response
from taquba_workflow_sync.console.messages import Response as Answer
from taquba_workflow_sync.console.wsgi import MOST_BODY
from taquba_workflow_sync.contrib.flask.blueprint import serves_one_at_a_time
from taquba_workflow_sync.contrib.flask.extension import Taquba
from taquba_workflow_sync.errors import TaqubaError
from taquba_workflow_sync.queue import validation

_COOKIE: Final = "taquba_console"


def _flasks(answer: Answer) -> Response:
    return Response(guarded(answer).body, answer.status, answer.headers, content_type=answer.content_type)


def _unsaid(request: object) -> None:
    """Stand for an ``authorize`` that was not given: there is no safe default."""


def console_blueprint(
    taquba: Taquba, *, authorize: Callable[..., Access | None] = _unsaid, name: str = "taquba_console"
) -> Blueprint:
    """Return a blueprint with the console of the app's store; needs the extra ``[console]``.

    ``authorize(request) -> None | READ | ACT`` decides in each request what the one who asks may do; None answers with
    403. READ and ACT are those of ``taquba_workflow_sync.console``. Forms are taken from the console's own pages only.
    Pages that are open hold two threads of a process at most, and none of a server that has one.

    Raises:
        TypeError: ``authorize`` is missing, no function, or async; or another argument is of the wrong type.
    """
    validation.instance(taquba, Taquba, "taquba")
    if authorize is _unsaid:
        raise TypeError(
            "console_blueprint needs authorize=, a function of the request that returns READ, ACT or None: what whoever"
            " asks may do with every run and payload of the store"
        )
    if not callable(authorize) or inspect.iscoroutinefunction(authorize):
        raise TypeError(f"authorize must be a plain function of the request, not {authorize!r:.100}")
    console = Console()
    blueprint = Blueprint(name, __name__)

    def serve(path: str = "", **others: object) -> Response:
        # ``others``: what a prefix with variables brings.
        access = checked_access(authorize(request))
        if access is None:
            return _flasks(text_response(403, "you may not see the console"))
        base = request.script_root + request.path[: len(request.path) - len(path)].rstrip("/")
        kept = request.cookies.get(_COOKIE)
        secret = kept or new_secret()
        csrf = csrf_of(secret)
        form = Fields({})
        if request.method == "POST":
            # One that does not say how large it is may be endless.
            if request.content_length is None or request.content_length > MOST_BODY:
                return _flasks(text_response(413, f"a form has {MOST_BODY} bytes at most"))
            form = Fields(request.form.to_dict(flat=False))
            headers = {key.lower(): value for key, value in request.headers.items()}
            forged = why_forged(headers, request.host, form, csrf)
            if forged is not None:
                return _flasks(text_response(403, forged))
        try:
            queue = taquba.queue
        except (TaqubaError, OSError) as error:
            return _flasks(text_response(503, f"the store cannot be opened: {error}"))
        answer = console.answer(
            Request(
                method=request.method,
                path=path,
                query=Fields(request.args.to_dict(flat=False)),
                form=form,
                base=base,
                stores={"default": queue},
                access=access,
                csrf=csrf,
                may_hold=not serves_one_at_a_time(request.environ),
                last_event_id=request.headers.get("Last-Event-ID"),
            )
        )
        response = _flasks(answer)
        if not kept:
            response.set_cookie(
                _COOKIE, secret, path=f"{base}/", secure=request.is_secure, httponly=True, samesite="Strict"
            )
        return response

    blueprint.add_url_rule("/", "console", serve, methods=["GET", "POST"])
    blueprint.add_url_rule("/<path:path>", "console_page", serve, methods=["GET", "POST"])
    return blueprint
