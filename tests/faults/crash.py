"""Scenarios that reach each fault point of the package once, run three times: killed before it, killed after it, whole.

Run as ``python -m tests.faults.crash SCENARIO DIRECTORY``; the three stores are left in the directory. What a scenario
prepares is done before it is armed, so that only the point it is named after kills.
"""

from __future__ import annotations

import ast
import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from taquba_workflow_sync import Queue, RunSpec, WorkflowRuntime, run_worker
from taquba_workflow_sync.clock import SystemClock
from taquba_workflow_sync.storage.embedded import migrations
from taquba_workflow_sync.storage.port.claim import ClaimedRow, ClaimRequest, LaneClaim
from taquba_workflow_sync.storage.port.effects import Add, ComparePut, Delete, Insert, Put
from taquba_workflow_sync.storage.port.group import NewGroup, OnFailure
from taquba_workflow_sync.storage.port.headers import encode_headers
from taquba_workflow_sync.storage.port.job import NewJob
from taquba_workflow_sync.storage.port.limit import Limit, Rate
from taquba_workflow_sync.storage.port.memo import MemoScope
from taquba_workflow_sync.storage.port.meter import Meter, Series
from taquba_workflow_sync.storage.port.notification import Subscription
from taquba_workflow_sync.storage.port.presence import Abandoned
from taquba_workflow_sync.storage.port.settlement import Ack, Advance, PutBack, Settlement
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.storage.port.wait import Wait, WaitKind
from taquba_workflow_sync.storage.relational.sql import features
from taquba_workflow_sync.storage.relational.sql.names import ATTEMPT, JOB, META, OVERFLOW, QUEUE
from taquba_workflow_sync.storage.relational.sql.upgrade import OLD_NAMES
from taquba_workflow_sync.testing import ManualClock
from tests.faults.journal import Journal
from tests.faults.lab import LabRunner, hook_of, open_queue
from tests.storage.bench import job, run
from tests.transitions import CASES, DamagingScene, case_of

STEPS = "steps"
BARE = "bare"
_WEEK_MS = 7 * 86_400_000
PACKAGE = Path(__file__).resolve().parents[2] / "taquba_workflow_sync"

#: How a scenario is run: the fault never comes, or comes before or after the instant that it is named after.
VARIANTS = ("whole", "before", "after")


#: Where commits are named after their transitions.
_COMMITS = "commit.py"


def points() -> tuple[set[str], set[str]]:
    """Return the transitions that commits are named after, and the other fault points, as the code has them."""
    transitions: set[str] = set()
    parts: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        if "postgres" in path.parts or "moving" in path.parts:
            continue  # tests/faults/server and tests/storage/moving have theirs
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            match ast.unparse(node.func), node.args:
                case ("tx.transitions.add" | "Ended", [name, *_]) | ("leave", [_, name, *_]):
                    transitions |= _literals(name)
                case ("between", [_, name, *_]) | ("failpoint" | "self._failpoint", [name]) if path.name != _COMMITS:
                    found = {each for text in _literals(name) for each in _versions(text.partition(":")[0])}
                    assert found, f"{path.name}: a fault point's name is a literal"
                    parts |= found
    return transitions, parts


def _literals(name: ast.expr) -> set[str]:
    """Return the texts that stand in an expression; a choice between two has two."""
    return {each.value for each in ast.walk(name) if isinstance(each, ast.Constant) and isinstance(each.value, str)}


def _versions(text: str) -> list[str]:
    return [f"{text}{step.version}" for step in migrations.STEPS] if text == "migrate-" else [text]


class CrashStage:
    """One store, and the fault that kills this process once armed."""

    def __init__(self, directory: Path, name: str, variant: str) -> None:
        self.root = directory / "store"
        self.journal = Journal(directory / "log")
        self.is_armed = False
        self._name = name
        # Those named after no "before" and "after" are one instant.
        self._not_when = {"before": ("after", "after-commit"), "after": ("before", "before-commit")}.get(variant)

    def fault(self, point: str) -> None:
        what, _, when = point.partition(":")
        is_named = self._not_when is not None and when not in self._not_when and self._name in what.split("+")
        if self.is_armed and is_named:
            self.journal.note("killing", target=os.getpid(), point=point)
            os.kill(os.getpid(), signal.SIGKILL)

    def open(self, root: Path | None = None, **options: object) -> tuple[Queue, WorkflowRuntime]:
        queue = open_queue(root or self.root, failpoint=self.fault, **options)  # type: ignore[arg-type]
        return queue, WorkflowRuntime(queue, LabRunner(self.journal), hook_of(self.journal), queue_name=STEPS)

    def submit(self, runtime: WorkflowRuntime, plan: str = "go go", **fields: object) -> str:
        self.journal.note("submitting", run="r", plan=plan)
        handle = runtime.submit(RunSpec(run_id="r", headers={"plan": plan}, max_attempts_per_step=10, **fields))  # type: ignore[arg-type]
        self.journal.note("acknowledged", run="r", job=handle.first_job_id)
        return handle.first_job_id

    def note_step(self, row: ClaimedRow, outcome: str) -> None:
        me = {"run": "r", "job": row.id, "step": row.step, "attempt": row.attempts}
        self.journal.note("begin", **me, max=row.max_attempts)
        self.journal.note("end", **me, outcome=outcome, is_set=False)


def _claim(queue: Queue, name: str = STEPS, abandoned: Abandoned | None = None) -> ClaimedRow:
    _, rows = queue.handle.store.settle_and_claim(
        (), [ClaimRequest((LaneClaim(name, 3_600_000),), 1, abandoned=abandoned)]
    )
    return rows[0]


class LoggedScene(DamagingScene):
    """A store made ready as processes of the laboratory would: what is submitted, begun and ended is in the log.

    By a clock of two hours ago, so that whatever waits for a time is due when the work is done in earnest.
    """

    def __init__(self, stage: CrashStage, *, is_begun: bool, outcome: str) -> None:
        clock = ManualClock(SystemClock().now() - timedelta(hours=2))
        queue, runtime = stage.open(clock=clock)
        runtime.submit_many([])  # its hook is told of every ending
        super().__init__(queue.handle.store, lambda ms: clock.advance(ms / 1000))
        self._stage = stage
        self._is_begun = is_begun
        self._outcome = outcome

    def put_run(self, **fields: Any) -> str:
        plan = "go go"
        self._stage.journal.note("submitting", run="r", plan=plan)
        headers = encode_headers({"plan": plan})
        given: dict[str, Any] = {"headers": headers, "keep_done_ms": _WEEK_MS, "max_attempts": 10} | fields
        job_id = self.store.insert([run("r", b"", **given)])[0].job_id
        self._stage.journal.note("acknowledged", run="r", job=job_id)
        return job_id

    def claim(self, **options: Any) -> ClaimedRow:
        row = super().claim(**options)
        if self._is_begun:
            self._stage.note_step(row, self._outcome)
        return row

    def damage(self, job_id: str) -> None:
        with closing(sqlite3.connect(self._stage.root / "db" / "cache.db", isolation_level=None)) as connection:
            connection.execute(f"UPDATE {JOB} SET attempts = max_attempts WHERE id = ?", (job_id,))


def _case(name: str) -> Callable[[CrashStage], None]:
    """Make a transition as the catalogue does."""
    case = case_of(name)

    def scenario(stage: CrashStage) -> None:
        # What ends a claim comes after the step; a release comes before it.
        goes_on = ("advance", "hold", "signal", "wait_again")
        is_begun = case.transition in ("ack", "nack", "dead_letter", "settle_cancelled", *goes_on)
        outcome = "continue" if case.transition in goes_on else "raise"
        scene = LoggedScene(stage, is_begun=is_begun, outcome=outcome)
        _, act = case.prepare(scene)
        stage.is_armed = True
        act(scene.store)

    return scenario


def _reap(stage: CrashStage) -> None:
    def die_holding_a_claim() -> None:
        queue, runtime = stage.open()
        stage.submit(runtime)
        _claim(queue)
        os._exit(0)

    forked(die_holding_a_claim)
    queue, _ = stage.open()
    abandoned = queue.handle.store.abandoned_claims()
    assert abandoned
    stage.is_armed = True
    _claim(queue, abandoned=abandoned)


def _enter_boot(stage: CrashStage) -> None:
    queue, runtime = stage.open()
    stage.submit(runtime, "later:0.01 go")
    row = _claim(queue)
    stage.note_step(row, "continue")
    queue.handle.store.settle_and_claim([Settlement(row.id, row.token, Advance(b"0", delay_ms=10))], ())
    queue.close()
    with closing(sqlite3.connect(stage.root / "db" / "cache.db", isolation_level=None)) as connection:
        connection.execute(f"UPDATE {META} SET value = 1 WHERE key = 'boot'")  # a delay of another boot
    _, runtime = stage.open()
    stage.is_armed = True
    runtime.submit(run_id="other", headers={"plan": "go"})


def _collect(stage: CrashStage) -> None:
    queue, runtime = stage.open()
    job_id = stage.submit(runtime)
    row = _claim(queue)
    stage.note_step(row, "continue")
    store = queue.handle.store
    for number in range(3):
        store.memo_put(job_id, row.token, MemoScope.STEP, str(number), b"value")
    store.settle_and_claim([Settlement(row.id, row.token, Advance(b"0"))], ())
    stage.is_armed = True
    assert store.sweep() == 4  # and the note of it


def _kv(stage: CrashStage) -> None:
    queue, _ = stage.open()
    queue.kv.put("key", b"old")
    stage.is_armed = True
    assert queue.kv.compare_put("key", b"old", b"new")


def _expire(stage: CrashStage) -> None:
    queue, _ = stage.open(clock=ManualClock(SystemClock().now() - timedelta(hours=2)))
    queue.kv.put("stays", b"value")
    queue.kv.put("goes", b"value", ttl=1)
    queue.close()
    queue, _ = stage.open()
    stage.is_armed = True
    assert queue.handle.store.sweep() == 1


def _effects(stage: CrashStage) -> None:
    """The end of a step with effects of every kind: all of it is there, or nothing."""
    queue, runtime = stage.open()
    queue.kv.put("count", b"1")
    queue.kv.put("old", b"value")
    stage.submit(runtime)
    row = _claim(queue)
    stage.note_step(row, "continue")
    effects = (
        Put("put", b"value", 3_600_000),
        Delete("old"),
        ComparePut("compared", None, b"value"),
        Add("count", 1),
        Insert(job(BARE, id="effected", id_given=True)),
    )
    stage.is_armed = True
    queue.handle.store.settle_and_claim([Settlement(row.id, row.token, Advance(b"0"), True, effects)], ())


def _refusal(stage: CrashStage) -> None:
    """A refused step goes back with its refusals counted."""
    queue, runtime = stage.open()
    stage.submit(runtime)
    row = _claim(queue)
    stage.is_armed = True
    queue.handle.store.settle_and_claim([Settlement(row.id, row.token, PutBack(1, "refused", is_refusal=True))], ())


def _scheduled(stage: CrashStage) -> tuple[Queue, WorkflowRuntime, ManualClock]:
    """A schedule, by a clock of one moment for all variants: its runs have the names of moments."""
    clock = ManualClock(datetime(2020, 1, 1, tzinfo=UTC))
    queue, runtime = stage.open(clock=clock)
    runtime.submit_many([])  # its hook is told of every ending
    runtime.schedule("r", every=timedelta(hours=1), spec=RunSpec(headers={"plan": "go"}, max_attempts_per_step=10))
    return queue, runtime, clock


def _define_schedule(stage: CrashStage) -> None:
    _, runtime, _ = _scheduled(stage)
    stage.is_armed = True
    runtime.schedule("r", every=timedelta(hours=1, seconds=1), spec=RunSpec(headers={"plan": "go"}))


def _move_schedule(stage: CrashStage) -> None:
    _, runtime, _ = _scheduled(stage)
    stage.is_armed = True
    runtime.pause_schedule("r")


def _drop_schedule(stage: CrashStage) -> None:
    _, runtime, _ = _scheduled(stage)
    stage.is_armed = True
    runtime.unschedule("r")


def _fire(stage: CrashStage) -> None:
    _, runtime, clock = _scheduled(stage)
    clock.advance(timedelta(hours=1))
    stage.is_armed = True
    runtime._scheduling.fire()


def _limit(store: Store) -> None:
    store.set_limit(STEPS, Limit("k*", concurrency=1))


def _limited(stage: CrashStage) -> Store:
    """Two runs of a key, of which one is parked."""
    queue, runtime = stage.open()
    store = queue.handle.store
    _limit(store)
    store.settle_limits(STEPS)
    for name in ("one", "two"):
        runtime.submit(run_id=name, limit_key="k", headers={"plan": "go"})
    return store


def _set_limit(stage: CrashStage) -> None:
    queue, runtime = stage.open()
    stage.submit(runtime)
    stage.is_armed = True
    _limit(queue.handle.store)


def _settle_limit(stage: CrashStage) -> None:
    queue, runtime = stage.open()
    for name in ("one", "two"):
        runtime.submit(run_id=name, limit_key="k", headers={"plan": "go"})
    _limit(queue.handle.store)
    stage.is_armed = True
    queue.handle.store.settle_limits(STEPS)


def _clear_limit(stage: CrashStage) -> None:
    store = _limited(stage)
    stage.is_armed = True
    store.clear_limit(STEPS, "k*")


def _count(stage: CrashStage) -> None:
    queue, runtime = stage.open()
    stage.submit(runtime)
    stage.is_armed = True
    queue.handle.store.add_to_meters({Series(STEPS, "ship", Meter.ATTEMPTS, "continued"): 2})


def _enrol(stage: CrashStage) -> None:
    queue, runtime = stage.open()
    stage.submit(runtime)
    stage.is_armed = True
    queue.handle.store.enrol()


def _pause(stage: CrashStage) -> None:
    queue, runtime = stage.open()
    stage.submit(runtime)
    stage.is_armed = True
    queue.handle.store.pause("another", is_paused=True)


def _resume(stage: CrashStage) -> None:
    queue, runtime = stage.open()
    stage.submit(runtime)
    queue.handle.store.pause("another", is_paused=True)
    stage.is_armed = True
    queue.handle.store.pause("another", is_paused=False)


def _refill(stage: CrashStage) -> None:
    clock = ManualClock(SystemClock().now() - timedelta(hours=2))
    queue, _ = stage.open(clock=clock)
    store = queue.handle.store
    store.set_limit(BARE, Limit("k", rate=Rate(1, 20)))
    store.settle_limits(BARE)
    store.insert([job(BARE, id="bare-1", limit_key="k"), job(BARE, id="bare-2", limit_key="k")])
    row = _claim(queue, BARE)
    store.settle_and_claim([Settlement(row.id, row.token, Ack())], ())
    clock.advance(0.02)
    stage.is_armed = True
    store.settle_and_claim((), [ClaimRequest((LaneClaim(BARE, 1),), 0)])


_GROUP = NewGroup("g", STEPS, 2, b"f", OnFailure.COLLECT, _WEEK_MS)


def _written(stage: CrashStage) -> Queue:
    """A store with a group that is written and not open; the log knows nothing of it."""
    queue, runtime = stage.open()
    runtime.submit_many([])  # its hook is told of every ending
    queue.handle.group_write(_GROUP, 0, _members(), None)
    return queue


def _members() -> list[NewJob]:
    headers = encode_headers({"plan": "go"})
    return [run(name, b"", queue=STEPS, headers=headers, keep_done_ms=_WEEK_MS) for name in ("g-0", "g-1")]


def _opened(stage: CrashStage) -> Queue:
    queue = _written(stage)
    queue.handle.group_open("g", b"f")
    return queue


def _write_group(stage: CrashStage) -> None:
    queue, runtime = stage.open()
    runtime.submit_many([])
    stage.is_armed = True
    queue.handle.group_write(_GROUP, 0, _members(), None)


def _open_group(stage: CrashStage) -> None:
    queue = _written(stage)
    stage.is_armed = True
    queue.handle.group_open("g", b"f")


def _release_members(stage: CrashStage) -> None:
    queue = _opened(stage)
    stage.is_armed = True
    queue.handle.store.settle_and_claim((), [ClaimRequest((LaneClaim(STEPS, 3_600_000),), 0)])


def _deliver_group(stage: CrashStage) -> None:
    queue, runtime = stage.open()
    stage.submit(runtime)
    parent = _claim(queue)
    stage.note_step(parent, "continue")
    store = queue.handle.store
    store.group_write(_GROUP._replace(total=1), 0, _members()[:1])
    store.group_open("g", b"f")
    waiting = Advance(b"0", wait=Wait(WaitKind.GROUP, "g"))
    store.settle_and_claim([Settlement(parent.id, parent.token, waiting)], ())
    member = _claim(queue)
    me = {"run": "g-0", "job": member.id, "step": 0, "attempt": 1}
    stage.journal.note("begin", **me, max=member.max_attempts)
    stage.journal.note("end", **me, outcome="succeed", is_set=False)
    stage.is_armed = True
    store.settle_and_claim([Settlement(member.id, member.token, Ack(result=b"0"))], ())


def _cancel_group(stage: CrashStage) -> None:
    queue = _opened(stage)
    stage.is_armed = True
    queue.handle.store.group_cancel("g")


def _forget_group(stage: CrashStage) -> None:
    queue, runtime = stage.open()
    runtime.submit_group("g", [])
    stage.is_armed = True
    queue.handle.group_forget("g")


def _drop_members(stage: CrashStage) -> None:
    def die_writing() -> None:
        _written(stage)
        os._exit(0)

    forked(die_writing)
    queue, _ = stage.open()
    stage.is_armed = True
    queue.handle.sweep()


def _subscribe(stage: CrashStage) -> None:
    queue, _ = stage.open()
    stage.is_armed = True
    queue.handle.store.subscribe(STEPS, Subscription("steps.terminal", 3, None))


def _unsubscribe(stage: CrashStage) -> None:
    _, runtime = stage.open()
    stage.submit(runtime)
    stage.is_armed = True
    runtime.unregister_hook()


def _opening(stage: CrashStage) -> None:
    stage.is_armed = True
    _, runtime = stage.open()
    stage.submit(runtime)


def _migrate(stage: CrashStage) -> None:
    queue, runtime = stage.open()
    stage.submit(runtime)
    queue.close()
    with closing(sqlite3.connect(stage.root / "db" / "cache.db", isolation_level=None)) as connection:
        _put_back_to_version_1(connection)
    stage.is_armed = True
    stage.open()


def _put_back_to_version_1(connection: sqlite3.Connection) -> None:
    """Go the way of the upgrades back: to what a store looks like to which version 1 had come."""
    for name in OLD_NAMES:
        connection.execute(f"DROP VIEW {name}")
    of_features = [text.split()[5] for text in features.SCHEMA if text.startswith("CREATE TABLE")]
    for table in of_features:
        connection.execute(f"DROP TABLE {table}")
    for statement in _TO_VERSION_1:
        connection.execute(statement)


_OF_QUEUE_SINCE = (
    *("paused", "limited", "timed", "parked", "groups", "bare_waiting", "bare_claimed", "cancelling"),
    *("runs_succeeded", "runs_failed", "runs_cancelled", "cancelling_waiting"),
)

_TO_VERSION_1 = (
    "DROP INDEX taquba_job_cancelling",
    "DROP INDEX taquba_job_pending",
    "DROP INDEX taquba_job_keyed",
    *(f"ALTER TABLE {JOB} DROP COLUMN {name}_crc" for name in ("payload", "headers", "result")),
    *(
        f"ALTER TABLE {JOB} DROP COLUMN {name}"
        for name in ("rank", "parked", "limit_key", "is_retry", "cancel_reason", "aging_ms")
    ),
    *(f"ALTER TABLE {QUEUE} DROP COLUMN {name}" for name in _OF_QUEUE_SINCE),
    f"ALTER TABLE {ATTEMPT} DROP COLUMN owner",
    f"ALTER TABLE {JOB} RENAME COLUMN belongings TO wide",
    f"ALTER TABLE {QUEUE} RENAME COLUMN subscription TO observer",
    f"ALTER TABLE {JOB} RENAME TO taquba_job",
    f"ALTER TABLE {QUEUE} RENAME TO taquba_queue",
    f"ALTER TABLE {OVERFLOW} RENAME TO taquba_part",
    f"ALTER TABLE {ATTEMPT} RENAME TO taquba_attempt",
    "CREATE INDEX taquba_job_pending ON taquba_job (queue, priority, place) WHERE status = 'pending'",
    f"UPDATE {META} SET value = 1 WHERE key = 'schema'",
)


def _back_up(stage: CrashStage) -> None:
    queue, runtime = stage.open()
    stage.submit(runtime)
    stage.is_armed = True
    queue.backup(stage.root.with_name("copy"))


def _take_over(stage: CrashStage) -> None:
    def back_up_holding_a_claim() -> None:
        queue, runtime = stage.open(stage.root.with_name("original"))
        stage.submit(runtime)
        _claim(queue)
        queue.backup(stage.root)

    assert forked(back_up_holding_a_claim) == 0
    stage.is_armed = True
    stage.open()


def _close(stage: CrashStage) -> None:
    queue, runtime = stage.open()
    stage.submit(runtime)
    stage.is_armed = True
    queue.close()


def _checkpoint(stage: CrashStage) -> None:
    _, runtime = stage.open(checkpoint_bytes=1)
    stage.submit(runtime)
    stage.is_armed = True
    runtime.submit(run_id="other", headers={"plan": "go"})


def _running(stage: CrashStage) -> None:
    _, runtime = stage.open()
    stage.submit(runtime)
    stage.is_armed = True
    runtime.run_until_idle()


def _worker(stage: CrashStage) -> None:
    queue, _ = stage.open()
    queue.enqueue(BARE, b"x", job_id="bare-1")
    stage.is_armed = True
    over = threading.Event()
    run_worker(queue, BARE, lambda *_: over.set(), shutdown=over)


#: By the transition whose commit it stands around; those of the table as the catalogue makes them.
TRANSITIONS: dict[str, Callable[[CrashStage], None]] = {
    **{case.name: _case(case.name) for case in CASES if case.name == case.transition},
    # Of a dead process, which only another one can bring about.
    "reap": _reap,
    # A notification that is dropped is an ending that nobody is told of, which the checker takes for a loss.
    "drop": _case("drop what is scheduled"),
    "notify": _case("ack"),
    "set_limit": _set_limit,
    "clear_limit": _clear_limit,
    "settle_limit": _settle_limit,
    "refill": _refill,
    "pause": _pause,
    "resume": _resume,
    "subscribe": _subscribe,
    "unsubscribe": _unsubscribe,
    "enter_boot": _enter_boot,
    "collect": _collect,
    "kv": _kv,
    "expire": _expire,
    "effects": _effects,
    "put_back": _refusal,
    "fire": _fire,
    "define_schedule": _define_schedule,
    "move_schedule": _move_schedule,
    "drop_schedule": _drop_schedule,
    "write_group": _write_group,
    "open_group": _open_group,
    "release_members": _release_members,
    "deliver_group": _deliver_group,
    "cancel_group": _cancel_group,
    "forget_group": _forget_group,
    "discard_group": _drop_members,
    "meter": _count,
    "enrol": _enrol,
    "drop_member": _drop_members,
}

#: By the part of the program that it stands around.
PARTS: dict[str, Callable[[CrashStage], None]] = {
    "create-file": _opening,
    "write-settings": _opening,
    "commit-schema": _opening,
    "lock-owner": _opening,
    "take-owner": _opening,
    "migrate-2": _migrate,
    "migrate-3": _migrate,
    "migrate-4": _migrate,
    "backup-piece": _back_up,
    "backup-place": _back_up,
    "backup-sync": _back_up,
    "take-over": _take_over,
    "close": _close,
    "checkpoint": _checkpoint,
    "runner": _running,
    "hook": _running,
    "worker": _worker,
}


def forked(what: Callable[[], None]) -> int:
    """Run it in a child of this process, which has no thread and no open store; return how the child ended."""
    pid = os.fork()
    if pid == 0:
        try:
            what()
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)  # without closing anything: the store is left as at this instant
    return os.waitpid(pid, 0)[1]


def main() -> None:
    name, directory = sys.argv[1], Path(sys.argv[2])
    scenario = (TRANSITIONS | PARTS)[name]
    for variant in VARIANTS:
        (directory / variant).mkdir()
        status = forked(lambda variant=variant: scenario(CrashStage(directory / variant, name, variant)))  # type: ignore[misc]
        wanted = 0 if variant == "whole" else signal.SIGKILL
        if status != wanted:
            raise SystemExit(f"{name}, {variant}: ended with {status}, not {wanted}")


if __name__ == "__main__":
    main()
