"""A row damaged by hand, in any column: the other runs end, nothing hangs or spins, nothing runs on guessed data."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from taquba_workflow_sync import ClaimLostError, JobStatus, Queue, StorageError, Succeed, WorkflowRuntime
from taquba_workflow_sync.queue.dispatch import dispatcher
from taquba_workflow_sync.storage.relational.sql.effects import REFUSAL
from taquba_workflow_sync.storage.relational.sql.event import EVENT
from taquba_workflow_sync.storage.relational.sql.garbage import GARBAGE
from taquba_workflow_sync.storage.relational.sql.kv import KV
from taquba_workflow_sync.storage.relational.sql.limit import LIMIT, RATE, RATED
from taquba_workflow_sync.storage.relational.sql.memo import MEMO, MEMO_SCOPE
from taquba_workflow_sync.storage.relational.sql.meter import METER
from taquba_workflow_sync.storage.relational.sql.names import (
    ATTEMPT,
    CHILD,
    GROUP,
    JOB,
    MEMBER,
    META,
    OVERFLOW,
    PARENT,
    QUEUE,
)
from taquba_workflow_sync.storage.relational.sql.owner import OWNER
from taquba_workflow_sync.storage.relational.sql.progress import PROGRESS
from taquba_workflow_sync.storage.relational.sql.schedule import SCHEDULE, SCHEDULE_SPEC
from taquba_workflow_sync.storage.relational.sql.settings import SETTINGS
from taquba_workflow_sync.storage.relational.sql.signals import MAILBOX, SIGNAL, SIGNAL_ID, WAIT
from taquba_workflow_sync.storage.relational.sql.timing import TIMING
from taquba_workflow_sync.storage.relational.sql.trace import TRACE
from tests.faults.hostile.damage import Vandal, columns_of, damages_of, schema_columns
from tests.faults.hostile.stage import STATES, DamagedStore, make_template

MANY = 24
#: What the other tables get in the default run; the long form puts every damage everywhere.
SOME = {"null", "text", "no utf-8", "huge", "minus one"}


@pytest.fixture(scope="session")
def large_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hostile") / "template"
    make_template(root, MANY)
    return root


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hostile") / "template"
    make_template(root, 2)
    return root


@pytest.fixture(autouse=True)
def _quick_to_fail_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a dispatcher that fails try again soon: whether it is blocked is counted in its failures."""
    monkeypatch.setattr(dispatcher, "_LONGEST_BACKOFF", 0.05)


JOB_COLUMNS = [column for table, column in schema_columns() if table == JOB]


@pytest.mark.parametrize("column", JOB_COLUMNS)
def test_a_damaged_job_harms_no_other(large_template: Path, tmp_path: Path, column: str) -> None:
    scene = DamagedStore(large_template, tmp_path / "store")
    vandal = Vandal(scene.root)
    damages = damages_of(column)
    assert len(damages) <= MANY
    ids = scene.ids()
    seqs = dict(vandal.run(f"SELECT coalesce(run_id, id), seq FROM {JOB}"))

    def strike(name: str) -> None:
        number = int(name.rpartition("-")[2])
        if number < len(damages):
            vandal.spoil(JOB, column, "seq = ?", [(name, [seqs[name]], damages[number])])

    # Each damage in every second state, and each state with every second damage; the long form draws from all of them.
    states = enumerate((*STATES, "bare"))
    names = [f"{state}-{n}" for place, state in states for n in range(len(damages)) if (place + n) % 2 == 0]
    now = [(name, [seqs[name]], damages[int(name.rpartition("-")[2])]) for name in names if not name.startswith("held")]
    assert vandal.spoil(JOB, column, "seq = ?", now) > 0
    wrong = scene.check(names=[name for name in names if not name.startswith("bare")], ids=ids, strike=strike)
    assert not wrong, "\n".join(wrong)


# -- the other tables --------------------------------------------------------------------------------------------------

OTHER_COLUMNS = [(table, column) for table, column in schema_columns() if table != JOB]
_OF_PENDING = f"job = (SELECT seq FROM {JOB} WHERE run_id = 'pending-0')"
_OF_HEALTHY = f"job = (SELECT seq FROM {JOB} WHERE run_id = 'healthy-0')"
#: Which row of a table is damaged, each in a copy of its own: a condition, and the name of what is struck.
PLACES: dict[str, list[tuple[str, str]]] = {
    QUEUE: [("name = 'workflow-steps'", "steps"), ("name = 'bare'", "bare")],
    META: [("key = 'schema'", "schema"), ("key = 'next_seq'", "next_seq")],
    ATTEMPT: [
        (f"{_OF_PENDING} AND ordinal = 2", "history"),
        (f"{_OF_HEALTHY} AND ordinal = 2", "history of a healthy run"),
    ],
    GARBAGE: [("id > 0", "garbage")],
    LIMIT: [("pattern = 'k*'", "limit of keys"), ("pattern = ''", "limit of the queue")],
    RATE: [("limit_key = 'k0'", "rate of a key"), ("limit_key = ''", "rate of the queue")],
    RATED: [(f"(rate, number) = (SELECT rate, number FROM {RATED} LIMIT 1)", "rated claim")],
    MEMO_SCOPE: [(f"{_OF_PENDING} AND kind = 0", "memo"), (f"{_OF_HEALTHY} AND kind = 0", "memo of a healthy run")],
    MEMO: [
        (f"scope IN (SELECT id FROM {MEMO_SCOPE} WHERE {_OF_PENDING} AND kind = 0)", "entry"),
        (f"scope IN (SELECT id FROM {MEMO_SCOPE} WHERE {_OF_HEALTHY} AND kind = 0)", "entry of a healthy run"),
    ],
    KV: [("key = x'636f756e74'", "value")],
    REFUSAL: [
        (_OF_PENDING, "refusals"),
        (f"job = (SELECT seq FROM {JOB} WHERE run_id = 'healthy-1')", "refusals of a healthy run"),
    ],
    SIGNAL: [(_OF_PENDING, "signal")],
    SIGNAL_ID: [(_OF_PENDING, "id of a signal"), (_OF_HEALTHY, "id of a signal of a healthy run")],
    MAILBOX: [(_OF_PENDING, "mailbox"), (_OF_HEALTHY, "mailbox of a healthy run")],
    WAIT: [(_OF_PENDING, "wait"), ("kind = 'group'", "wait of a group")],
    # Not of a healthy run: a number that is damaged is a deadline as any other.
    TIMING: [(_OF_PENDING, "limits")],
    SETTINGS: [(_OF_PENDING, "settings"), (_OF_HEALTHY, "settings of a healthy run")],
    SCHEDULE: [("name = 'pending'", "schedule")],
    SCHEDULE_SPEC: [(f"id = (SELECT id FROM {SCHEDULE} WHERE name = 'pending')", "what a schedule submits")],
    OWNER: [("id > 0", "owner")],
    EVENT: [(f"{_OF_PENDING} AND number = 1", "event"), (f"{_OF_HEALTHY} AND number = 1", "event of a healthy run")],
    METER: [("minute = 0", "series")],
    TRACE: [(_OF_PENDING, "traceback"), (_OF_HEALTHY, "traceback of a healthy run")],
    PROGRESS: [(_OF_PENDING, "progress"), (_OF_HEALTHY, "progress of a healthy run")],
    GROUP: [("name = 'g'", "group"), ("name = 'of-step'", "group of a step"), ("name = 'half'", "half a group")],
    MEMBER: [(f"job = (SELECT seq FROM {JOB} WHERE run_id = 'member-0')", "member")],
    PARENT: [("run_id = 'parent-0'", "parent")],
    CHILD: [(f"job = (SELECT seq FROM {JOB} WHERE run_id = 'child-0')", "child")],
    OVERFLOW: [(f"key = (SELECT 4 * seq FROM {JOB} WHERE run_id = 'pending-0')", "part")],
}
#: A queue that cannot be read any more cannot run; the other one must.
UNREADABLE = {(QUEUE, "name"), (QUEUE, "id")}


def test_no_table_of_a_store_is_forgotten(template: Path) -> None:
    with closing(sqlite3.connect(f"file:{template}/db/cache.db?mode=ro", uri=True)) as connection:
        real = set(columns_of(connection))
    assert {table for table, _ in real} == {JOB, *PLACES, "Settings", "Cache"}
    assert real == {*schema_columns(), *((t, c) for t, c in real if t in ("Settings", "Cache"))}
    assert {table for table, _ in OTHER_COLUMNS} == set(PLACES)


#: A fifth of the columns by default: each has a store made for every place and every damage. All of them on request.
A_FIFTH = OTHER_COLUMNS[::5]


@pytest.mark.parametrize(
    ("table", "column"),
    [pytest.param(*each, marks=[] if each in A_FIFTH else [pytest.mark.soak]) for each in OTHER_COLUMNS],
    ids=lambda value: value,
)
def test_a_damaged_row_of_another_table_harms_no_run(template: Path, tmp_path: Path, table: str, column: str) -> None:
    wrong = damage_table(template, tmp_path, table, column)
    assert not wrong, "\n".join(wrong)


def damage_table(template: Path, directory: Path, table: str, column: str) -> list[str]:
    """Put each damage into each place of a table, a copy of the store for each; returns what went wrong."""
    wrong: list[str] = []
    spoiled = 0
    for where, place in PLACES[table]:
        for number, damage in enumerate(damages_of(column)):
            if damage.name not in SOME and "misplaced" not in damage.name:
                continue
            scene = DamagedStore(template, directory / f"{place}-{number}")
            struck = Vandal(scene.root).spoil(table, column, where, [(place, [], damage)])
            spoiled += struck
            if not struck:
                continue
            healthy = [] if (table, column) in UNREADABLE and place == "steps" else [f"healthy-{n}" for n in range(4)]
            found = scene.check(
                names=["healthy-0", "pending-0"], ids=scene.ids(), healthy=healthy, bare=place != "bare"
            )
            wrong += [f"{place} {damage.name}: {line}" for line in found]
    assert spoiled, "nothing could be damaged"
    return wrong


def test_missing_and_swapped_parts_end_as_dead_letters(template: Path, tmp_path: Path) -> None:
    scene = DamagedStore(template, tmp_path / "store")
    vandal = Vandal(scene.root)
    ids = scene.ids()
    healthy = f"(SELECT 4 * seq FROM {JOB} WHERE run_id LIKE 'healthy%')"
    vandal.run(f"DELETE FROM {OVERFLOW} WHERE key % 8 = 0 AND key NOT IN {healthy}")
    vandal.run(f"UPDATE {OVERFLOW} SET data = 'text where bytes belong' WHERE key NOT IN {healthy}")
    wrong = scene.check(names=[name for name in ids if "bare" not in name and "healthy" not in name], ids=ids)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("next_seq", [0, 1, 5, 100])
def test_a_counter_behind_the_rows_keeps_no_submit_out(template: Path, tmp_path: Path, next_seq: int) -> None:
    scene = DamagedStore(template, tmp_path / "store")
    Vandal(scene.root).run(f"UPDATE {META} SET value = ? WHERE key = 'next_seq'", next_seq)
    with Queue.open(scene.root, durability="relaxed") as queue:
        job_id = queue.enqueue("fresh", b"x")
        assert queue.get_job(job_id) is not None
        before = queue.enqueue("fresh", b"y")
        assert [job.id for job in queue.list_jobs("fresh").jobs] == [job_id, before]


@pytest.mark.parametrize("name", ["pending", "scheduled", "claimed", "dead", "done", "cancelled"])
@pytest.mark.parametrize("count", [0, 1, 10_000])
def test_wrong_counters_keep_no_run_from_its_end(template: Path, tmp_path: Path, name: str, count: int) -> None:
    scene = DamagedStore(template, tmp_path / "store")
    Vandal(scene.root).run(f"UPDATE {QUEUE} SET {name} = ?", count)
    wrong = scene.check(names=[], ids=scene.ids())
    assert not wrong, "\n".join(wrong)


def test_two_claims_with_one_token_settle_at_most_their_own(template: Path, tmp_path: Path) -> None:
    scene = DamagedStore(template, tmp_path / "store")
    with Queue.open(scene.root, durability="relaxed") as queue:
        first, second = (queue.enqueue("twins", name) for name in (b"a", b"b"))
        one, two = queue.claim_batch("twins", 2)
        Vandal(scene.root).run(f"UPDATE {JOB} SET token = ? WHERE id = ?", one.token, second)
        with pytest.raises(ClaimLostError):
            queue.ack(two)
        queue.ack(one)
        with pytest.raises(ClaimLostError):
            queue.ack(one)
        job = queue.get_job(second)
        assert job is not None and job.status is JobStatus.CLAIMED
        assert queue.get_job(first) is None


@pytest.mark.parametrize("owner", ["../../outside/precious", "../../outside/new", "x" * 300, "a\0b", "", "a\nb"])
def test_an_owner_of_a_claim_is_never_taken_for_a_path(template: Path, tmp_path: Path, owner: str) -> None:
    (tmp_path / "outside").mkdir()
    precious = tmp_path / "outside" / "precious.lock"
    precious.write_text("precious")
    scene = DamagedStore(template, tmp_path / "store")
    Vandal(scene.root).run(f"UPDATE {JOB} SET owner = ?, lease_until_ms = 5 WHERE run_id LIKE 'lost-%'", owner)
    wrong = scene.check(names=["lost-0", "lost-1"], ids=scene.ids())
    assert not wrong, "\n".join(wrong)
    assert precious.read_text() == "precious"
    assert [each.name for each in precious.parent.iterdir()] == ["precious.lock"]


def test_equal_places_in_line_lose_nobody(template: Path, tmp_path: Path) -> None:
    scene = DamagedStore(template, tmp_path / "store")
    Vandal(scene.root).run(f"UPDATE {JOB} SET place = 7, priority = 1000")
    wrong = scene.check(names=[], ids=scene.ids())
    assert not wrong, "\n".join(wrong)


def test_a_result_that_is_lost_is_an_error_and_not_an_empty_one(tmp_path: Path) -> None:
    with Queue.open(tmp_path / "store", durability="relaxed") as queue:
        runtime = WorkflowRuntime(queue, lambda step: Succeed(b"x" * 5_000))
        handle = runtime.submit(run_id="large")
        runtime.run_until_idle()
        assert len(handle.result(0)) == 5_000
        Vandal(tmp_path / "store").run(f"DELETE FROM {OVERFLOW}")
        for tell in (lambda: handle.result(0), lambda: runtime.outcome("large")):
            with pytest.raises(StorageError, match=r"result of run 'large' .* cannot be told: .* is damaged"):
                tell()
        assert [job.id for job in queue.list_jobs(runtime.queue_name).jobs] == [handle.first_job_id]
