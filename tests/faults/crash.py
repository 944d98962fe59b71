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
from datetime import timedelta
from pathlib import Path

from taquba_workflow_sync import Queue, RunSpec, WorkflowRuntime, run_worker
from taquba_workflow_sync.clock import SystemClock
from taquba_workflow_sync.storage.embedded import migrations
from taquba_workflow_sync.storage.embedded.sql.names import ATTEMPT, JOB, META, OVERFLOW, QUEUE
from taquba_workflow_sync.storage.embedded.sql.upgrade import OLD_NAMES_1
from taquba_workflow_sync.storage.port.claim import ClaimedRow, ClaimRequest, LaneClaim
from taquba_workflow_sync.storage.port.notification import Subscription
from taquba_workflow_sync.storage.port.presence import Abandoned
from taquba_workflow_sync.storage.port.settlement import (
    Ack,
    Action,
    Advance,
    DeadLetter,
    Nack,
    Release,
    SettleCancelled,
    Settlement,
)
from taquba_workflow_sync.storage.port.status import Verdict
from taquba_workflow_sync.testing import ManualClock
from tests.faults.journal import Journal
from tests.faults.lab import LabRunner, hook_of, open_queue

STEPS = "steps"
BARE = "bare"
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


class Stage:
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


def _claim(queue: Queue, name: str = STEPS, abandoned: Abandoned | None = None) -> ClaimedRow:
    _, rows = queue.handle.store.settle_and_claim(
        (), [ClaimRequest((LaneClaim(name, 3_600_000),), 1, abandoned=abandoned)]
    )
    return rows[0]


def _settling(action: Action, plan: str = "go go") -> Callable[[Stage], None]:
    def scenario(stage: Stage) -> None:
        queue, runtime = stage.open()
        stage.submit(runtime, plan)
        row = _claim(queue)
        if not isinstance(action, Release):  # its step never started
            me = {"run": "r", "job": row.id, "step": row.step, "attempt": row.attempts}
            stage.journal.note("begin", **me, max=row.max_attempts)
            outcome = "continue" if isinstance(action, Advance) else "raise"
            stage.journal.note("end", **me, outcome=outcome, is_set=False)
        stage.is_armed = True
        refusals, _ = queue.handle.store.settle_and_claim([Settlement(row.id, row.token, action)], ())
        assert refusals == [None]

    return scenario


def _enqueue(stage: Stage) -> None:
    _, runtime = stage.open()
    stage.is_armed = True
    stage.submit(runtime)


def _claims(stage: Stage) -> None:
    queue, runtime = stage.open()
    stage.submit(runtime)
    stage.is_armed = True
    _claim(queue)


def _promote(stage: Stage) -> None:
    clock = ManualClock(SystemClock().now() - timedelta(hours=1))
    queue, runtime = stage.open(clock=clock)
    stage.submit(runtime, run_at=clock.now() + timedelta(seconds=10))
    clock.advance(20)
    stage.is_armed = True
    _claim(queue)


def _renew(stage: Stage) -> None:
    queue, runtime = stage.open()
    stage.submit(runtime)
    row = _claim(queue)
    stage.is_armed = True
    queue.handle.store.renew([row.token], 7_200_000)


def _cancel(stage: Stage) -> None:
    _, runtime = stage.open()
    stage.submit(runtime)
    stage.is_armed = True
    runtime.cancel("r")


def _request_cancel(stage: Stage) -> None:
    queue, runtime = stage.open()
    stage.submit(runtime)
    _claim(queue)
    stage.is_armed = True
    runtime.cancel("r")


def _reap(stage: Stage) -> None:
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


def _requeue(stage: Stage) -> None:
    queue, _ = stage.open()
    job_id = queue.enqueue(BARE, b"x", job_id="bare-1")
    row = _claim(queue, BARE)
    queue.handle.store.settle_and_claim([Settlement(row.id, row.token, DeadLetter("broken"))], ())
    stage.is_armed = True
    queue.requeue_dead_job(job_id)


def _retry(stage: Stage) -> None:
    queue, runtime = stage.open()
    job = stage.submit(runtime, "fail")
    row = _claim(queue)
    queue.handle.store.settle_and_claim([Settlement(row.id, row.token, Ack(Verdict.FAILED, error="as planned"))], ())
    stage.is_armed = True
    stage.journal.note("retrying", run="r", job=job)
    runtime.retry("r")


def _sweep(stage: Stage) -> None:
    clock = ManualClock(SystemClock().now() - timedelta(days=30))
    queue, runtime = stage.open(clock=clock)
    runtime.submit(run_id="r", headers={"plan": "go"})  # not in the log: it is to be gone
    runtime.cancel("r")
    clock.advance(timedelta(days=8))
    stage.is_armed = True
    queue.handle.store.sweep()


def _quarantine(stage: Stage) -> None:
    queue, runtime = stage.open()
    stage.submit(runtime)
    with closing(sqlite3.connect(stage.root / "db" / "cache.db", isolation_level=None)) as connection:
        connection.execute(f"UPDATE {JOB} SET attempts = max_attempts")  # no claim can take it
    stage.is_armed = True
    queue.handle.store.settle_and_claim((), [ClaimRequest((LaneClaim(STEPS, 3_600_000),), 1)])


def _enter_boot(stage: Stage) -> None:
    queue, runtime = stage.open()
    stage.submit(runtime, "later:0.01 go")
    row = _claim(queue)
    me = {"run": "r", "job": row.id, "step": row.step, "attempt": row.attempts}
    stage.journal.note("begin", **me, max=row.max_attempts)
    stage.journal.note("end", **me, outcome="continue", is_set=False)
    queue.handle.store.settle_and_claim([Settlement(row.id, row.token, Advance(b"0", delay_ms=10))], ())
    queue.close()
    with closing(sqlite3.connect(stage.root / "db" / "cache.db", isolation_level=None)) as connection:
        connection.execute(f"UPDATE {META} SET value = 1 WHERE key = 'boot'")  # a delay of another boot
    _, runtime = stage.open()
    stage.is_armed = True
    runtime.submit(run_id="other", headers={"plan": "go"})


def _subscribe(stage: Stage) -> None:
    queue, _ = stage.open()
    stage.is_armed = True
    queue.handle.store.subscribe(STEPS, Subscription("steps.terminal", 3, None))


def _unsubscribe(stage: Stage) -> None:
    _, runtime = stage.open()
    stage.submit(runtime)
    stage.is_armed = True
    runtime.unregister_hook()


def _drop(stage: Stage) -> None:
    queue, runtime = stage.open()
    stage.submit(runtime)
    queue.enqueue("steps.terminal", b"waits there", job_id="bare-1")
    stage.is_armed = True
    runtime.unregister_hook("drop")


def _opening(stage: Stage) -> None:
    stage.is_armed = True
    _, runtime = stage.open()
    stage.submit(runtime)


def _migrate(stage: Stage) -> None:
    queue, runtime = stage.open()
    stage.submit(runtime)
    queue.close()
    with closing(sqlite3.connect(stage.root / "db" / "cache.db", isolation_level=None)) as connection:
        for statement in _TO_VERSION_1:
            connection.execute(statement)
    stage.is_armed = True
    stage.open()


#: The way back of ``sql.TO_VERSION_2``: what the store looks like to which version 1 had come.
_TO_VERSION_1 = (
    *(f"DROP VIEW {name}" for name in OLD_NAMES_1),
    "DROP INDEX taquba_job_cancelling",
    *(f"ALTER TABLE {JOB} DROP COLUMN {name}_crc" for name in ("payload", "headers", "result")),
    f"ALTER TABLE {JOB} RENAME COLUMN overflow TO wide",
    f"ALTER TABLE {QUEUE} RENAME COLUMN subscription TO observer",
    f"ALTER TABLE {JOB} RENAME TO taquba_job",
    f"ALTER TABLE {QUEUE} RENAME TO taquba_queue",
    f"ALTER TABLE {OVERFLOW} RENAME TO taquba_part",
    f"ALTER TABLE {ATTEMPT} RENAME TO taquba_attempt",
    f"UPDATE {META} SET value = 1 WHERE key = 'schema'",
)


def _back_up(stage: Stage) -> None:
    queue, runtime = stage.open()
    stage.submit(runtime)
    stage.is_armed = True
    queue.backup(stage.root.with_name("copy"))


def _take_over(stage: Stage) -> None:
    def back_up_holding_a_claim() -> None:
        queue, runtime = stage.open(stage.root.with_name("original"))
        stage.submit(runtime)
        _claim(queue)
        queue.backup(stage.root)

    assert forked(back_up_holding_a_claim) == 0
    stage.is_armed = True
    stage.open()


def _close(stage: Stage) -> None:
    queue, runtime = stage.open()
    stage.submit(runtime)
    stage.is_armed = True
    queue.close()


def _checkpoint(stage: Stage) -> None:
    _, runtime = stage.open(checkpoint_bytes=1)
    stage.submit(runtime)
    stage.is_armed = True
    runtime.submit(run_id="other", headers={"plan": "go"})


def _running(stage: Stage) -> None:
    _, runtime = stage.open()
    stage.submit(runtime)
    stage.is_armed = True
    runtime.run_until_idle()


def _worker(stage: Stage) -> None:
    queue, _ = stage.open()
    queue.enqueue(BARE, b"x", job_id="bare-1")
    stage.is_armed = True
    over = threading.Event()
    run_worker(queue, BARE, lambda *_: over.set(), shutdown=over)


#: By the transition whose commit it stands around.
TRANSITIONS: dict[str, Callable[[Stage], None]] = {
    "enqueue": _enqueue,
    "claim": _claims,
    "promote": _promote,
    "ack": _settling(Ack(Verdict.SUCCEEDED, b"0"), "go"),
    "advance": _settling(Advance(b"0")),
    "nack": _settling(Nack("boom", 1)),
    "dead_letter": _settling(DeadLetter("broken")),
    "settle_cancelled": _settling(SettleCancelled("enough")),
    "release": _settling(Release()),
    "renew": _renew,
    "cancel": _cancel,
    "request_cancel": _request_cancel,
    "reap": _reap,
    "requeue": _requeue,
    "retry": _retry,
    "sweep": _sweep,
    "notify": _settling(Ack(Verdict.SUCCEEDED, b"0"), "go"),
    "subscribe": _subscribe,
    "unsubscribe": _unsubscribe,
    "drop": _drop,
    "quarantine": _quarantine,
    "enter_boot": _enter_boot,
}

#: By the part of the program that it stands around.
PARTS: dict[str, Callable[[Stage], None]] = {
    "create-file": _opening,
    "write-settings": _opening,
    "commit-schema": _opening,
    "lock-owner": _opening,
    "take-owner": _opening,
    "migrate-2": _migrate,
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
        status = forked(lambda variant=variant: scenario(Stage(directory / variant, name, variant)))  # type: ignore[misc]
        wanted = 0 if variant == "whole" else signal.SIGKILL
        if status != wanted:
            raise SystemExit(f"{name}, {variant}: ended with {status}, not {wanted}")


if __name__ == "__main__":
    main()
