"""The console in a project: login and permissions decide who may, Django's own tokens stand before each form."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings
from django.shortcuts import resolve_url
from django.test import Client, override_settings
from django.urls import reverse

pytest.importorskip("jinja2")

from taquba_workflow_sync import RunState, WorkflowClient
from taquba_workflow_sync.contrib.django.console import _Aliases
from taquba_workflow_sync.contrib.django.stores import store
from taquba_workflow_sync.contrib.django.test import TaqubaTestCase
from tests.console.markup import Element, check_headers, parsed
from tests.django.inside.extra.workflows import Item, elsewhere, slow
from tests.django.inside.test_admin import user_with

BASE = "/staff/console"
OTHERS = {"content-length", "content-type", "vary"}
PAGES = ("", "runs?queue=slow", "run?id=r&queue=slow", "queue?queue=slow", "dead", "schedules", "limits", "workers")


def own_headers(answer: Any) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.lower() not in OTHERS}


@override_settings(ROOT_URLCONF="tests.django.inside.console_urls")
class ConsoleCase(TaqubaTestCase):
    def setUp(self) -> None:
        slow.submit(Item("x"), run_id="r")

    def page(self, path: str = "", *, client: Any = None, status: int = 200) -> Element:
        answer = (client or self.client).get(f"{BASE}/{path}")
        self.assertEqual(answer.status_code, status, answer.content[:500])
        check_headers(own_headers(answer), answer.headers["Content-Type"])
        return parsed(answer.content.decode(), BASE)

    def form(self, client: Any, do: str = "cancel") -> dict[str, str]:
        page = self.page(f"confirm?do={do}&id=r&queue=slow", client=client)
        form = page.one("form", method="post")
        self.assertEqual(form.get("action"), f"{BASE}/act")
        return dict(form.fields())

    def state(self) -> RunState:
        run = WorkflowClient(store("default"), queue_name="slow").status("r")
        assert run is not None
        return run.state


class MayTest(ConsoleCase):
    def test_whoever_is_not_logged_in_is_led_to_the_login_of_the_project(self) -> None:
        for path in (*PAGES, "act", "events?page=runs", "payload?id=r&queue=slow&what=payload", "console.css", "x"):
            answer = self.client.get(f"{BASE}/{path}")
            self.assertEqual(answer.status_code, 302)
            self.assertTrue(answer.headers["Location"].startswith(f"{resolve_url(settings.LOGIN_URL)}?next={BASE}/"))
        self.assertEqual(self.client.post(f"{BASE}/act", {"do": "cancel", "id": "r", "queue": "slow"}).status_code, 302)
        self.assertEqual(self.state(), RunState.PENDING)

    def test_the_login_leads_back_and_nowhere_else(self) -> None:
        for path in ("//evil.example/", "runs?next=//evil.example", "%0d%0aX-Injected:%201"):
            answer = self.client.get(f"{BASE}/{path}")
            login = f"{resolve_url(settings.LOGIN_URL)}?next={BASE}/"
            self.assertTrue(answer.headers["Location"].startswith(login), path)
            self.assertNotIn("X-Injected", answer.headers)

    def test_without_the_permission_it_is_403(self) -> None:
        for permissions in ((), ("operate_run",), ("cancel_run", "retry_run", "requeue_run")):
            user = user_with(*permissions)
            self.client.force_login(user)
            for path in (*PAGES, "act", "events?page=runs", "payload?id=r&queue=slow&what=payload", "console.css"):
                self.assertEqual(self.client.get(f"{BASE}/{path}").status_code, 403)
            user.delete()

    def test_whoever_is_no_longer_active_sees_nothing(self) -> None:
        user = user_with("view_run", "operate_run")
        self.client.force_login(user)
        self.page()
        user.is_active = False
        user.save()
        self.assertEqual(self.client.get(f"{BASE}/").status_code, 302)

    def test_who_may_view_sees_all_of_it_and_changes_nothing(self) -> None:
        self.client.force_login(user_with("view_run"))
        for path in PAGES:
            page = self.page(path)
            self.assertIn("you may look, and change nothing", page.one("footer").text)
            self.assertFalse(page.all("form", method="post") + page.all("button", name="do"))
        self.page("confirm?do=cancel&id=r&queue=slow", status=403)
        answer = self.client.post(f"{BASE}/act", {"do": "cancel", "id": "r", "queue": "slow"})
        self.assertEqual(answer.status_code, 403)
        self.assertEqual(self.state(), RunState.PENDING)
        saved = self.client.get(f"{BASE}/payload?id=r&queue=slow&what=payload")
        self.assertTrue(saved.headers["Content-Disposition"].startswith("attachment"))
        check_headers(own_headers(saved), saved.headers["Content-Type"])

    def test_who_may_operate_does(self) -> None:
        self.client.force_login(user_with("view_run", "operate_run"))
        answer = self.client.post(f"{BASE}/act", self.form(self.client))
        self.assertContains(answer, "cancelled, or asked to stop")
        self.assertEqual(self.state(), RunState.CANCELLED)

    def test_a_permission_that_is_taken_away_is_gone_for_a_form_that_is_open(self) -> None:
        user = user_with("view_run", "operate_run")
        self.client.force_login(user)
        form = self.form(self.client)
        user.user_permissions.clear()
        self.assertEqual(self.client.post(f"{BASE}/act", form).status_code, 403)
        self.assertEqual(self.state(), RunState.PENDING)


class FormTest(ConsoleCase):
    def setUp(self) -> None:
        super().setUp()
        self.strict = Client(enforce_csrf_checks=True)
        self.strict.force_login(user_with("view_run", "operate_run"))

    def test_a_form_needs_the_token_of_django(self) -> None:
        form = self.form(self.strict)
        for wrong in ({}, {"csrfmiddlewaretoken": ""}, {"csrfmiddlewaretoken": "x" * 64}, {"csrf_token": "x"}):
            given = {name: value for name, value in form.items() if name != "csrfmiddlewaretoken"} | wrong
            self.assertEqual(self.strict.post(f"{BASE}/act", given).status_code, 403)
        self.assertEqual(self.strict.get(f"{BASE}/act", form).status_code, 405)
        self.assertEqual(self.state(), RunState.PENDING)
        self.assertContains(self.strict.post(f"{BASE}/act", form), "cancelled")

    def test_a_form_of_another_origin_is_refused(self) -> None:
        form = self.form(self.strict)
        for origin in ("http://evil.example", "null", "http://["):
            self.assertEqual(self.strict.post(f"{BASE}/act", form, headers={"Origin": origin}).status_code, 403)
        self.assertEqual(self.state(), RunState.PENDING)

    @override_settings(MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ])  # fmt: skip
    def test_a_project_without_the_middleware_of_tokens_is_no_way_in(self) -> None:
        form = self.form(self.strict)
        del form["csrfmiddlewaretoken"]
        self.assertEqual(self.strict.post(f"{BASE}/act", form).status_code, 403)
        self.assertEqual(self.state(), RunState.PENDING)

    def test_a_form_is_no_larger_than_the_project_allows(self) -> None:
        form = self.form(self.strict)
        many = [("id", f"r{number}") for number in range(1_500)]
        answer = self.strict.post(f"{BASE}/act", {**form, "id": [value for _, value in many]})
        self.assertIn(answer.status_code, (400, 403))
        self.assertIn(self.strict.post(f"{BASE}/act", {**form, "x": "x" * 3_000_000}).status_code, (400, 403))
        self.assertEqual(self.state(), RunState.PENDING)


class PageTest(ConsoleCase):
    def setUp(self) -> None:
        super().setUp()
        self.client.force_login(user_with("view_run", "operate_run"))

    def test_every_store_of_the_project_has_its_pages(self) -> None:
        elsewhere.submit(Item("x"), run_id="theirs")
        page = self.page("runs?store=other&queue=elsewhere")
        self.assertEqual([row[1] for row in page.rows()], ["theirs"])
        self.assertEqual([each.text for each in page.one("nav", aria_label="Stores").all("a")], ["default", "other"])
        self.assertIn("no store 'none'", self.client.get(f"{BASE}/?store=none").content.decode())
        stores = _Aliases()
        self.assertEqual(
            (list(stores), len(stores), "other" in stores, "none" in stores), (["default", "other"], 2, True, False)
        )
        with self.assertRaises(KeyError):
            stores["none"]

    def test_it_may_be_mounted_anywhere_and_its_links_stay_there(self) -> None:
        self.assertEqual(reverse("taquba_console:console", args=("",)), f"{BASE}/")
        answer = self.client.get("/acme/own/runs?queue=slow")
        self.assertEqual(answer.status_code, 200)
        parsed(answer.content.decode(), "/acme/own")

    def test_a_stream_holds_nobody_where_nothing_is_said_of_threads(self) -> None:
        answer = self.client.get(f"{BASE}/events?page=runs%3Fqueue%3Dslow")
        self.assertFalse(answer.streaming)
        self.assertTrue(answer.content.startswith(b"retry: 1000\n\nid: "))
        check_headers(own_headers(answer), answer.headers["Content-Type"])
        streamed = self.client.get(f"{BASE}/events?page=dead", **{"wsgi.multithread": True})
        self.assertTrue(streamed.streaming)
        self.assertEqual(next(iter(streamed.streaming_content)), b"retry: 1000\n\n")
        streamed.close()

    def test_paths_and_queries_of_any_kind_are_answered(self) -> None:
        for path in (
            "nothing", "runs%0a", "%0aruns", "runs/", "..%2f..%2fsettings.py", "%00", "%ff", "run?id=%ff&queue=%00",
            "?%zz=%", "runs?state=%e2%80%ae", "runs?cursor=%ff", "events?page=//[", "runs?since=%00", "dead?cursor=x",
        ):  # fmt: skip
            answer = self.client.get(f"{BASE}/{path}")
            self.assertIn(answer.status_code, (200, 400, 404), path)
            check_headers(own_headers(answer), answer.headers["Content-Type"])
            if answer.headers["Content-Type"].startswith("text/html"):
                parsed(answer.content.decode(), BASE)

    def test_the_files_beside_the_pages_are_kept(self) -> None:
        answer = self.client.get(f"{BASE}/console.css")
        check_headers(own_headers(answer), answer.headers["Content-Type"], keeps=True)
