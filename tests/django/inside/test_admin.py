"""The admin's pages of runs: who may see and do what, what they find, and that what is shown is escaped."""

from __future__ import annotations

import base64
import itertools
import re
from datetime import timedelta
from html import unescape
from typing import Any
from unittest import mock
from urllib.parse import quote, urlencode

from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.test import TransactionTestCase
from django.urls import reverse
from django.utils import timezone

from taquba_workflow_sync import Queue, RunState, StorageError, WorkflowClient
from taquba_workflow_sync.contrib.django.discovery import flows
from taquba_workflow_sync.contrib.django.models import Run
from taquba_workflow_sync.contrib.django.stores import stores
from taquba_workflow_sync.contrib.django.test import TaqubaTestCase, own_stores
from tests.django.inside.extra.workflows import Item, elsewhere, shaky, slow

LIST = "/admin/taquba/run/"


def user_with(*permissions: str) -> User:
    user = User.objects.create_user("staff", password="x", is_staff=True)
    found = Permission.objects.filter(content_type__app_label="taquba", codename__in=permissions)
    assert len(found) == len(permissions)
    user.user_permissions.set(found)
    return user


class AdminCase(TaqubaTestCase):
    def runs(self, url: str = LIST) -> list[str]:
        answer = self.client.get(url)
        self.assertEqual(answer.status_code, 200)
        return re.findall(r'field-run_id"><a href="[^"]*">([^<]*)</a>', answer.content.decode())


class MayTest(AdminCase):
    def test_the_permissions_are_view_and_what_can_be_done(self) -> None:
        found = Permission.objects.filter(content_type__app_label="taquba").values_list("codename", flat=True)
        self.assertEqual(sorted(found), ["cancel_run", "operate_run", "requeue_run", "retry_run", "view_run"])

    def test_nobody_sees_runs_without_logging_in(self) -> None:
        slow.submit(Item("x"), run_id="secret")
        for url in (LIST, f"{LIST}secret/", f"{LIST}secret/change/", f"{LIST}secret/cancel/"):
            self.assertRedirects(self.client.get(url), f"/admin/login/?next={url}", fetch_redirect_response=False)

    def test_without_the_permission_it_is_403(self) -> None:
        slow.submit(Item("x"), run_id="r-1")
        self.client.force_login(user_with())
        for url in (LIST, f"{LIST}r-1/change/"):
            self.assertEqual(self.client.get(url).status_code, 403)
        for url in (f"{LIST}r-1/cancel/", LIST):
            self.assertEqual(self.client.post(url, {"action": "cancel", "_selected_action": "r-1"}).status_code, 403)
        self.assertEqual(self.client.get("/admin/").content.count(b"/admin/taquba/"), 0)

    def test_who_may_view_may_not_do(self) -> None:
        slow.submit(Item("x"), run_id="r-1")
        self.client.force_login(user_with("view_run"))
        page = self.client.get(f"{LIST}r-1/change/")
        self.assertEqual(page.status_code, 200)
        self.assertNotContains(page, "Cancel this run")
        self.assertNotContains(self.client.get(LIST), "_selected_action")
        for name in ("cancel", "retry", "requeue"):
            self.assertEqual(self.client.post(f"{LIST}r-1/{name}/").status_code, 403)
            self.assertEqual(self.client.post(LIST, {"action": name, "_selected_action": "r-1"}).status_code, 403)
        self.assertEqual(slow.client().status("r-1").state, RunState.PENDING)  # type: ignore[union-attr]

    def test_each_action_has_a_permission_of_its_own(self) -> None:
        slow.submit(Item("x"), run_id="r-1")
        self.client.force_login(user_with("view_run", "retry_run"))
        self.assertEqual(self.client.post(f"{LIST}r-1/cancel/").status_code, 403)
        self.assertEqual(self.client.post(f"{LIST}r-1/retry/").status_code, 302)

    def test_nothing_is_done_by_a_get_or_without_a_token(self) -> None:
        slow.submit(Item("x"), run_id="r-1")
        self.client.force_login(user_with("view_run", "cancel_run"))
        self.assertEqual(self.client.get(f"{LIST}r-1/cancel/").status_code, 405)
        strict = self.client_class(enforce_csrf_checks=True)
        strict.force_login(User.objects.get())
        self.assertEqual(strict.post(f"{LIST}r-1/cancel/").status_code, 403)
        self.assertEqual(slow.client().status("r-1").state, RunState.PENDING)  # type: ignore[union-attr]


class ListTest(AdminCase):
    def setUp(self) -> None:
        self.client.force_login(User.objects.create_superuser("root", password="x"))

    def test_runs_of_all_queues_and_stores_are_one_list_the_newest_first(self) -> None:
        for number in range(3):
            slow.submit(Item("x"), run_id=f"a-{number}")
            elsewhere.submit(Item("x"), run_id=f"b-{number}")
        self.assertEqual(sorted(self.runs()), ["a-0", "a-1", "a-2", "b-0", "b-1", "b-2"])
        self.assertIn(self.runs()[0], ("a-2", "b-2"))
        self.assertEqual(sorted(self.runs(f"{LIST}?store=other")), ["b-0", "b-1", "b-2"])
        self.assertEqual(self.runs(f"{LIST}?queue=slow"), ["a-2", "a-1", "a-0"])

    def test_an_empty_list_says_so(self) -> None:
        self.assertContains(self.client.get(LIST), "There are no runs yet")
        self.assertContains(self.client.get(f"{LIST}?q=x"), "No run is as these filters say")

    def test_the_search_finds_ids_and_errors(self) -> None:
        slow.submit(Item("x"), run_id="order-7")
        slow.submit(Item("x"), run_id="order-8")
        shaky.submit(Item("never"), run_id="broken-1")
        self.assertEqual(self.runs(f"{LIST}?q=order-7"), ["order-7"])
        self.assertEqual(self.runs(f"{LIST}?q=order"), ["order-8", "order-7"])
        self.assertEqual(self.runs(f"{LIST}?q=broken"), ["broken-1"])
        self.assertEqual(self.runs(f"{LIST}?q=for good"), ["broken-1"])
        self.assertEqual(self.runs(f"{LIST}?q=<script>"), [])

    def test_filters_narrow_together(self) -> None:
        slow.submit(Item("x"), run_id="s-1", headers={"who": "me"})
        slow.submit(Item("x"), run_id="s-2")
        shaky.submit(Item("never"), run_id="f-1")
        shaky.submit(Item("x"), run_id="f-2")
        self.assertEqual(self.runs(f"{LIST}?state=failed"), ["f-1"])
        self.assertEqual(self.runs(f"{LIST}?state=pending&q=s-1"), ["s-1"])
        self.assertEqual(self.runs(f"{LIST}?header=who%3Dme"), ["s-1"])
        self.assertEqual(self.runs(f"{LIST}?error=broken"), ["f-1"])
        later = (timezone.now() + timedelta(hours=1)).isoformat()
        self.assertEqual(self.client.get(LIST, {"since": later}).content.count(b"field-run_id"), 0)
        self.assertEqual(self.client.get(LIST, {"until": later}).content.count(b"field-run_id"), 4)
        self.assertContains(self.client.get(LIST), '<span class="taquba-count">2</span>', html=True)

    def test_a_filter_that_is_none_is_told_and_ignored(self) -> None:
        slow.submit(Item("x"), run_id="s-1")
        for query in ("state=never", "since=soon", "header=x", "parent=a b", "p=nonsense", "p=WyJhIl0="):
            answer = self.client.get(f"{LIST}?{query}")
            self.assertContains(answer, "s-1")
            self.assertContains(answer, 'class="error"')

    def test_a_page_that_somebody_made_up_is_told(self) -> None:
        slow.submit(Item("x"), run_id="s-1")
        made_up = base64.urlsafe_b64encode(b'{"default/slow/all": "no cursor"}').decode()
        answer = self.client.get(LIST, {"p": made_up})
        self.assertContains(answer, "cursor")

    def test_pages_show_every_run_once(self) -> None:
        for number in range(70):
            slow.submit(Item("x"), run_id=f"p-{number:03}", queue=stores().plain("default"))
        for number in range(55):
            elsewhere.submit(Item("x"), run_id=f"q-{number:03}", queue=stores().plain("other"))
        seen: list[str] = []
        url: str | None = LIST
        pages = 0
        while url is not None:
            seen += self.runs(url)
            pages += 1
            found = re.search(r'class="taquba-next" rel="next" href="([^"]*)"', self.client.get(url).content.decode())
            url = None if found is None else LIST + unescape(found[1])
        expected = {f"p-{number:03}" for number in range(70)} | {f"q-{number:03}" for number in range(55)}
        self.assertEqual((len(seen), set(seen), pages), (125, expected, 3))
        self.assertEqual(seen[:55], sorted(seen[:55], reverse=True))

    def test_a_search_that_finds_an_id_and_its_error_shows_it_once(self) -> None:
        shaky.submit(Item("never"), run_id="broken")
        self.assertEqual(self.runs(f"{LIST}?q=broken"), ["broken"])

    def test_a_store_that_cannot_be_read_is_told(self) -> None:
        with self.settings(TAQUBA={"default": {"STORE": "/proc/nothing/here"}}):
            answer = self.client.get(LIST)
            self.assertEqual(answer.status_code, 200)
            self.assertContains(answer, "cannot be read")


class WrongTest(AdminCase):
    """No query, no id and no store makes a page an error of the server."""

    def setUp(self) -> None:
        self.client.force_login(User.objects.create_superuser("root", password="x"))
        slow.submit(Item("x"), run_id="s-1")

    def test_no_query_of_the_list_is_an_error(self) -> None:
        values = ["", "\x00", "\ud800", "é" * 300, "-1", "[]", "0001-01-01", "9999-12-31T23:59:59-12:00", "2026-02-30",
                  "2026-03-29T02:30", "=", "a=\x00", "1" * 5000]  # fmt: skip
        cursors = ["====", "é"] + [
            base64.urlsafe_b64encode(each).decode()
            for each in (b"[" * 100_000, b"null", b"9" * 5000, b'{"default/slow/all": 1}', b'{"default/slow/all": ""}',
                         b'{"default/slow/all": "\\u0000"}', b'{"default/slow/all": "99999999999999999999999"}')
        ]  # fmt: skip
        names = ("q", "store", "queue", "state", "since", "until", "error", "header", "parent", "o", "p")
        for name, value in [*itertools.product(names, values), *(("p", cursor) for cursor in cursors)]:
            query = urlencode({name: value}, errors="surrogatepass")
            with self.subTest(name=name, value=value[:40]):
                self.assertEqual(self.client.get(f"{LIST}?{query}").status_code, 200)

    def test_no_id_and_no_key_is_an_error(self) -> None:
        for run_id in ("\x00", "\ud800", "_00", "_2F", "é", "x" * 5000, "%"):
            url = f"{LIST}{quote(run_id, safe='', errors='surrogatepass')}/"
            for query in ("", "?queue=%00", "?store=none", "?store=other&queue=slow"):
                self.assertEqual(self.client.get(f"{url}change/{query}").status_code, 404)
                self.assertEqual(self.client.post(f"{url}cancel/{query}").status_code, 404)
        keys = ["/", "default//s-1", "default/slow/", "default/%00/x", f"default/{'x' * 300}/y", "none/slow/x", "a b"]
        answer = self.client.post(LIST, {"action": "cancel", "_selected_action": keys}, follow=True)
        self.assertEqual(answer.status_code, 200)
        self.assertEqual(answer.content.count(b'class="error"'), len(keys))

    def test_a_project_without_flows_and_tasks_has_its_pages(self) -> None:
        before = list(flows())
        flows().clear()
        try:
            with self.settings(TASKS={}), own_stores():
                self.assertContains(self.client.get(LIST), "There are no runs yet")
                self.assertEqual(self.client.get(f"{LIST}s-1/change/").status_code, 404)
        finally:
            flows().extend(before)

    def test_a_store_whose_settings_are_wrong_is_told(self) -> None:
        for wrong in ("x", {}, {"STORE": 7}, {"STORE": "/tmp/x", "DURABILITY": "some"}, {"STORE": __file__}):
            with self.settings(TAQUBA={"default": wrong}):
                self.assertContains(self.client.get(LIST), "cannot be read")
                self.assertEqual(self.client.get(f"{LIST}s-1/change/").status_code, 404)
                chosen = {"action": "cancel", "_selected_action": ["default/slow/s-1", "s-1"]}
                self.assertContains(self.client.post(LIST, chosen, follow=True), 'class="error"')

    def test_a_store_that_breaks_between_two_looks_is_told(self) -> None:
        places = (
            (WorkflowClient, "status"), (WorkflowClient, "outcome"), (WorkflowClient, "history"),
            (WorkflowClient, "cancel"), (WorkflowClient, "list_runs"), (WorkflowClient, "count_runs"),
            (Queue, "get_job"), (Queue, "list_queues"),
        )  # fmt: skip
        for (kind, name), error in itertools.product(places, (StorageError("it broke"), OSError("it broke"))):
            with mock.patch.object(kind, name, side_effect=error), self.subTest(name=name, error=error):
                self.assertEqual(self.client.get(LIST).status_code, 200)
                self.assertIn(self.client.get(f"{LIST}s-1/change/").status_code, (200, 404))
                self.assertIn(self.client.post(f"{LIST}s-1/cancel/").status_code, (302, 404))
                chosen = {"action": "cancel", "_selected_action": ["default/slow/s-1", "s-1"]}
                self.assertEqual(self.client.post(LIST, chosen).status_code, 302)

    def test_a_queue_of_bare_jobs_that_can_have_no_runs_is_left_out(self) -> None:
        stores().plain("default").enqueue("x" * 255, b"")
        self.assertEqual(self.runs(), ["s-1"])
        self.assertNotContains(self.client.get(LIST), 'class="error"')

    def test_the_projects_own_flows_are_looked_in_first(self) -> None:
        for queue_name in ("a-queue", "tasks-default", "slow"):
            WorkflowClient(stores().plain("default"), queue_name=queue_name).submit(input=b"", run_id="same")
        self.assertContains(self.client.get(f"{LIST}same/change/"), "?store=default&amp;queue=slow")


class RunTest(AdminCase):
    def setUp(self) -> None:
        self.client.force_login(User.objects.create_superuser("root", password="x"))

    def test_the_page_of_a_run_tells_what_happened(self) -> None:
        shaky.submit(Item("x"), run_id="r-1", headers={"who": "<script>alert(1)</script>"})
        answer = self.client.get(f"{LIST}r-1/", follow=True)
        text = answer.content.decode()
        for part in (
            "succeeded",
            "attempt 1 ended",
            "attempt 3 started",
            "not yet",
            "shaken",
            "&quot;name&quot;: &quot;x&quot;",
        ):
            self.assertIn(part, text)
        self.assertIn("&lt;script&gt;alert(1)&lt;/script&gt;", text)
        self.assertNotIn("<script>alert", text)

    def test_errors_are_escaped_in_the_list_and_on_the_page(self) -> None:
        shaky.submit(Item("never"), run_id="r-1")
        for url in (LIST, f"{LIST}r-1/change/"):
            text = self.client.get(url).content.decode()
            self.assertIn("&lt;b&gt;broken&lt;/b&gt;", text)
            self.assertNotIn("<b>broken", text)

    def test_a_long_input_is_cut_at_a_character_and_what_is_no_text_is_dumped(self) -> None:
        text, bytes_ = ("\u00e9" * 20_001).encode(), b"\xff\x00" * 9_000
        for data, seen in ((text, "\u00e9" * 16_384), (bytes_, "00000ff0")):
            client = WorkflowClient(stores().plain("default"), queue_name="raw")
            run_id = f"raw-{len(data)}"
            client.submit(run_id=run_id, input=data)
            answer = self.client.get(f"{LIST}{quote(run_id.replace('_', '_5F'))}/change/?store=default&queue=raw")
            page = unescape(answer.content.decode())
            self.assertIn(seen, page)
            self.assertIn(f"... {len(data)} bytes in all", page)
            self.assertNotIn("\ufffd", page)

    def test_an_unknown_run_is_404(self) -> None:
        for run_id in ("none", "no run", "x" * 200):
            self.assertEqual(self.client.get(f"{LIST}{run_id}/change/").status_code, 404)
            self.assertEqual(self.client.post(f"{LIST}{run_id}/cancel/").status_code, 404)

    def test_a_run_is_cancelled_with_a_reason_and_a_log_entry(self) -> None:
        slow.submit(Item("x"), run_id="r-1")
        page = self.client.get(f"{LIST}r-1/change/")
        url = unescape(re.search(r'action="([^"]*/cancel/[^"]*)"', page.content.decode())[1])  # type: ignore[index]
        answer = self.client.post(url, follow=True)
        self.assertContains(answer, "Run r-1: cancelled.")
        status = slow.client().status("r-1")
        self.assertEqual((status.state, status.error), (RunState.CANCELLED, "cancelled by root in the admin"))  # type: ignore[union-attr]
        entry = LogEntry.objects.get()
        self.assertEqual((entry.object_id, entry.user.username), ("r-1", "root"))
        self.assertEqual(entry.get_admin_url(), reverse("admin:taquba_run_change", args=["r-1"]))
        self.assertContains(self.client.post(url, follow=True), "nothing to cancel")

    def test_run_ids_with_underscores_are_led_to_by_every_link(self) -> None:
        for run_id in ("order_7", "a_5Fb", "a_b", "_", "a_2Fb"):
            slow.submit(Item("x"), run_id=run_id)
        text = self.client.get(LIST).content.decode()
        links = {name: url for url, name in re.findall(r'field-run_id"><a href="([^"]*)">([^<]*)</a>', text)}
        self.assertEqual(len(links), 5)
        for run_id, link in links.items():
            page = self.client.get(unescape(link))
            self.assertContains(page, f"<title>{run_id} |")
            url = unescape(re.search(r'action="([^"]*/cancel/[^"]*)"', page.content.decode())[1])  # type: ignore[index]
            self.assertContains(self.client.post(url, follow=True), f"Run {run_id}: cancelled.")
            entry = LogEntry.objects.get(object_id=run_id)
            self.assertContains(self.client.get(entry.get_admin_url()), f"<title>{run_id} |")
            # The admin's own shortcut, as older links and bookmarks have it.
            shortcut = entry.get_admin_url().replace("change/", "")
            self.assertContains(self.client.get(shortcut, follow=True), f"<title>{run_id} |")
        self.assertContains(self.client.get("/admin/"), "order_5F7")

    def test_a_failed_run_is_retried_and_a_dead_letter_requeued(self) -> None:
        for name in ("retry", "requeue"):
            handle = shaky.submit(Item("never"), run_id=f"r-{name}")
            self.assertEqual(handle.status().attempts, 1)  # type: ignore[union-attr]
            answer = self.client.post(f"{LIST}r-{name}/{name}/", follow=True)
            self.assertEqual(answer.status_code, 200)
            kinds = [str(event.kind) for event in shaky.client().history(f"r-{name}")]
            self.assertEqual(kinds.count("started"), 2)

    def test_many_are_cancelled_at_once(self) -> None:
        for number in range(3):
            slow.submit(Item("x"), run_id=f"m-{number}")
        text = self.client.get(LIST).content.decode()
        keys = re.findall(r'name="_selected_action" value="([^"]*)"', text)
        self.assertEqual(keys, ["default/slow/m-2", "default/slow/m-1", "default/slow/m-0"])
        answer = self.client.post(
            f"{LIST}?q=m", {"action": "cancel", "_selected_action": [*keys[:2], "m-9"]}, follow=True
        )
        self.assertContains(answer, "Run m-2: cancelled.")
        self.assertContains(answer, "There is no run")
        states = [slow.client().status(f"m-{number}").state for number in range(3)]  # type: ignore[union-attr]
        self.assertEqual(states, [RunState.PENDING, RunState.CANCELLED, RunState.CANCELLED])
        self.assertContains(self.client.post(LIST, {"action": "x"}, follow=True), "No action selected")
        self.assertContains(self.client.post(LIST, {"action": "cancel"}, follow=True), "Tick the runs first")

    def test_the_index_leads_to_the_list(self) -> None:
        self.assertContains(self.client.get("/admin/"), f'href="{LIST}"')
        self.assertEqual(reverse("admin:taquba_run_changelist"), LIST)


class MigrationTest(TransactionTestCase):
    def test_commands_that_go_through_every_model_find_nothing_in_it(self) -> None:
        from io import StringIO

        from django.core.management import call_command

        User.objects.create_user("somebody")
        for options in ({}, {"use_base_manager": True}):
            out = StringIO()
            call_command("dumpdata", stdout=out, **options)
            self.assertIn('"somebody"', out.getvalue())
            self.assertNotIn("taquba.run", out.getvalue())
        out = StringIO()
        call_command("dumpdata", "taquba.Run", stdout=out)
        self.assertEqual(out.getvalue().strip(), "[]")
        for command, options in (("flush", {"interactive": False}), ("sqlflush", {}), ("check", {})):
            call_command(command, stdout=StringIO(), **options)
        self.assertEqual(User.objects.count(), 0)
        entry = LogEntry(content_type=ContentType.objects.get_for_model(Run), object_id="r-1")
        with self.assertRaises(Run.DoesNotExist):
            entry.get_edited_object()

    def test_there_is_no_table_and_no_sql(self) -> None:
        from io import StringIO

        from django.core.management import call_command
        from django.db import connection

        out: Any = StringIO()
        call_command("sqlmigrate", "taquba", "0001", stdout=out, no_color=True)
        statements = [line for line in out.getvalue().splitlines() if not line.startswith(("--", "BEGIN;", "COMMIT;"))]
        self.assertEqual([line for line in statements if line.strip()], [])
        self.assertNotIn("taquba_run", connection.introspection.table_names())
        call_command("makemigrations", "--check", "--dry-run", "taquba", stdout=out)
