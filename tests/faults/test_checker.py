"""The checker can fail: each thing that it states is broken by hand, in a store or a log that was sound before."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from taquba_workflow_sync import WorkflowRuntime
from taquba_workflow_sync.storage.relational.sql.names import ATTEMPT, JOB, OVERFLOW, QUEUE
from tests.faults.checker import check
from tests.faults.journal import Event, Journal, read
from tests.faults.lab import LabRunner, hook_of, open_queue, submit

PLANS = {"good": "go go go", "retried": "go raise go", "failed": "go fail", "cancelled": "cancel", "dead": "dead"}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which every kind of run has ended, one that waits, and their log."""
    directory = tmp_path_factory.mktemp("sound")
    journal = Journal(directory / "log")
    with open_queue(directory / "store") as queue:
        runtime = WorkflowRuntime(queue, LabRunner(journal), hook_of(journal))
        for run_id, plan in PLANS.items():
            submit(runtime, journal, run_id, plan)
        runtime.run_until_idle(30)
        submit(runtime, journal, "waiting", "go " * 1200)
    journal.close()
    return directory


@pytest.fixture
def scene(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "scene"))


def change(root: Path, *statements: str) -> None:
    with closing(sqlite3.connect(root / "db" / "cache.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA ignore_check_constraints=ON")
        for statement in statements:
            assert connection.execute(statement).rowcount != 0, statement


def violations(scene: Path, events: list[Event] | None = None, *, is_idle: bool = False) -> str:
    events = read(scene / "log") if events is None else events
    return "\n".join(check(scene / "store", events, is_idle=is_idle).violations)


def test_nothing_is_wrong_with_a_sound_store(scene: Path) -> None:
    figures = check(scene / "store", read(scene / "log"), is_idle=False)
    figures.assert_clean()
    assert figures.acknowledged == len(PLANS) + 1
    assert figures.checked["execution"] == 11


_GOOD = "WHERE run_id = 'good' AND queue = 1"
_WAITING = "WHERE run_id = 'waiting'"

STORES = {
    "a lost run": ([f"DELETE FROM {ATTEMPT} WHERE job = (SELECT seq FROM {JOB} {_GOOD})",
                    f"DELETE FROM {OVERFLOW} WHERE key / 4 = (SELECT seq FROM {JOB} {_WAITING})",
                    f"DELETE FROM {JOB} {_WAITING}"], "lost: run waiting"),
    "a counter too high": ([f"UPDATE {QUEUE} SET pending = pending + 1"], "counter: queue"),
    "a counter of ended runs too low": ([f"UPDATE {QUEUE} SET done = 0 WHERE id = 1"], "counter: queue"),
    "a cancelled run that no hook knows": ([f"UPDATE {QUEUE} SET cancelled = 9 WHERE id = 1"], "counter against"),
    "a counter of failed runs too high": ([f"UPDATE {QUEUE} SET runs_failed = runs_failed + 1"], "says"),
    "a bare job that was not counted": ([f"UPDATE {QUEUE} SET bare_waiting = bare_waiting + 1"], "bare_waiting"),
    "a stray part": ([f"INSERT INTO {OVERFLOW} VALUES (4001, x'00')"], "parts belong to rows: stray"),
    "a missing part": ([f"DELETE FROM {OVERFLOW}"], "parts belong to rows"),
    "a row of no queue": ([f"UPDATE {JOB} SET queue = 77 {_GOOD}"], "no row without a queue"),
    "a row that no path reaches": ([f"UPDATE {JOB} SET status = 'scheduled' {_WAITING}"], "no row unreachable"),
    "a place beyond the counter": ([f"UPDATE {JOB} SET place = 9999 {_WAITING}"], "place in line"),
    "too many attempts": ([f"UPDATE {JOB} SET attempts = 11 {_GOOD}"], "attempts: job"),
    "an ended job that is held": ([f"UPDATE {JOB} SET token = 'x.1.1' {_GOOD}"], "claim: job"),
    "a token that leads elsewhere": (
        [f"""UPDATE {JOB} SET status = 'claimed', token = 'x.1.999', owner = 'o', lease_until_ms = 1 {_WAITING}""",
         f"UPDATE {QUEUE} SET pending = 0, claimed = 1 WHERE id = 1"], "fence: the token"),
    "a planted value": (["INSERT INTO Cache (key, raw, value) VALUES ('k', 1, 'v')"], "diskcache's table"),
    "another payload": ([f"UPDATE {JOB} SET payload = x'30' {_WAITING}"], "checksum: the payload"),
    "other headers, in a part": ([f"UPDATE {OVERFLOW} SET data = '{{}}' WHERE key % 4 = 1"], "checksum: the headers"),
    "another result": ([f"UPDATE {JOB} SET result = x'30' {_GOOD}"], "trail: run good"),
    "another result than was told": ([f"UPDATE {JOB} SET result = x'30' {_GOOD}"], "told as stored"),
    "another outcome than was told": (
        [f"UPDATE {JOB} SET verdict = 'succeeded', result = x'30' WHERE run_id = 'failed' AND queue = 1"],
        "told as stored"),
    "an ending that was undone": ([f"UPDATE {JOB} SET termination = 0 WHERE run_id = 'good'"], "only endings"),
    "a step settled twice": (
        [f"""INSERT INTO {ATTEMPT} SELECT seq, 77, 2, 1, 0, 0, 'succeeded', NULL, NULL FROM {JOB} {_GOOD}"""],
        "settled twice"),
    "steps out of order": (
        [f"UPDATE {ATTEMPT} SET step = 9 WHERE ordinal = 1 AND job = (SELECT seq FROM {JOB} {_GOOD})"],
        "history: the steps"),
    "a step that was never settled": (
        [f"UPDATE {ATTEMPT} SET step = 1, outcome = 'retried' WHERE ordinal = 1 AND job = "
         f"(SELECT seq FROM {JOB} {_GOOD})"], "skipped: steps [0]"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(STORES))
def test_a_store_that_was_tampered_with_is_found_out(scene: Path, name: str) -> None:
    statements, complaint = STORES[name]
    change(scene / "store", *statements)
    found = violations(scene, is_idle="no hook knows" in name)
    assert complaint in found


def test_a_damaged_file_is_found_out(scene: Path) -> None:
    path = scene / "store" / "db" / "cache.db"
    with closing(sqlite3.connect(path)) as connection:
        page = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'taquba_job_listing'").fetchone()[0]
    data = bytearray(path.read_bytes())
    data[(page - 1) * 4096 + 8 : (page - 1) * 4096 + 24] = b"\xff" * 16
    path.write_bytes(data)
    found = violations(scene)
    assert "integrity_check" in found or "the file can be read" in found


def _index(events: list[Event], **wanted: object) -> int:
    return next(i for i, event in enumerate(events) if wanted.items() <= event.items())


def _twice_at_once(events: list[Event]) -> None:
    at = _index(events, event="begin", run="good", step=1)
    events.insert(at + 1, {**events[at], "pid": 1, "attempt": 2})


def _skipped(events: list[Event]) -> None:
    events[:] = [event for event in events if not (event.get("run") == "good" and event.get("step") == 1)]


def _again_after_the_next(events: list[Event]) -> None:
    at = _index(events, event="begin", run="good", step=1)
    events.append({**events[at], "step": 0, "attempt": 2})


def _went_on_after_a_failure(events: list[Event]) -> None:
    events[_index(events, event="end", run="good", step=0)]["outcome"] = "raise"


def _beyond_the_limit(events: list[Event]) -> None:
    events[_index(events, event="begin", run="retried", step=1, attempt=2)]["max"] = 1


def _same_attempt_twice(events: list[Event]) -> None:
    events[_index(events, event="begin", run="retried", step=1, attempt=2)]["attempt"] = 1


def _hook_never_called(events: list[Event]) -> None:
    del events[_index(events, event="hook", run="dead")]


def _hook_contradicts_itself(events: list[Event]) -> None:
    events.append({**events[_index(events, event="hook", run="dead")], "digest": "another"})


LOGS: dict[str, tuple[Callable[[list[Event]], None], str]] = {
    "two executions at once": (_twice_at_once, "side by side: step 1 of run good"),
    "a step left out": (_skipped, "order: step 2 of run good"),
    "a step back": (_again_after_the_next, "order: step 0 of run good"),
    "on without an end": (_went_on_after_a_failure, "order: step 1 of run good"),
    "an attempt too many": (_beyond_the_limit, "attempts: step 1 of run retried"),
    "an attempt twice": (_same_attempt_twice, "attempts: step 1 of run retried"),
    "a hook never called": (_hook_never_called, "hook lost: ending 1"),
    "a hook that contradicts itself": (_hook_contradicts_itself, "told the same each time"),
}


@pytest.mark.parametrize("name", list(LOGS))
def test_a_log_that_tells_of_a_fault_is_found_out(scene: Path, name: str) -> None:
    falsify, complaint = LOGS[name]
    events = read(scene / "log")
    falsify(events)
    assert complaint in violations(scene, events, is_idle="hook" in name)


def test_an_execution_of_a_killed_process_may_be_repeated(scene: Path) -> None:
    events = read(scene / "log")
    at = _index(events, event="begin", run="good", step=1)
    first = {**events[at], "pid": 1}
    events[at] |= {"attempt": 2}
    events[_index(events, event="end", run="good", step=1)] |= {"attempt": 2}
    events[at:at] = [first, {"event": "killing", "pid": 0, "target": 1}]
    assert violations(scene, events) == ""


@pytest.mark.parametrize("asked_before", ["the first execution", "the second"])
def test_a_retry_begins_to_count_anew_whenever_it_was_asked_for(scene: Path, asked_before: str) -> None:
    """Asked for before the run had failed, it finds one that has: the wait for the write lock was in between."""
    events = read(scene / "log")
    at = _index(events, event="begin", run="dead")
    life = events[at : at + 2]
    retrying = {"event": "retrying", "pid": 0, "run": "dead", "job": life[0]["job"]}
    events[at + 2 : at + 2] = life
    assert "attempts: step 0 of run dead" in violations(scene, events)
    events.insert(at if asked_before == "the first execution" else at + 2, retrying)
    assert "attempts: " not in violations(scene, events)
    events.insert(at, life[0])
    events.insert(at + 1, life[1])
    assert "attempts: step 0 of run dead" in violations(scene, events), "one retry, one life"


def test_an_attempt_that_was_not_charged_may_come_again(scene: Path) -> None:
    """Effects that were refused put their step back; its history says so, or the same attempt is one too many."""
    events = read(scene / "log")
    at = _index(events, event="begin", run="retried", step=1, attempt=2)
    events[at + 2 : at + 2] = events[at : at + 2]
    assert "attempts: step 1 of run retried" in violations(scene, events)
    job = f"(SELECT seq FROM {JOB} WHERE run_id = 'retried' AND queue = 1)"
    change(scene / "store", f"UPDATE {ATTEMPT} SET outcome = 'put_back' WHERE step = 1 AND attempt = 1 AND job = {job}")
    assert "attempts: " not in violations(scene, events)


def test_what_is_left_over_is_found_out(scene: Path) -> None:
    assert "nothing is left over" in violations(scene, is_idle=True)
