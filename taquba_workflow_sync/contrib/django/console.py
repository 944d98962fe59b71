"""The console in a Django project: ``path("console/", include("taquba_workflow_sync.contrib.django.console"))``.

Who may see it has the permission ``taquba.view_run``, who may change something ``taquba.operate_run`` besides; others
are led to the project's login. Needs the extra ``[console]``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.middleware.csrf import get_token
from django.urls import re_path
from django.views.decorators.csrf import csrf_protect

from taquba_workflow_sync.console.access import Access
from taquba_workflow_sync.console.app import Console
from taquba_workflow_sync.console.messages import Csrf, Fields, Request
from taquba_workflow_sync.contrib.django.conf import aliases
from taquba_workflow_sync.contrib.django.stores import store
from taquba_workflow_sync.queue.queue import Queue

_FIELD: Final = "csrfmiddlewaretoken"


class _Aliases(Mapping[str, Queue]):
    """The stores of the project, each opened when somebody looks at it."""

    def __getitem__(self, alias: str) -> Queue:
        if alias not in aliases():
            raise KeyError(alias)
        return store(alias)

    def __iter__(self) -> Iterator[str]:
        return iter(aliases())

    def __len__(self) -> int:
        return len(aliases())

    def __contains__(self, alias: object) -> bool:
        return alias in aliases()

    def __repr__(self) -> str:
        return "the project's stores"


@cache
def _console() -> Console:
    return Console()


@csrf_protect
def console(request: HttpRequest, path: str = "", **others: object) -> HttpResponseBase:
    """Answer with a page of the console, by what the user may do; ``others``: what a prefix with variables brings."""
    access = _access(request)
    if access is None:
        if request.user.is_authenticated:
            raise PermissionDenied
        return redirect_to_login(request.get_full_path())
    answer = _console().answer(
        Request(
            method=request.method or "GET",
            path=path,
            query=_fields(request.GET),
            form=_fields(request.POST),
            base=request.path[: len(request.path) - len(path)].rstrip("/"),
            stores=_Aliases(),
            access=access,
            csrf=Csrf(_FIELD, get_token(request)),
            # A server that says nothing of threads may have one for everything.
            may_hold=bool(request.META.get("wsgi.multithread")),
            last_event_id=request.headers.get("Last-Event-ID"),
        )
    )
    if isinstance(answer.body, bytes):
        response: HttpResponseBase = HttpResponse(answer.body, status=answer.status, content_type=answer.content_type)
    else:
        response = StreamingHttpResponse(answer.body, status=answer.status, content_type=answer.content_type)
    for name, value in answer.headers.items():
        response.headers[name] = value
    return response


def _access(request: HttpRequest) -> Access | None:
    if not request.user.has_perm("taquba.view_run"):
        return None
    return Access.ACT if request.user.has_perm("taquba.operate_run") else Access.READ


def _fields(values: object) -> Fields:
    return Fields(dict(values.lists()))  # type: ignore[attr-defined]  # Django has no types


app_name: str = "taquba_console"
# Also of a line break: a path that is cut there would be taken for another page, mounted elsewhere.
urlpatterns: list[Any] = [re_path(r"^(?P<path>(?s:.*))\Z", console, name="console")]
