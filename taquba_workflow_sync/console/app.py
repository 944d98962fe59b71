"""The console as a function of requests, whatever serves them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final
from urllib.parse import parse_qs

from taquba_workflow_sync.console.access import Access
from taquba_workflow_sync.console.actions import do
from taquba_workflow_sync.console.guard import guarded
from taquba_workflow_sync.console.live import RETRY, Live, event
from taquba_workflow_sync.console.messages import Fields, Request, Response, text_response
from taquba_workflow_sync.console.pages.run import payload_of
from taquba_workflow_sync.console.rendering import ASSETS, Rendering
from taquba_workflow_sync.console.routes import PAGES
from taquba_workflow_sync.console.view import Missing, Page, Refused, View, view_of
from taquba_workflow_sync.errors import PayloadTooLargeError, TaqubaError

_log = logging.getLogger(__name__)

#: How long a stream of changes goes on; a browser asks again, and is asked again who it is.
_STREAM_SECONDS: Final = 20.0


class Console:
    """The pages about whatever stores a request brings along.

    Whoever calls ``answer`` has made sure of who asks, and, of a POST, that one of our own pages has sent it.
    """

    def __init__(self, *, most_streams: int = 2) -> None:
        """``most_streams``: so many threads are held by who watches; where there are more, browsers ask again."""
        self._rendering = Rendering()
        self._live = Live()
        self._spare = threading.BoundedSemaphore(most_streams)

    def answer(self, request: Request) -> Response:
        """Answer a request; its headers are complete."""
        return guarded(self._answer(request))

    def _answer(self, request: Request) -> Response:
        if request.path in ASSETS:
            headers = {"Cache-Control": "private, max-age=31536000, immutable"}
            return Response(200, self._rendering.assets[request.path], ASSETS[request.path], headers)
        if request.path == "act":
            return self._act(request)
        if request.method not in ("GET", "HEAD"):
            return text_response(405, "only GET and HEAD")
        if request.path == "events":
            return self._events(request)
        if request.path == "payload":
            return self._payload(request)
        if request.path not in PAGES:
            return self._failed(request, 404, "There is no such page.")
        if request.path == "confirm" and request.access is not Access.ACT:
            return self._may_not(request)
        return self._page(request, PAGES[request.path])

    def _page(self, request: Request, make: Callable[[View], Page]) -> Response:
        try:
            view = view_of(request)
            page = make(view)
            return Response(page.status, self._rendering.whole(page, view))
        except (Missing, Refused, TaqubaError, OSError) as error:
            return self._failed(request, *_told(error))

    def _failed(self, request: Request, status: int, text: str) -> Response:
        """Answer with a page that says what is wrong; without the store's name, if that is what is wrong."""
        page = Page("error.html", "That did not work", {"text": text}, is_live=False, status=status)
        try:
            view = view_of(request)
            return Response(status, self._rendering.whole(page, view))
        except (Missing, TaqubaError, OSError):
            return text_response(status, text)

    def _may_not(self, request: Request) -> Response:
        return self._failed(request, 403, "You may look at everything here, and change nothing.")

    def _act(self, request: Request) -> Response:
        if request.access is not Access.ACT:
            return self._may_not(request)
        if request.method != "POST":
            return text_response(405, "only POST")
        try:
            view = view_of(replace(request, query=request.form))  # which says of which store
            action, done = do(view, request.form)
            values = {"action": action, "done": done, "name": request.form.get("queue")}
            page = Page("done.html", action.title, values, is_live=False)
            return Response(200, self._rendering.whole(page, view))
        except (Missing, Refused, TaqubaError, OSError) as error:
            return self._failed(request, *_told(error))

    def _payload(self, request: Request) -> Response:
        try:
            name, data = payload_of(view_of(request))
        except (Missing, Refused, TaqubaError, OSError) as error:
            return self._failed(request, *_told(error))
        # Never shown by the browser: what a run was given may be a page, too.
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(200, data, "application/octet-stream", headers)

    def _events(self, request: Request) -> Response:
        """Answer with what is on a page, whenever it changes."""
        path, _, text = (request.query.get("page") or "").partition("?")
        make = PAGES.get(path)
        if make is None or path == "confirm":
            return text_response(404, "no page of that name is told of changes")
        asked = replace(request, path=path, query=Fields(parse_qs(text, keep_blank_values=True)))

        def read() -> bytes:
            try:
                view = view_of(asked)
                return self._rendering.main(make(view), view)
            except (Missing, Refused, TaqubaError, OSError) as error:
                _log.debug("a page of the console could not be made", exc_info=True)
                return self._rendering.problem(_told(error)[1])

        key = (repr(request.stores), request.base, path, text, request.access.value)
        headers = {"X-Accel-Buffering": "no"}
        if request.method == "HEAD":
            return Response(200, b"", "text/event-stream", headers)
        return Response(200, self._changes(request, key, read), "text/event-stream", headers)

    def _changes(self, request: Request, key: tuple[str, ...], read: Callable[[], bytes]) -> bytes | Iterator[bytes]:
        return self._stream(request, key, read) if request.may_hold else self._once(request, key, read)

    def _stream(self, request: Request, key: tuple[str, ...], read: Callable[[], bytes]) -> Iterator[bytes]:
        # Only once it is read: of a stream that nobody begins to read nothing would be given back.
        if not self._spare.acquire(blocking=False):
            yield self._once(request, key, read)
            return
        try:
            yield from self._live.stream(key, read, request.last_event_id, _STREAM_SECONDS)
        finally:
            self._spare.release()

    def _once(self, request: Request, key: tuple[str, ...], read: Callable[[], bytes]) -> bytes:
        since = time.monotonic() if request.last_event_id is None else float("-inf")
        now_id, text = self._live.latest(key, read, since=since)
        is_known = not now_id or now_id == request.last_event_id
        return RETRY if is_known else RETRY + event(now_id, text)


def _told(error: Exception) -> tuple[int, str]:
    """Return how an error is answered."""
    match error:
        case Missing():
            return 404, str(error)
        case Refused() | ValueError() | PayloadTooLargeError():
            return 400, str(error)
        case _:
            return 503, f"{type(error).__name__}: {error}"
