"""The rules can fail: each is broken by hand, in a store or a log that was sound before."""

from __future__ import annotations

import ast
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from taquba_workflow_sync.storage.relational.sql.kv import KV
from taquba_workflow_sync.storage.relational.sql.limit import RATE, RATED
from taquba_workflow_sync.storage.relational.sql.memo import MEMO
from taquba_workflow_sync.storage.relational.sql.names import ATTEMPT, GROUP, JOB, MEMBER, QUEUE
from taquba_workflow_sync.storage.relational.sql.signals import SIGNAL, SIGNAL_ID
from tests.faults.checker import check
from tests.faults.features import rules
from tests.faults.features.rules import check_features
from tests.faults.features.scene import build
from tests.faults.figures import Figures
from tests.faults.journal import Event, read

_NOT_IN_A_STORE_AT_REST = {"claims within a key's limit"}
_FOLDER = Path(rules.__file__).parent


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sound")
    build(directory)
    return directory


@pytest.fixture
def scene(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "scene"))


def change(scene: Path, *statements: str) -> None:
    with closing(sqlite3.connect(scene / "store" / "db" / "cache.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA ignore_check_constraints=ON")
        for statement in statements:
            assert connection.execute(statement).rowcount != 0, statement


def found(scene: Path, events: list[Event] | None = None) -> Figures:
    figures = Figures("features")
    check_features(scene / "store", read(scene / "log") if events is None else events, figures, is_idle=True)
    return figures


def test_nothing_is_wrong_with_a_sound_store(scene: Path) -> None:
    figures = found(scene)
    figures.assert_clean()
    assert {*STORES.values(), *LOGS.values()} - figures.checked.keys() <= _NOT_IN_A_STORE_AT_REST
    check(scene / "store", read(scene / "log"), is_idle=True).assert_clean()


_STEPS = f"queue = (SELECT id FROM {QUEUE} WHERE name = 'workflow-steps')"


def _job(run: str) -> str:
    return f"(SELECT seq FROM {JOB} WHERE run_id = '{run}' AND {_STEPS})"


def _id(run: str) -> str:
    return f"(SELECT id FROM {JOB} WHERE seq = {_job(run)})"


def _key(prefix: str, run: str = "", rest: str = "") -> str:
    text = f"'{prefix}' || {_id(run)} || '{rest}'" if run else f"'{prefix}'"
    return f"CAST({text} AS BLOB)"


_CLAIMED = "status = 'claimed', token = 'x', owner = 'o', lease_until_ms = 1, finished_ms = NULL"
_RETRIED = f"UPDATE {ATTEMPT} SET outcome = 'retried'"
_G1 = f"(SELECT id FROM {GROUP} WHERE name = 'group-1')"
_FIRED = "run_id LIKE 'all-allow-%'"

#: What is done to a store, and the rule that must find it out.
STORES = {
    f"UPDATE {KV} SET value = x'32' WHERE key = {_key('n-', 'run-add', ':0')}": "an effect is its step's end",
    f"DELETE FROM {KV} WHERE key = {_key('p-', 'run-add', ':2')}": "an effect is its step's end",
    f"{_RETRIED} WHERE step = 0 AND job = {_job('run-add')}": "an effect is its step's end",
    f"UPDATE {KV} SET value = x'3939' WHERE key = {_key('total')}": "a counter counts ended steps",
    f"DELETE FROM {KV} WHERE key = {_key('cas')}": "a compared value counts ended steps",
    f"UPDATE {KV} SET value = x'32' WHERE key = {_key('committed')}": "commits are counted",
    f"DELETE FROM {KV} WHERE key = {_key('d-one')}": "a commit is whole",
    f"DELETE FROM {KV} WHERE key = {_key('s-run-add')}": "a submit and its effects are one",
    f"UPDATE {KV} SET value = x'32' WHERE key = {_key('s-run-add')}": "a submit and its effects are one",
    f"UPDATE {KV} SET value = x'32' WHERE key = {_key('t-', 'run-add', ':1')}": "a hook's effects happen once",
    f"DELETE FROM {KV} WHERE key = {_key('t-', 'run-add', ':1')}": "a hook's effects are there",
    f"UPDATE {MEMBER} SET position = 7 WHERE grp = {_G1} AND position = 1": "a group is whole",
    f"UPDATE {JOB} SET run_id = 'group-1-0' WHERE run_id = 'run-k'": "a member exists once",
    f"UPDATE {GROUP} SET state = 0 WHERE name = 'g-' || {_id('run-fan')} || '-0'":
        "a group is opened by its step's end",
    f"""UPDATE {JOB} SET headers = json_object('of', 'g-' || {_id('run-stuck')} || '-1') WHERE run_id = 'run-k'""":
        "nothing is left of a group that was never opened",
    f"UPDATE {GROUP} SET state = 0 WHERE name = 'group-1'": "no group is left half written",
    f"DELETE FROM {GROUP} WHERE name = 'group-1'": "no member is left without a group",
    f"UPDATE {JOB} SET {_CLAIMED} WHERE {_STEPS} AND seq IN (SELECT seq FROM {JOB} WHERE {_STEPS} LIMIT 7)":
        "claims within the queue's limit",
    f"UPDATE {JOB} SET {_CLAIMED} WHERE limit_key = 'h-0'": "claims within a key's limit",
    f"""UPDATE {ATTEMPT} SET claimed_ms = 5 WHERE job IN (SELECT seq FROM {JOB} WHERE limit_key = 'r-0')""":
        "claims within a rate",
    f"""INSERT INTO {RATE} (queue, limit_key) VALUES (1, 'r-9');
        INSERT INTO {RATED} SELECT last_insert_rowid(), seq, seq, 1, 5, 5 FROM {JOB}""": "claims within a rate",
    f"UPDATE {JOB} SET run_id = (SELECT max(run_id) FROM {JOB} WHERE {_FIRED}) WHERE run_id = 'run-k'":
        "a moment has one run",
    f"UPDATE {JOB} SET run_id = 'one-allow-20010101T000000Z' WHERE run_id = 'run-k'":
        "only moments of a schedule are fired",
    f"UPDATE {JOB} SET run_id = 'gone' WHERE run_id = (SELECT min(run_id) FROM {JOB} WHERE {_FIRED})":
        "no moment is left out",
    f"UPDATE {JOB} SET run_id = 'gone' WHERE run_id = (SELECT max(run_id) FROM {JOB} WHERE run_id LIKE 'one-allow-%')":
        "no moment is left out",
    f"UPDATE {MEMO} SET value = x'30' WHERE scope IN (SELECT max(scope) FROM {MEMO})": "a memo is stored",
    f"DELETE FROM {MEMO}": "a memo is stored",
    f"DELETE FROM {SIGNAL} WHERE signal_id = 's3'": "no signal is lost",
    f"INSERT INTO {SIGNAL} SELECT 99999, job, name, signal_id, payload, crc, sent_ms FROM {SIGNAL}":
        "a signal is stored once",
    f"UPDATE {SIGNAL} SET name = 'a', payload = CAST('s1' AS BLOB)": "a used signal is gone",
    f"DELETE FROM {SIGNAL_ID} WHERE signal_id = 's1'": "a signal's id is remembered",
    f"UPDATE {JOB} SET run_id = 'gone' WHERE run_id = 'run-signals'": "the run of a signal is there",
    f"""UPDATE {SIGNAL} SET name = 'self', payload = {_key('', 'run-self', ':3')}, job = {_job('run-self')}""":
        "a signal is its step's end",
    f"UPDATE {ATTEMPT} SET step = 1, outcome = 'retried' WHERE step = 1 AND job = {_job('run-told')}":
        "no signal of a step is lost",
    f"{_RETRIED} WHERE step = 1 AND job = {_job('run-self')}": "a received signal was sent",
    f"UPDATE {GROUP} SET state = 2 WHERE name = 'group-1'": "only an open group runs",
}  # fmt: skip


@pytest.mark.parametrize("statement", list(STORES))
def test_a_store_that_was_tampered_with_is_found_out(scene: Path, statement: str) -> None:
    change(scene, *statement.split(";"))
    assert any(each.startswith(STORES[statement] + ":") for each in found(scene).violations)


def _index(events: list[Event], **wanted: object) -> int:
    return next(i for i, event in enumerate(events) if wanted.items() <= event.items())


def _another_value(events: list[Event]) -> None:
    events.append({**events[_index(events, event="memo", scope="run")], "value": "another"})


def _another_memo_at_the_second_attempt(events: list[Event]) -> None:
    at = _index(events, event="memo", scope="step")
    events.append({**events[at], "value": "another"})


def _woken_by_another(events: list[Event]) -> None:
    events[_index(events, event="woken")]["group"] = "group-1"


def _woken_too_early(events: list[Event]) -> None:
    events[_index(events, event="woken")]["open"] = 1


def _not_woken(events: list[Event]) -> None:
    del events[_index(events, event="woken")]


def _member_without_a_group(events: list[Event]) -> None:
    events.append({**events[_index(events, event="grouped")], "id": "group-2"})


def _commit_lost(events: list[Event]) -> None:
    events.append({**events[_index(events, event="committed")], "id": "two"})


def _seven_at_once(events: list[Event]) -> None:
    begun = events[_index(events, event="begin", run="run-add")]
    events += [{**begun, "step": number} for number in range(7)]


def _two_of_a_key(events: list[Event]) -> None:
    begun = [events[_index(events, event="begin", run=run)] for run in ("run-h", "run-i")]
    events += begun


def _took_a_slot_that_was_held(events: list[Event]) -> None:
    for event in [event for event in events if event.get("run") in ("run-h", "run-i")]:
        if event["event"] == "end":
            event["outcome"] = "continue"
        elif event["event"] == "hook":
            events.remove(event)


def _two_signals_to_a_step(events: list[Event]) -> None:
    events.append({**events[_index(events, event="received", payload="s1")], "payload": "s2"})


def _a_signal_to_two_steps(events: list[Event]) -> None:
    events.append({**events[_index(events, event="received", payload="s1")], "step": 2})


def _a_duplicate_of_nothing(events: list[Event]) -> None:
    sent = events[_index(events, event="sending", id="s2")]
    events += [{**sent, "id": "s9"}, {**sent, "event": "sent", "id": "s9", "answer": "duplicate"}]


def _accepted_twice(events: list[Event]) -> None:
    events.append(events[_index(events, event="sent", id="s1")])


def _accepted_and_gone(events: list[Event]) -> None:
    sent = events[_index(events, event="sending", id="s2")]
    events += [{**sent, "id": "s9"}, {**sent, "event": "sent", "id": "s9", "answer": "buffered"}]


def _out_of_nowhere(events: list[Event]) -> None:
    events[_index(events, event="received", payload="s1")]["payload"] = "s9"


def _out_of_order(events: list[Event]) -> None:
    one, two = (events[_index(events, event="received", payload=each)] for each in ("s1", "s2"))
    one["payload"], two["payload"] = "s2", "s1"


#: What is done to a log, and the rule that must find it out.
LOGS: dict[Callable[[list[Event]], None], str] = {
    _another_value: "a memo keeps its value",
    _another_memo_at_the_second_attempt: "a memo keeps its value",
    _woken_by_another: "a step is woken by its own group",
    _woken_too_early: "the end of a group wakes",
    _not_woken: "a step has the group it waited for",
    _member_without_a_group: "an acknowledged group",
    _commit_lost: "an acknowledged commit",
    _seven_at_once: "executions within the queue's limit",
    _two_of_a_key: "executions within a key's limit",
    _took_a_slot_that_was_held: "a run holds its slot",
    _two_signals_to_a_step: "a step keeps its signal",
    _a_signal_to_two_steps: "a signal goes to one step",
    _a_duplicate_of_nothing: "a duplicate was sent before",
    _accepted_twice: "a signal is accepted once",
    _accepted_and_gone: "no signal is lost",
    _out_of_nowhere: "a received signal was sent",
    _out_of_order: "signals come in order",
}


def test_a_run_that_was_asked_to_end_holds_no_slot_beyond_its_step(scene: Path) -> None:
    """What its step returned does not tell that it has ended."""
    events = read(scene / "log")
    events.insert(_index(events, event="begin", run="run-h"), {"event": "cancelling", "pid": 1, "run": "run-h"})
    _took_a_slot_that_was_held(events)
    assert not any("holds its slot" in each and "run-h" in each for each in found(scene, events).violations)


def test_the_answer_of_a_repeat_may_be_noted_first(scene: Path) -> None:
    """Two clients repeat what a killed one has no answer to: who was told of a duplicate may be the quicker to note."""
    events = read(scene / "log")
    accepted = _index(events, event="sent", id="s1")
    sending = events[_index(events, event="sending", id="s1")]
    events[accepted:accepted] = [sending, {**events[accepted], "answer": "duplicate"}]
    assert not found(scene, events).violations


@pytest.mark.parametrize("falsify", list(LOGS), ids=lambda falsify: falsify.__name__.strip("_"))
def test_a_log_that_tells_of_a_fault_is_found_out(scene: Path, falsify: Callable[[list[Event]], None]) -> None:
    events = read(scene / "log")
    falsify(events)
    assert any(each.startswith(LOGS[falsify] + ":") for each in found(scene, events).violations)


def test_every_rule_is_broken_once() -> None:
    """What a rule is called is the first argument of ``expect``."""
    called = set()
    for path in _FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "expect":
                assert isinstance(node.args[0], ast.Constant)
                called.add(node.args[0].value)
    assert called == {*STORES.values(), *LOGS.values()}
