"""Killed at every fault point there is: a transition happened wholly or not at all, and the work goes to its end."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from taquba_workflow_sync import Queue, QueueConfig, WorkflowRuntime, run_worker
from taquba_workflow_sync.storage.port.transitions import TRANSITIONS
from taquba_workflow_sync.storage.relational.sql.effects import REFUSAL
from taquba_workflow_sync.storage.relational.sql.event import EVENT
from taquba_workflow_sync.storage.relational.sql.garbage import GARBAGE
from taquba_workflow_sync.storage.relational.sql.kv import KV
from taquba_workflow_sync.storage.relational.sql.limit import LIMIT, RATE, RATED
from taquba_workflow_sync.storage.relational.sql.memo import MEMO, MEMO_SCOPE
from taquba_workflow_sync.storage.relational.sql.meter import METER
from taquba_workflow_sync.storage.relational.sql.names import ATTEMPT, CHILD, GROUP, JOB, MEMBER, PARENT, QUEUE
from taquba_workflow_sync.storage.relational.sql.owner import OWNER
from taquba_workflow_sync.storage.relational.sql.progress import PROGRESS
from taquba_workflow_sync.storage.relational.sql.schedule import SCHEDULE, SCHEDULE_SPEC
from taquba_workflow_sync.storage.relational.sql.settings import SETTINGS
from taquba_workflow_sync.storage.relational.sql.signals import MAILBOX, SIGNAL, SIGNAL_ID, WAIT
from taquba_workflow_sync.storage.relational.sql.timing import TIMING
from taquba_workflow_sync.storage.relational.sql.trace import TRACE
from tests.faults import crash
from tests.faults.checker import check, looking_at
from tests.faults.journal import Journal, read
from tests.faults.lab import LabRunner, hook_of
from tests.processes.harness import ROOT

# What differs between two stores that went the same way: when, by whom, and the random part of tokens and ids.
_VARYING = (
    *("owner", "token", "claimed_ms", "lease_until_ms", "due_ms", "run_at_ms", "enqueued_ms", "finished_ms"),
    *("expires_ms", "id", "headers", "headers_crc"),
)


#: The columns of each feature's tables that are the same in two stores that went the same way.
FEATURES = {
    GARBAGE: ("kind", "ref"),
    MEMO_SCOPE: ("job", "kind", "step"),
    MEMO: ("scope", "key", "value", "bytes"),
    KV: ("key", "value", "crc", "expires_ms IS NULL"),
    REFUSAL: ("job", "refusals"),
    SIGNAL: ("job", "name", "signal_id", "payload"),
    SIGNAL_ID: ("job", "signal_id"),
    MAILBOX: ("job", "signals", "bytes", "ids"),
    WAIT: ("job", "kind", "name", "timeout_ms", "ordinal", "signal"),
    TIMING: ("job", "queue", "deadline_ms IS NULL", "expires_ms IS NULL", "ends_ms IS NULL", "is_late"),
    SETTINGS: ("job", "label", "step_timeout_ms", "run_max_attempts", "run_priority"),
    SCHEDULE: ("queue", "name", "kind", "revision", "paused", "last_run_id IS NULL"),
    SCHEDULE_SPEC: ("definition", "payload"),
    OWNER: ("host",),
    EVENT: ("job", "number", "place", "kind", "step", "outcome", "error", "detail"),
    PROGRESS: ("job", "done", "total", "note"),
    LIMIT: (
        *("queue", "pattern", "prefix", "concurrency", "rate_most", "rate_window_ms", "hold", "max_waiting"),
        *("is_gone", "settled_to"),
    ),
    RATE: ("queue", "limit_key", "refill_clock", "refill_ms IS NULL", "idle_ms IS NULL"),
    RATED: ("rate", "number", "job"),
    GROUP: (
        *(
            "id",
            "name",
            "queue",
            "state",
            "total",
            "written",
            "released",
            "stopped",
            "succeeded",
            "failed",
            "cancelled",
        ),
        *("cancel_requested", "work", "parent", "waiter"),
    ),
    MEMBER: ("job", "grp", "position"),
    PARENT: ("job", "run_id", "children"),
    CHILD: ("job", "parent"),
    TRACE: ("job", "ordinal", "trace"),
    METER: ("queue", "label", "meter", "name", "value"),
}


def test_every_fault_point_has_a_scenario_that_reaches_it() -> None:
    transitions, parts = crash.points()
    assert transitions == crash.TRANSITIONS.keys()
    assert parts == crash.PARTS.keys()


def test_every_transition_of_the_table_is_a_fault_point() -> None:
    beside = {"notify", "subscribe", "unsubscribe", "enter_boot", "collect", "kv", "expire", "effects"}
    beside |= {"define_schedule", "move_schedule", "drop_schedule"}
    beside |= {"set_limit", "clear_limit", "settle_limit", "refill", "pause", "resume"}
    beside |= {"open_group", "cancel_group", "forget_group", "discard_group", "meter", "enrol"}
    assert {each.name for each in TRANSITIONS} | beside == crash.points()[0]


def dump(root: Path) -> list[tuple[object, ...]]:
    """Return what is stored, but for what varies from one run of a scenario to the next."""
    with looking_at(root) as connection:
        of_job = [row["name"] for row in connection.execute(f"PRAGMA table_info({JOB})")]
        kept = [f"j.{name}" for name in of_job if name not in _VARYING]
        kept += [f"j.{name} IS NULL" for name in _VARYING]
        jobs = [tuple(row) for row in connection.execute(f"SELECT {','.join(kept)} FROM {JOB} AS j ORDER BY seq")]
        queues = [tuple(row) for row in connection.execute(f"SELECT * FROM {QUEUE} ORDER BY id")]
        attempts = connection.execute(f"SELECT job, ordinal, step, attempt, outcome, error FROM {ATTEMPT}")
        of_features = [
            tuple(row)
            for table, columns in FEATURES.items()
            for row in connection.execute(f"SELECT {', '.join(columns)} FROM {table}")
        ]
        return [_timeless(row) for row in (*jobs, *queues, *map(tuple, attempts), *of_features)]


def _timeless(row: tuple[object, ...]) -> tuple[object, ...]:
    """Leave out the times that sentences tell."""
    return tuple(re.sub(r"\d{4}-\d\d-\d\dT\S+", "then", each) if isinstance(each, str) else each for each in row)


def recover(directory: Path) -> None:
    """Do what is left to do as the next process would, and look at every invariant."""
    journal = Journal(directory / "log")
    with Queue.open(directory / "store", default_config=QueueConfig(retry_backoff_base=0)) as queue:
        runtime = WorkflowRuntime(queue, LabRunner(journal), hook_of(journal), queue_name=crash.STEPS)
        runtime.run_until_idle(30, wait_for_scheduled=5)
        while queue.handle.sweep():
            pass  # what a dead process was writing
        while queue.stats(crash.BARE).pending + queue.stats(crash.BARE).claimed:
            work_off_one(queue)
    journal.close()
    check(directory / "store", read(directory / "log"), is_idle=True).assert_clean()


def work_off_one(queue: Queue) -> None:
    over = threading.Event()
    run_worker(queue, crash.BARE, lambda *_: over.set(), shutdown=over)


@pytest.fixture
def scenario(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.faults.crash", request.param, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return tmp_path


@pytest.mark.parametrize("scenario", list(crash.TRANSITIONS), indirect=True)
def test_a_transition_is_there_from_its_commit_on_and_wholly(scenario: Path) -> None:
    after, whole = dump(scenario / "after" / "store"), dump(scenario / "whole" / "store")
    before = dump(scenario / "before" / "store")
    assert before != after
    if not (scenario / "whole" / "log").read_text().count('"hook"'):  # else it went on past its commit
        assert after == whole
    for variant in crash.VARIANTS:
        recover(scenario / variant)


@pytest.mark.parametrize("scenario", list(crash.PARTS), indirect=True)
def test_killed_around_a_part_the_store_opens_and_the_work_goes_on(scenario: Path) -> None:
    for variant in crash.VARIANTS:
        recover(scenario / variant)
