"""The admin's pages of runs: views of our own over ``list_runs``, under the URLs and permissions of the model Run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.contrib import admin, messages
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse

from taquba_workflow_sync.contrib.django.admin.actions import ACTIONS, Action
from taquba_workflow_sync.contrib.django.admin.filters import Filters
from taquba_workflow_sync.contrib.django.admin.listing import page_of
from taquba_workflow_sync.contrib.django.admin.places import UNREADABLE, Place, all_places, find
from taquba_workflow_sync.contrib.django.admin.run_page import page_of_run
from taquba_workflow_sync.contrib.django.models import Run
from taquba_workflow_sync.contrib.django.untyped import Untyped

if TYPE_CHECKING:
    _ModelAdmin = Untyped
else:
    from django.contrib.admin import ModelAdmin as _ModelAdmin


_PER_PAGE: Final = 50


@admin.register(Run)
class RunAdmin(_ModelAdmin):
    """The list of runs, the page of one, and what can be done to them.

    In URLs run ids are quoted as the admin quotes primary keys (``_`` is ``_5F``), for it links so to them in its log.
    """

    list_per_page = _PER_PAGE

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Runs are submitted by programs."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """What can be done to a run has permissions of its own."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Runs go when their retention is over."""
        return False

    def get_urls(self) -> list[Any]:
        """Return the pages, under the names that the admin links to."""
        view = self.admin_site.admin_view
        urls = [
            path("", view(self.list_view), name="taquba_run_changelist"),
            path("<str:quoted_id>/change/", view(self.run_view), name="taquba_run_change"),
            path("<str:quoted_id>/", view(self.shortcut), name="taquba_run_shortcut"),
        ]
        for action in ACTIONS:
            # Before the shortcut would take it: two parts, so that it does not.
            urls.append(
                path(f"<str:quoted_id>/{action.name}/", view(self._acting(action)), name=f"taquba_run_{action.name}")
            )
        return urls

    def shortcut(self, request: HttpRequest, quoted_id: str) -> HttpResponse:
        """Lead to a run's page."""
        query = request.META.get("QUERY_STRING", "")
        url = reverse(f"{self.admin_site.name}:taquba_run_change", args=[quoted_id])
        return HttpResponseRedirect(f"{url}?{query}" if query else url)

    def list_view(self, request: HttpRequest) -> HttpResponse:
        """Show the runs that the filters find, the newest first; a POST does something to those that are ticked."""
        self._check_may_view(request)
        if request.method == "POST":
            return self._act_on_many(request)
        filters = Filters(request.GET)
        places, problems = all_places()
        problems += filters.problems
        try:
            page, choices = page_of(filters, places, self.list_per_page), filters.choices(places)
        except (*UNREADABLE, ValueError) as error:
            # A cursor that somebody made up, or a store that broke between two looks.
            problems.append(str(error))
            page, choices = page_of(filters, [], self.list_per_page), filters.choices([])
        for problem in problems:
            self.message_user(request, problem, messages.ERROR)
        allowed = [action for action in ACTIONS if request.user.has_perm(action.permission)]
        context = {
            **self._context(request, "Runs"),
            "filters": filters,
            "page": page,
            "choices": choices,
            "first_query": filters.query(),
            "actions": allowed,
            "columns": 5 if allowed else 4,
            "rows": [(each, self._url(each.place, each.run.run_id)) for each in page.rows],
        }
        return TemplateResponse(request, "admin/taquba/run/list.html", context)

    def run_view(self, request: HttpRequest, quoted_id: str) -> HttpResponse:
        """Show one run."""
        self._check_may_view(request)
        run_id = unquote(quoted_id)
        place = self._place(request, run_id)
        try:
            page = page_of_run(place, run_id)
        except UNREADABLE as error:
            raise Http404(str(error)) from error
        if page is None:
            raise Http404(f"there is no run {run_id!r}")
        actions = [
            (action, self._url(place, run_id, action.name))
            for action in ACTIONS
            if request.user.has_perm(action.permission) and action.fits(page.run, page.job)
        ]
        context = {**self._context(request, run_id), "page": page, "actions": actions, "place": place}
        return TemplateResponse(request, "admin/taquba/run/run.html", context)

    def _acting(self, action: Action) -> Any:
        def act(request: HttpRequest, quoted_id: str) -> HttpResponse:
            self._check_may_view(request)
            run_id = unquote(quoted_id)
            if not request.user.has_perm(action.permission):
                raise PermissionDenied
            if request.method != "POST":
                return HttpResponseNotAllowed(["POST"])
            place = self._place(request, run_id)
            self._act(request, action, place, run_id)
            return HttpResponseRedirect(self._url(place, run_id))

        return act

    def _act_on_many(self, request: HttpRequest) -> HttpResponse:
        action = next((each for each in ACTIONS if each.name == request.POST.get("action")), None)
        if action is None:
            self.message_user(request, "No action selected.", messages.WARNING)
            return HttpResponseRedirect(request.get_full_path())
        if not request.user.has_perm(action.permission):
            raise PermissionDenied
        chosen = request.POST.getlist("_selected_action")
        if not chosen:
            self.message_user(request, "Tick the runs first; none was changed.", messages.WARNING)
        for key in chosen:
            where, _, run_id = key.rpartition("/")
            try:
                place = Place.of_key(where) if where else find(run_id)
            except UNREADABLE as error:
                self.message_user(request, f"Run {run_id}: {error}", messages.ERROR)
                continue
            if place is None:
                self.message_user(request, f"There is no run {run_id!r}.", messages.ERROR)
            else:
                self._act(request, action, place, run_id)
        return HttpResponseRedirect(request.get_full_path())

    def _act(self, request: HttpRequest, action: Action, place: Place, run_id: str) -> None:
        try:
            said = action.do(place, run_id, f"by {request.user.get_username()} in the admin")
        except (*UNREADABLE, ValueError) as error:
            self.message_user(request, f"Run {run_id}: {error}", messages.ERROR)
            return
        self.log_change(request, Run(run_id=run_id), f"{said}, queue {place.queue_name} of store {place.alias}")
        self.message_user(request, f"Run {run_id}: {said}.", messages.SUCCESS)

    def _check_may_view(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            raise PermissionDenied

    def _place(self, request: HttpRequest, run_id: str) -> Place:
        try:
            place = find(run_id, request.GET.get("store"), request.GET.get("queue"))
        except UNREADABLE as error:
            raise Http404(str(error)) from error
        if place is None:
            raise Http404(f"there is no run {run_id!r}")
        return place

    def _url(self, place: Place, run_id: str, name: str = "change") -> str:
        return f"{reverse(f'{self.admin_site.name}:taquba_run_{name}', args=[quote(run_id)])}?{place.query}"

    def _context(self, request: HttpRequest, title: str) -> dict[str, Any]:
        request.current_app = self.admin_site.name
        return {**self.admin_site.each_context(request), "opts": self.opts, "title": title, "media": self.media}
