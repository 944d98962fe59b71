"""A session ended before each statement that a run's life takes: a failed call is transient, and nothing is lost."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from taquba_workflow_sync import Continue, Queue, RunSpec, Step, StepOutcome, Succeed, WorkflowClient, WorkflowRuntime
from taquba_workflow_sync.errors import StorageError
from taquba_workflow_sync.storage.postgres.sessions import Session
from tests.faults.checker import check
from tests.faults.server.copy import split_url
from tests.faults.server.scene import until_it_works
from tests.postgres import clear_stores, store_url

pytestmark = [pytest.mark.soak, pytest.mark.timeout(400)]


class _Ender:
    """Ends the session that is about to run the ``number``-th statement of the process, once."""

    def __init__(self, url: str) -> None:
        self._admin = psycopg.connect(split_url(url)[0], autocommit=True)
        self._counting = threading.Lock()
        self.left: int | None = None
        self.seen = 0

    def about_to_run(self, session: Session) -> None:
        with self._counting:
            if self.left is None:
                return
            self.seen += 1
            self.left -= 1
            if self.left != 0:
                return
        self._admin.execute("SELECT pg_terminate_backend(%s, 5000)", (session.raw.info.backend_pid,))

    def close(self) -> None:
        self._admin.close()


@pytest.fixture
def url() -> str:
    return store_url()


@pytest.fixture
def ender(url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    ender = _Ender(url)
    for name in ("_execute", "run"):
        original: Callable[..., Any] = getattr(Session, name)

        def ran(self: Session, *args: Any, _original: Callable[..., Any] = original) -> Any:
            ender.about_to_run(self)
            return _original(self, *args)

        monkeypatch.setattr(Session, name, ran)
    yield ender
    ender.close()


def _two_steps(step: Step) -> StepOutcome:
    return Continue(b"on") if step.step_number == 0 else Succeed(step.payload)


def _life_of_a_run(url: str, run_id: str) -> None:
    with Queue.open(url) as queue:
        client = WorkflowClient(queue)
        until_it_works(lambda: client.submit(RunSpec(run_id=run_id)))
        runtime = WorkflowRuntime(queue, _two_steps)
        until_it_works(lambda: runtime.run_until_idle(20, wait_for_scheduled=5))
        assert until_it_works(lambda: client.wait(run_id, timeout=20).result) == b"on"  # type: ignore[attr-defined]


def test_a_session_that_is_ended_at_any_statement_costs_at_most_a_transient_error(url: str, ender: _Ender) -> None:
    _life_of_a_run(url, "warm")
    for number in itertools.count(1):
        clear_stores([url])
        ender.left, ender.seen = number, 0
        try:
            _life_of_a_run(url, "r")
        except StorageError as error:
            assert not error.is_permanent  # of the open, which nothing here tries again
            ender.left = None
            _life_of_a_run(url, "r")
        is_past_the_end = ender.left is not None and ender.left > 0
        ender.left = None
        check(url, [], is_idle=True).assert_clean()
        if is_past_the_end:
            break
    assert number > 30
