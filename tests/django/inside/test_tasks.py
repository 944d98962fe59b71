"""The backend of tasks: what is stored, how it is run, and what comes of it."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import pytest
from django.test import SimpleTestCase, override_settings
from django.utils import timezone

from taquba_workflow_sync import WorkflowClient
from taquba_workflow_sync.contrib.django.stores import stores
from taquba_workflow_sync.contrib.django.task_call import TaskCall
from taquba_workflow_sync.contrib.django.tasks_compat import (
    InvalidTask,
    TaskResultDoesNotExist,
    TaskResultStatus,
    task_backends,
    task_enqueued,
    task_finished,
    task_started,
)
from taquba_workflow_sync.contrib.django.test import OwnStore, own_stores
from taquba_workflow_sync.contrib.django.worker import runtime
from tests.django.inside.extra import tasks


class TasksTest(SimpleTestCase):
    def run(self, result: Any = None) -> Any:
        with own_stores():
            given = self.settings_of_stores()
            with override_settings(TAQUBA=given):
                tasks.SEEN.clear()
                return super().run(result)

    def settings_of_stores(self) -> dict[str, Any]:
        from django.conf import settings

        return {alias: {**each, "IMMEDIATE": False} for alias, each in settings.TAQUBA.items()}

    def test_a_task_waits_for_a_worker_and_gives_its_result(self) -> None:
        result = tasks.note.enqueue({"a": [1, None, "ü"]})
        assert result.status == TaskResultStatus.READY
        assert (result.started_at, result.finished_at, result.attempts) == (None, None, 0)
        assert runtime().run_until_idle().succeeded == 1
        result.refresh()
        assert result.status == TaskResultStatus.SUCCESSFUL
        assert result.return_value == {"a": [1, None, "ü"]}
        assert result.attempts == 1
        assert result.enqueued_at <= result.started_at <= result.finished_at
        assert all(each.microsecond % 1000 == 0 for each in (result.enqueued_at, result.started_at, result.finished_at))
        assert dataclasses.asdict(tasks.note.get_result(result.id)) == dataclasses.asdict(result)

    def test_a_task_that_raises_has_failed_at_once(self) -> None:
        result = tasks.fail.enqueue("boo")
        with self.assertLogs("django.tasks" if _has_django_tasks() else "django_tasks", "ERROR"):
            counts = runtime().run_until_idle()
        assert (counts.failed, counts.steps, counts.dead) == (1, 1, 0)
        result.refresh()
        assert result.status == TaskResultStatus.FAILED
        assert result.errors[0].exception_class is LookupError
        assert result.errors[0].traceback.endswith("LookupError: boo\n")
        with pytest.raises(ValueError, match="Task failed"):
            _ = result.return_value

    def test_an_error_that_cannot_be_told_is_told_all_the_same(self) -> None:
        results = [tasks.fail.enqueue("\ud800 lone"), tasks.stop.enqueue()]
        with self.assertLogs("django.tasks" if _has_django_tasks() else "django_tasks", "ERROR"):
            assert runtime().run_until_idle().failed == 2
        for result in results:
            result.refresh()
            assert result.status == TaskResultStatus.FAILED and result.attempts == 1 and result.errors

    def test_priorities_are_those_of_the_store(self) -> None:
        for priority, stored in ((100, 100), (0, 1000), (-100, 1900), (10, 910)):
            result = tasks.note.using(priority=priority).enqueue(priority)
            assert _job(result.id).priority == stored
        worker = runtime()
        worker.resize(1)
        worker.run_until_idle()
        assert tasks.SEEN == [100, 10, 0, -100]

    def test_a_deferred_task_waits(self) -> None:
        moment = timezone.now() + timedelta(hours=1)
        result = tasks.note.using(run_after=moment).enqueue(1)
        assert runtime().run_until_idle().steps == 0
        assert result.task.run_after == moment
        assert tasks.note.get_result(result.id) == result
        assert abs(_job(result.id).run_at - moment) < timedelta(milliseconds=1)
        WorkflowClient(stores().plain("default"), queue_name="tasks-default").wake(result.id)
        assert runtime().run_until_idle().succeeded == 1

    def test_each_queue_is_one_of_the_store_unless_any_name_goes(self) -> None:
        mail, note, anywhere = tasks.mail.enqueue("a@b.c"), tasks.note.enqueue(1), tasks.anywhere.enqueue(1)
        assert stores().plain("default").list_queues() == ["tasks-default", "tasks-mails"]
        assert stores().plain("other").list_queues() == ["tasks"]
        assert runtime().run_until_idle().succeeded == 3
        for result in (mail, note, anywhere):
            result.refresh()
            assert result.status == TaskResultStatus.SUCCESSFUL
        assert anywhere.return_value == 2
        assert anywhere.task.queue_name == "whatever it is called"

    def test_an_immediate_task_runs_before_enqueue_returns(self) -> None:
        result = tasks.now.enqueue(5)
        assert (result.status, result.return_value, tasks.SEEN) == (TaskResultStatus.SUCCESSFUL, 5, [5])
        assert tasks.now.get_result(result.id) == result
        later = tasks.now.using(run_after=timezone.now() + timedelta(days=1)).enqueue(6)
        assert later.status == TaskResultStatus.READY

    def test_signals_are_sent_at_each_turn(self) -> None:
        told: list[Any] = []

        def hear(signal: Any, task_result: Any, **_: Any) -> None:
            told.append((task_result.id, task_result.status))

        for signal in (task_enqueued, task_started, task_finished):
            signal.connect(hear)
        try:
            result = tasks.note.enqueue(1)
            runtime().run_until_idle()
        finally:
            for signal in (task_enqueued, task_started, task_finished):
                signal.disconnect(hear)
        states = [TaskResultStatus.READY, TaskResultStatus.RUNNING, TaskResultStatus.SUCCESSFUL]
        assert told == [(result.id, state) for state in states]

    def test_a_receiver_that_raises_changes_nothing_for_the_task_and_is_logged(self) -> None:
        def breaks(signal: Any, task_result: Any, **_: Any) -> None:
            raise ZeroDivisionError("a receiver's own")

        for signal in (task_enqueued, task_started, task_finished):
            signal.connect(breaks)
        try:
            with (
                self.assertLogs("django.dispatch", "ERROR") as logged,
                self.assertNoLogs("taquba_workflow_sync", "WARNING"),
            ):
                note, fail = tasks.note.enqueue(1), tasks.fail.enqueue("boo")
                counts = runtime().run_until_idle()
        finally:
            for signal in (task_enqueued, task_started, task_finished):
                signal.disconnect(breaks)
        assert (counts.steps, counts.succeeded, counts.failed) == (2, 1, 1)
        assert tasks.SEEN == [1]
        assert len(logged.records) == 6 and "a receiver's own" in logged.output[0]
        for result, status in ((note, TaskResultStatus.SUCCESSFUL), (fail, TaskResultStatus.FAILED)):
            result.refresh()
            assert (result.status, result.attempts) == (status, 1)

    def test_of_a_long_traceback_the_end_is_kept(self) -> None:
        result = tasks.fail.enqueue("\x00" * 200_000 + "the end")
        with self.assertLogs("django.tasks" if _has_django_tasks() else "django_tasks", "ERROR"):
            assert runtime().run_until_idle().steps == 1
        result.refresh()
        assert (result.status, result.attempts, result.errors[0].exception_class) == (
            TaskResultStatus.FAILED, 1, LookupError,
        )  # fmt: skip
        assert result.errors[0].traceback.endswith("the end\n") and len(result.errors[0].traceback) == 65_536

    def test_what_json_cannot_hold_is_refused_and_nothing_written(self) -> None:
        with pytest.raises(TypeError, match="Unsupported type"):
            tasks.note.enqueue(object())
        assert stores().plain("default").list_queues() == []

    def test_a_queue_that_cannot_be_stored_is_an_invalid_task(self) -> None:
        backend = task_backends["default"]
        before = set(backend.queues)
        backend.queues.add("x" * 300)
        try:
            with pytest.raises(InvalidTask, match="cannot be stored"):
                tasks.note.using(queue_name="x" * 300)
        finally:
            backend.queues.clear()
            backend.queues.update(before)

    def test_ids_that_name_no_task_are_told(self) -> None:
        for wrong in ("123", "no id at all", "", None, 7):
            with pytest.raises(TaskResultDoesNotExist):
                task_backends["default"].get_result(wrong)

    def test_queues_of_bare_jobs_are_in_no_results_way(self) -> None:
        for name in (f"tasks-{'a' * 249}", "tasks-a.terminal"):
            stores().plain("default").enqueue(name, b"")
        result = tasks.note.enqueue(1)
        assert task_backends["default"].get_result(result.id) == result

    def test_a_task_that_is_gone_fails_after_its_claims(self) -> None:
        queue = stores().plain("default")
        call = TaskCall("tests.django.inside.extra.tasks.gone", [], {}, "default", "default", 0, None)
        client = WorkflowClient(queue, queue_name="tasks-default")
        handle = client.submit(input=call.encode(), run_id="gone", max_attempts_per_step=2, backoff=(0, 0))
        runtime().run_until_idle()
        outcome = handle.wait(30)
        assert outcome.status == "failed" and "tasks.gone is not there" in (outcome.error or "")


class InTestCaseTest(OwnStore, SimpleTestCase):
    def test_tasks_of_a_test_with_a_store_of_its_own_run_at_once(self) -> None:
        assert tasks.note.enqueue(9).return_value == 9


def _job(run_id: str) -> Any:
    queue = stores().plain("default")
    status = WorkflowClient(queue, queue_name="tasks-default").status(run_id)
    assert status is not None
    return queue.get_job(status.job_id)


def _has_django_tasks() -> bool:
    import django

    return django.VERSION >= (6, 0)
