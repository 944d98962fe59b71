"""The management commands: what they hand over, and what they exit with."""

from __future__ import annotations

import json
import os
from io import StringIO
from typing import Any

from django.core.management import CommandError, call_command
from django.test import SimpleTestCase, override_settings

from taquba_workflow_sync.contrib.django.discovery import flows
from taquba_workflow_sync.contrib.django.stores import store, stores
from taquba_workflow_sync.contrib.django.test import own_stores
from tests.django.inside.extra import tasks
from tests.django.inside.extra.workflows import Item, elsewhere, shaky, slow


def called(name: str, *arguments: str, **options: Any) -> str:
    out = StringIO()
    call_command(name, *arguments, stdout=out, stderr=StringIO(), **options)
    return out.getvalue()


class CommandsTest(SimpleTestCase):
    def run(self, result: Any = None) -> Any:
        with own_stores():
            from django.conf import settings

            plain = {alias: {**each, "IMMEDIATE": False} for alias, each in settings.TAQUBA.items()}
            with override_settings(TAQUBA=plain):
                return super().run(result)

    def test_a_worker_without_a_target_serves_every_flow_and_the_tasks_of_every_store(self) -> None:
        shaky.submit(Item("never"), run_id="a")
        handle = elsewhere.submit(Item("x"), run_id="b")
        results = [tasks.note.enqueue(1), tasks.mail.enqueue("x"), tasks.anywhere.enqueue(1)]
        with self.assertRaises(CommandError) as caught:
            called("taquba_worker", "--until-idle")
        self.assertEqual(caught.exception.returncode, 3)  # a dead letter was made
        self.assertEqual(handle.result(timeout=30), "x")  # what was open stays open
        for result in results:
            result.refresh()
            self.assertTrue(result.is_finished)
        counts = json.loads(called("taquba_worker", until_idle=True, as_json=True, max_runtime="10s"))
        self.assertEqual((counts["steps"], counts["dead"]), (0, 1))

    def test_a_worker_serves_its_target_alone(self) -> None:
        shaky.submit(Item("never"), run_id="a")
        elsewhere.submit(Item("x"), run_id="b")
        out = called("taquba_worker", "tests.django.inside.extra.workflows:several", "--until-idle")
        self.assertIn("succeeded=1", out)
        self.assertEqual(shaky.client().status("a").attempts, 0)  # type: ignore[union-attr]
        self.assertNotIn("TAQUBA_DJANGO_TARGET", os.environ)

    def test_a_worker_serves_the_store_that_is_named(self) -> None:
        shaky.submit(Item("never"), run_id="a")
        elsewhere.submit(Item("x"), run_id="b")
        self.assertIn("succeeded=1 failed=0", called("taquba_worker", "--using", "other", "--until-idle"))

    def test_what_is_no_target_is_told(self) -> None:
        for target in ("tests.django.inside.extra.workflows:Item", "no.such:thing", "tests.django.inside.extra:none"):
            with self.assertRaisesRegex(CommandError, "is no target|cannot import") as caught:
                called("taquba_worker", target, "--until-idle")
            self.assertEqual(caught.exception.returncode, 1)

    def test_runs_are_listed_and_shown_without_saying_the_queue(self) -> None:
        slow.submit(Item("x"), run_id="s-1")
        shaky.submit(Item("x"), run_id="k-1")
        lines = [json.loads(line) for line in called("taquba_runs", "list", "--json").splitlines()]
        self.assertEqual({line["run_id"] for line in lines}, {"s-1", "k-1"})
        self.assertIn("s-1", called("taquba_runs", "list", "--queue", "slow"))
        self.assertNotIn("k-1", called("taquba_runs", "list", "--queue=slow"))
        self.assertEqual(json.loads(called("taquba_runs", "show", "k-1", "--json"))["run_id"], "k-1")
        called("taquba_runs", "cancel", "s-1", "--yes")
        self.assertEqual(slow.client().status("s-1").state, "cancelled")  # type: ignore[union-attr]
        with self.assertRaises(CommandError) as caught:
            called("taquba_runs", "show", "nobody")
        self.assertEqual(caught.exception.returncode, 4)

    def test_what_names_no_run_wants_a_queue_to_be_said_where_there_are_several(self) -> None:
        slow.submit(Item("x"), run_id="s-1")
        shaky.submit(Item("x"), run_id="k-1")
        for arguments in (
            ("runs", "cancel", "--state", "pending", "--yes"),
            ("runs", "cancel", "--prefix", "s-1", "--yes"),
            ("runs", "cancel", "--all", "--yes"),
            ("runs", "retry", "--failed-with", "k-1", "--yes"),
            ("dead", "requeue", "--parent", "s-1", "--yes"),
            ("dead", "drop", "--all", "--yes"),
        ):
            with self.assertRaisesRegex(CommandError, "several queues: say --queue, one of .*slow") as caught:
                called(f"taquba_{arguments[0]}", *arguments[1:])
            self.assertEqual(caught.exception.returncode, 2)
        states = {slow.client().status("s-1").state, shaky.client().status("k-1").state}  # type: ignore[union-attr]
        self.assertEqual(states, {"pending"})
        self.assertIn("cancelled 1", called("taquba_runs", "cancel", "--all", "--yes", "--queue", "slow"))
        self.assertIn("cancelled 1", called("taquba_runs", "cancel", "--all", "--yes", queue_name="shaky"))

    def test_what_names_no_run_acts_on_the_queue_where_there_is_one(self) -> None:
        elsewhere.submit(Item("x"), run_id="b-1")
        before = list(flows())
        try:
            flows()[:] = [elsewhere]
            with self.settings(TASKS={}):
                out = called("taquba_runs", "cancel", "--state", "pending", "--yes", using="other")
        finally:
            flows()[:] = before
        self.assertIn("cancelled 1", out)

    def test_values_of_options_are_no_names_of_runs(self) -> None:
        slow.submit(Item("x"), run_id="pending")
        shaky.submit(Item("x"), run_id="k-1")
        shaky.submit(Item("x"), run_id="-k")
        called("taquba_runs", "cancel", "--reason", "pending", "k-1")
        self.assertEqual(shaky.client().status("k-1").error, "pending")  # type: ignore[union-attr]
        self.assertEqual(slow.client().status("pending").state, "pending")  # type: ignore[union-attr]
        called("taquba_runs", "cancel", "--reason", "--help", "--", "-k")
        self.assertEqual(shaky.client().status("-k").error, "--help")  # type: ignore[union-attr]

    def test_names_of_runs_of_several_queues_are_told_apart(self) -> None:
        slow.submit(Item("x"), run_id="s-1")
        shaky.submit(Item("x"), run_id="k-1")
        with self.assertRaisesRegex(CommandError, "s-1 is of queue slow, k-1 is of queue shaky") as caught:
            called("taquba_runs", "cancel", "s-1", "k-1")
        self.assertEqual(caught.exception.returncode, 2)
        self.assertEqual(slow.client().status("s-1").state, "pending")  # type: ignore[union-attr]

    def test_a_project_without_flows_and_tasks_has_its_commands(self) -> None:
        store().kv.put("a", b"")
        before = list(flows())
        flows().clear()
        try:
            with self.settings(TASKS={}):
                self.assertEqual(called("taquba_runs", "list"), "")
                self.assertIn("cancelled 0", called("taquba_runs", "cancel", "--all", "--yes"))
                for name in ("runs", "dead"):
                    with self.assertRaises(CommandError) as caught:
                        called(f"taquba_{name}", "show", "nobody")
                    self.assertEqual(caught.exception.returncode, 4)
        finally:
            flows().extend(before)

    def test_a_queue_of_bare_jobs_that_can_have_no_runs_is_in_nobodys_way(self) -> None:
        store().enqueue("x" * 255, b"")
        shaky.submit(Item("x"), run_id="k-1")
        self.assertIn("k-1", called("taquba_runs", "show", "k-1"))
        self.assertIn("k-1", called("taquba_runs", "list"))

    def test_a_value_of_an_option_is_no_target(self) -> None:
        with self.assertRaises(CommandError) as caught:
            called("taquba_worker", "--until-idle", "--queue", "json:loads")
        self.assertNotIn("no target", str(caught.exception))
        with self.assertRaisesRegex(CommandError, "'orders' names no target; write MODULE:NAME"):
            called("taquba_worker", "--until-idle", "orders")

    def test_other_stores_are_named_by_their_alias(self) -> None:
        elsewhere.submit(Item("x"), run_id="b-1")
        self.assertIn("b-1", called("taquba_runs", "list", using="other"))
        self.assertIn("b-1", called("taquba_runs", "--using", "other", "list"))
        self.assertIn("b-1", called("taquba_runs", "list", "--using=other"))
        with self.assertRaises(CommandError) as caught:
            called("taquba_runs", "list", "--using", "none")
        self.assertEqual(caught.exception.returncode, 2)

    def test_health_and_dead_letters_hand_over(self) -> None:
        store()
        self.assertIn("healthy", called("taquba_health"))
        shaky.submit(Item("never"), run_id="a")
        with self.assertRaises(CommandError):
            called("taquba_worker", "--until-idle", "--using", "default")
        with self.assertRaises(CommandError) as caught:
            called("taquba_health")
        self.assertEqual(caught.exception.returncode, 3)
        self.assertIn("a", called("taquba_dead", "list"))
        called("taquba_dead", "requeue", "a", "--yes")
        self.assertEqual(shaky.client().status("a").state, "pending")  # type: ignore[union-attr]

    def test_looking_makes_no_store(self) -> None:
        with self.assertRaises(CommandError) as caught:
            called("taquba_health")
        self.assertEqual(caught.exception.returncode, 4)
        self.assertEqual(stores()._open, {})

    def test_help_is_that_of_the_command_line(self) -> None:
        self.assertIn("--until-idle", called("taquba_worker", "--help"))
        self.assertIn("Options:", called("taquba_runs", "list", "--help"))

    def test_there_is_something_to_serve_or_it_is_said(self) -> None:
        before = list(flows())
        flows().clear()
        try:
            with self.settings(TASKS={}), self.assertRaises(CommandError) as caught:
                called("taquba_worker", "--until-idle")
        finally:
            flows().extend(before)
        self.assertEqual(caught.exception.returncode, 1)
