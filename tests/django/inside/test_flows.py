"""Flows found, bound, submitted on commit, repaired, and run in a test."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test import TestCase, override_settings
from django.utils import timezone
from shop.models import Order
from shop.workflows import Placed, orders

from taquba_workflow_sync import Effects, InvalidRunIdError, PayloadTooLargeError, RunState
from taquba_workflow_sync.contrib.django import store, submit_on_commit, with_connections
from taquba_workflow_sync.contrib.django.discovery import flows
from taquba_workflow_sync.contrib.django.stores import stores
from taquba_workflow_sync.contrib.django.test import OwnStore, TaqubaTestCase, own_stores
from taquba_workflow_sync.contrib.django.worker import runtime
from tests.django.inside.extra.workflows import ROWS, SEEN, Item, elsewhere, shaky, slow


def kinds() -> list[Any]:
    return [each[0] for each in SEEN if isinstance(each, tuple)]


class FoundTest(TestCase):
    def test_flows_of_every_workflows_py_are_found_once_and_bound(self) -> None:
        self.assertEqual({flow.name for flow in flows()}, {"orders", "slow", "shaky", "elsewhere"})
        self.assertEqual(len(flows()), 4)

    def test_nothing_is_opened_before_it_is_used(self) -> None:
        with own_stores():
            self.assertEqual(stores()._open, {})
            orders.client()
            self.assertEqual(list(stores()._open), ["default"])
            self.assertEqual(elsewhere.client().queue.path, store("other").path)
            self.assertEqual(sorted(stores()._open), ["default", "other"])


class OnCommitTest(TaqubaTestCase):
    def test_a_run_is_submitted_once_the_transaction_is_committed(self) -> None:
        with self.captureOnCommitCallbacks(execute=True):
            order = Order.objects.create(email="a@b.c", item="lamp", cents=1)
            self.assertEqual(submit_on_commit(orders, Placed(order.pk), run_id="o-1", priority=5), "o-1")
            self.assertIsNone(orders.client().status("o-1"))
        self.assertEqual(orders.handle("o-1").result(timeout=30), f"parcel-{order.pk}")

    def test_what_is_rolled_back_is_not_submitted(self) -> None:
        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            with suppress(KeyError), transaction.atomic():
                submit_on_commit(orders, Placed(1), run_id="o-2")
                raise KeyError
        self.assertEqual(callbacks, [])
        self.assertIsNone(orders.client().status("o-2"))

    def test_what_does_not_fit_is_an_error_before_the_commit(self) -> None:
        with self.captureOnCommitCallbacks() as callbacks:
            with self.assertRaisesRegex(TypeError, "order_id"):
                submit_on_commit(orders, Placed("x"), run_id="o-3")  # type: ignore[arg-type]  # that is the test
            with self.assertRaises(InvalidRunIdError):
                submit_on_commit(orders, Placed(1), run_id="o 3")
            with self.assertRaisesRegex(TypeError, "run_id must be a str"):
                submit_on_commit(orders, Placed(1), run_id=None)  # type: ignore[arg-type]  # that is the test
            with self.assertRaises(TypeError):
                submit_on_commit(orders, Placed(1))  # type: ignore[call-arg]  # a run id is demanded
            with self.assertRaisesRegex(TypeError, "must be a Flow"):
                submit_on_commit("orders", Placed(1), run_id="o-3")  # type: ignore[arg-type]  # that is the test
        self.assertEqual(callbacks, [])

    def test_what_is_too_large_for_the_store_is_an_error_before_the_commit(self) -> None:
        effects = Effects()
        effects.submit(orders.spec(Placed(1)), queue_name="orders")
        effects.enqueue("letters", b"x" * 200)
        small = {alias: {**each, "MAX_PAYLOAD_BYTES": 100} for alias, each in settings.TAQUBA.items()}
        with self.captureOnCommitCallbacks() as callbacks, self.settings(TAQUBA=small):
            with self.assertRaisesRegex(PayloadTooLargeError, "input has 2.. bytes, the limit is 100"):
                submit_on_commit(shaky, Item("x" * 200), run_id="o-4")
            with self.assertRaisesRegex(PayloadTooLargeError, "payload has 200 bytes, the limit is 100"):
                submit_on_commit(shaky, Item("x"), run_id="o-4", effects=effects)
            with self.assertRaises(TypeError):
                submit_on_commit(shaky, Item("x"), run_id="o-4", effects=7)  # type: ignore[arg-type]  # that is the test
            submit_on_commit(shaky, Item("x"), run_id="o-4")
        self.assertEqual(len(callbacks), 1)


class RepairTest(TaqubaTestCase):
    def tearDown(self) -> None:
        ROWS.clear()

    def repair(self, *arguments: str) -> str:
        out = StringIO()
        call_command("taquba_repair", *arguments, stdout=out, stderr=out)
        return out.getvalue()

    def test_only_what_is_missing_is_submitted(self) -> None:
        shaky.submit(Item("here"), run_id="row-1")
        ROWS[:] = [("row-1", Item("here")), ("row-2", Item("gone")), ("row-3", Item("gone"))]
        self.assertEqual(self.repair("--dry-run"), "shaky row-2\nshaky row-3\n2 missing\n")
        self.assertIsNone(shaky.client().status("row-2"))
        self.assertEqual(self.repair(), "shaky row-2\nshaky row-3\n2 submitted\n")
        self.assertEqual(shaky.handle("row-2").result(timeout=30), "shaken")
        self.assertEqual(self.repair("--json"), "")
        self.assertEqual(self.repair("slow"), "0 submitted\n")

    def test_a_run_is_submitted_with_the_fields_that_are_yielded(self) -> None:
        ROWS[:] = [("row-5", Item("gone"), {"priority": 7, "headers": {"who": "me"}})]
        self.repair()
        status = shaky.client().status("row-5")
        assert status is not None
        job = store().get_job(status.job_id)
        assert job is not None
        self.assertEqual((job.priority, status.headers["who"]), (7, "me"))

    def test_whatever_is_wrong_with_one_the_others_and_the_other_flows_are_repaired(self) -> None:
        class Broken:
            @property
            def name(self) -> str:
                raise LookupError("broken")

        def failing() -> Iterator[Any]:
            yield "bad-1", Item("x")
            raise ZeroDivisionError("a row that is none")

        class Untold(Exception):
            def __str__(self) -> str:
                raise ValueError

        def untold() -> Iterator[Any]:
            raise Untold

        ROWS[:] = [
            ("row-6",), 7, None, ("row-7", Broken()), ("row-8", Item("x"), {"no_field": 1}), ("row-8", Item("x"), 5),
            (None, Item("x")), (["a"], Item("x")), ("row-9", Item("x"), {"run_id": "other"}), ("row-10", Item("x")),
        ]  # fmt: skip
        with mock.patch.object(slow, "find_missing", failing), mock.patch.object(elsewhere, "find_missing", untold):
            out = StringIO()
            with self.assertRaisesRegex(CommandError, "11 could not be submitted") as caught:
                call_command("taquba_repair", "slow", "elsewhere", "shaky", stdout=out, stderr=out)
            self.assertEqual(caught.exception.returncode, 3)
        told = out.getvalue()
        self.assertIn("slow bad-1\n", told)
        self.assertIn("slow: ZeroDivisionError: a row that is none\n", told)
        self.assertIn("elsewhere: Untold\n", told)
        self.assertIn("shaky row-8: TypeError", told)
        self.assertIn("shaky row-10\n", told)
        self.assertTrue(told.endswith("2 submitted, 11 failed\n"), told)
        self.assertIsNone(shaky.client().status("row-8"))

    def test_a_flow_whose_store_cannot_be_opened_does_not_keep_the_others(self) -> None:
        ROWS[:] = [("row-11", Item("x"))]
        broken = {**settings.TAQUBA, "other": {"STORE": "/proc/nothing/here"}}
        with self.settings(TAQUBA=broken), mock.patch.object(elsewhere, "find_missing", list):
            out = StringIO()
            with self.assertRaises(CommandError):
                call_command("taquba_repair", stdout=out, stderr=out)
            self.assertIn("shaky row-11\n", out.getvalue())

    def test_one_that_cannot_be_submitted_does_not_keep_the_others(self) -> None:
        ROWS[:] = [("not a name", Item("x")), ("row-4", Item("x"))]
        with self.assertRaisesRegex(CommandError, "1 could not be submitted"):
            self.repair()
        self.assertIsNotNone(shaky.client().status("row-4"))
        with self.assertRaisesRegex(CommandError, "there is no flow 'none'") as caught:
            self.repair("none")
        self.assertEqual(caught.exception.returncode, 4)


class ImmediateTest(TaqubaTestCase):
    def setUp(self) -> None:
        SEEN.clear()

    def test_steps_run_in_the_thread_and_the_transaction_of_the_test(self) -> None:
        with mock.patch("django.db.close_old_connections") as closed:
            self.assertEqual(shaky.submit(Item("x"), run_id="s-1").result(timeout=30), "shaken")
        here = threading.get_ident()
        self.assertEqual(SEEN, [("shake", 1, here, True), ("shake", 2, here, True), ("shake", 3, here, True)])
        closed.assert_not_called()
        self.assertTrue(connection.in_atomic_block)

    def test_waits_end_when_the_test_says_so(self) -> None:
        handle = slow.submit(Item("x"), run_id="s-2")
        self.assertEqual(kinds(), ["begin"])
        self.assertEqual(self.wake_runs(), 1)
        self.assertEqual(kinds(), ["begin", "wait"])
        self.assertEqual(handle.status().waiting_for, "signal:go")  # type: ignore[union-attr]  # it is there
        slow.signal("s-2", "go")
        self.assertEqual(handle.result(timeout=30), "x ended")
        self.assertEqual(SEEN[-1], ("ended", threading.get_ident()))

    def test_the_end_of_a_cancelled_run_is_told_before_the_call_returns(self) -> None:
        client = slow.client()
        calls: list[Callable[[], object]] = [
            lambda: client.cancel("s-0"),
            lambda: slow.handle("s-1").cancel(),
            lambda: client.cancel_many(prefix="s-2"),
            lambda: client.group("g").cancel(),
        ]
        for number in range(3):
            slow.submit(Item("x"), run_id=f"s-{number}")
        slow.submit_group("g", [Item("x")])
        for number, cancel in enumerate(calls, 1):
            cancel()
            self.assertEqual(kinds().count("ended"), number)

    def test_what_makes_room_has_the_steps_done_before_the_call_returns(self) -> None:
        client = shaky.client()
        client.pause()
        handle = shaky.submit(Item("x"), run_id="p-1")
        self.assertEqual(kinds(), [])
        client.resume()
        self.assertEqual(handle.result(timeout=0), "shaken")
        elsewhere.client().set_limit(rate=(1, 3600))
        handles = [elsewhere.submit(Item(str(number))) for number in range(3)]
        self.assertEqual(kinds().count("there"), 1)
        elsewhere.client().set_limit(rate=(2, 3600))
        self.assertEqual(kinds().count("there"), 2)
        elsewhere.client().clear_limit()
        self.assertEqual([each.result(timeout=0) for each in handles], ["0", "1", "2"])

    def test_a_schedule_that_is_triggered_has_run_before_the_call_returns(self) -> None:
        shaky.schedule("hourly", Item("x"), every=timedelta(hours=1))
        run_id = shaky.client().trigger("hourly")
        self.assertEqual(shaky.handle(run_id).result(timeout=0), "shaken")

    def test_a_step_that_submits_to_another_store_finds_it_done_and_to_its_own_goes_on(self) -> None:
        handle = shaky.submit(Item("there"), run_id="away")
        self.assertEqual(handle.result(timeout=0), "back")
        self.assertEqual(shaky.handle("back").result(timeout=0), "shaken")
        self.assertEqual(kinds(), ["shake", "there", "shake", "shake", "shake"])
        here = {each[2] for each in SEEN if isinstance(each, tuple) and each[0] == "shake"}
        self.assertEqual(here, {threading.get_ident()})

    def test_backoffs_are_skipped_behind_many_runs_that_wait(self) -> None:
        queue = stores().plain("default")
        later = timezone.now() + timedelta(hours=1)
        shaky.client(queue).submit_many([shaky.spec(Item("x"), run_id=f"w-{n}", run_at=later) for n in range(120)])
        self.assertEqual(shaky.submit(Item("x"), run_id="s-9").result(timeout=0), "shaken")

    def test_each_test_has_a_store_of_its_own(self) -> None:
        self.assertIsNone(slow.client().status("s-2"))
        self.assertIsNone(shaky.client().status("s-1"))
        self.assertEqual(slow.client().list_runs().runs, [])

    def test_a_failure_is_a_failed_run(self) -> None:
        self.assertEqual(shaky.submit(Item("never")).status().state, RunState.FAILED)  # type: ignore[union-attr]

    def test_an_interrupt_reaches_the_test(self) -> None:
        with mock.patch.object(shaky._definition.first, "run", side_effect=KeyboardInterrupt("stop")):
            with self.assertRaises(KeyboardInterrupt):
                shaky.submit(Item("x"), run_id="s-3")
        self.assertEqual(shaky.client().status("s-3").state, RunState.FAILED)  # type: ignore[union-attr]


class WorkerTest(OwnStore, TestCase):
    """Without immediate mode: what a worker does, in threads of its own."""

    def run(self, result: Any = None) -> Any:
        return TestCase.run(self, result)

    def test_connections_are_looked_after_around_every_step(self) -> None:
        SEEN.clear()
        name = "django.db.close_old_connections"
        with override_settings(TAQUBA=_plain(self)), mock.patch(name) as closed:
            shaky.submit(Item("never"), run_id="w-1")
            elsewhere.submit(Item("far"), run_id="w-2")
            counts = runtime().run_until_idle()
            self.assertEqual((counts.steps, counts.failed, counts.succeeded), (2, 1, 1))
            self.assertEqual(closed.call_count, 4)
        self.assertEqual(kinds(), ["shake", "there"])

    def test_a_step_that_raises_is_looked_after_too(self) -> None:
        name = "django.db.close_old_connections"
        with mock.patch(name) as closed:
            with pytest.raises(ZeroDivisionError):
                with_connections(lambda: 1 / 0)()
        assert closed.call_count == 2


def _plain(test: TestCase) -> dict[str, Any]:
    import tempfile

    directory = tempfile.mkdtemp()
    return {alias: {"STORE": Path(directory) / alias, "DURABILITY": "relaxed"} for alias in ("default", "other")}


def test_a_store_that_is_open_serves_a_forked_child(tmp_path: Path) -> None:
    with override_settings(TAQUBA={"default": {"STORE": tmp_path / "s", "DURABILITY": "relaxed"}}):
        slow.submit(Item("parent"), run_id="parent")
        # The child finds the lock held by a thread that it has not.
        with stores()._lock:
            child = os.fork()
            if child == 0:
                try:
                    slow.submit(Item("child"), run_id="child")
                    os._exit(0)
                except BaseException:
                    os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert {run.run_id for run in slow.client().list_runs().runs} == {"parent", "child"}
