"""A store in which everything that can be stored is; and all of it, told."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from taquba_workflow_sync import (
    Continue,
    ContinueOnSignal,
    Effects,
    Fail,
    Queue,
    RunSpec,
    Step,
    StepError,
    StepOutcome,
    Succeed,
    WorkflowClient,
    WorkflowRuntime,
)
from taquba_workflow_sync.storage.embedded.cache import DATABASE_NAME
from taquba_workflow_sync.storage.moving.tables import copied
from taquba_workflow_sync.storage.port.progress import ProgressReport
from taquba_workflow_sync.storage.port.store import Store
from tests.storage.bench import dump

WIDE = bytes(range(256)) * 40
LONG = {f"name-{number}": "ä" * 400 for number in range(8)}
_DAY = timedelta(days=1)
_NEXT_YEAR = datetime(2040, 1, 1, tzinfo=UTC)


def _step(step: Step) -> StepOutcome:
    step.memo.put("of the step", WIDE)
    step.run_memo.put("of the run", b"\x00\xff")
    step.effects.put(f"by {step.run_id}", WIDE, ttl=3600)
    name = str(step.run_id)
    if name.startswith("waits"):
        return ContinueOnSignal(WIDE, "go", timeout=3600)
    if name == "parent":
        step.effects.submit(RunSpec(run_id="child", input=WIDE, run_at=_NEXT_YEAR))
    if name.startswith("member"):
        return Fail("no") if name.endswith("2") else Succeed(WIDE)
    if name.startswith("flaky"):
        raise StepError.transient("not\x00yet ü")
    if name.startswith("refused"):
        step.effects.compare_put("of nobody", b"what is not there", b"")
    if name.startswith("broken"):
        raise StepError.permanent("never")
    if step.step_number < 3:
        return Continue(WIDE + bytes([step.step_number]))
    return Succeed(WIDE)


def furnish(queue: Queue) -> None:
    """Have runs in every state, with all that can belong to them, and all that a store has beside."""
    client = WorkflowClient(queue)
    flaky = WorkflowClient(queue, queue_name="flaky")
    runs = [
        RunSpec(run_id="plain", input=b"\x00small", headers={"a": "b"}),
        RunSpec(run_id="large", input=WIDE, headers=LONG),
        RunSpec(run_id="parent", input=b"p"),
        RunSpec(run_id="waits-1"),
        RunSpec(run_id="waits-2", deadline=_DAY),
        RunSpec(run_id="broken"),
    ]
    client.submit_many(runs)
    flaky.submit(run_id="refused")
    flaky.set_limit(rate=(1000, 3600))
    flaky.submit(run_id="flaky-1", step_timeout=30, backoff=(3600, 7200))
    with_members = [RunSpec(run_id=f"member-{number}", input=WIDE) for number in range(4)]
    client.submit_group("ended", with_members)
    # A retry that waits for its backoff is waited for: not here.
    for name in (client.queue_name, flaky.queue_name):
        WorkflowRuntime(queue, _step, queue_name=name).run_until_idle(None if name == client.queue_name else 0.3)
        assert queue.stats(name).claimed == 0
    client.retry("broken")
    client.cancel("broken", reason="enough")
    client.signal("waits-1", "other", WIDE, signal_id="once")
    client.signal("waits-2", "go", b"\x00")
    client.submit(run_id="cancelled", input=WIDE, headers=LONG)
    client.cancel("cancelled", reason="enough")
    later = [
        RunSpec(run_id="delayed", run_at=_NEXT_YEAR),
        RunSpec(run_id="ends", deadline=_DAY, expires_after=timedelta(hours=2)),
        RunSpec(run_id="urgent", priority=-5, step_timeout=5, max_attempts_per_step=7),
    ]
    client.submit_many(later)
    client.submit_many([RunSpec(run_id=f"limited-{number}", limit_key=f"k-{number % 2}") for number in range(5)])
    client.set_limit(key="k-*", concurrency=1)
    client.set_limit(key="x*", rate=(3, 60))
    while queue.handle.store.settle_limits(client.queue_name):
        pass
    client.submit_group("open", [RunSpec(run_id=f"open-{number}", input=WIDE) for number in range(3)])
    client.schedule("hourly", every=timedelta(hours=1), spec=RunSpec(input=WIDE, headers=LONG))
    client.schedule("paused", every=timedelta(hours=2), spec=RunSpec())
    client.pause_schedule("paused")
    bare = [queue.enqueue("bare", WIDE, dedup_key="only", headers=LONG, priority=3), queue.enqueue("bare", b"")]
    claim = queue.claim("bare")
    assert claim is not None and claim.job.id in bare
    report = ProgressReport(claim.job.id, claim.token, 0.5, 3, "ü")
    queue.handle.store.report_progress([report])
    queue.advance(claim, b"", delay=3600)  # by the clock of this boot, where there is one
    WorkflowClient(queue, queue_name="still").pause()
    queue.kv.put("wide", WIDE)
    queue.kv.put("passing", b"", ttl=3600)
    effects = Effects()
    effects.add("count", 7)
    effects.enqueue("other", WIDE, job_id="named")
    queue.commit(effects)
    queue.handle.put_graph("workflow-steps", '{"nodes": ["ü"]}')


def told(store: Store) -> dict[str, Any]:
    """All that the port can show, but for what changes by itself: how long until there is something to do."""
    all_of_it = dump(store)
    del all_of_it["next"]
    queues = all_of_it["counts"]
    return {
        **all_of_it,
        "limits": {queue: store.limits(queue) for queue in queues},
        "paused": {queue: store.is_paused(queue) for queue in queues},
        "graphs": store.graphs(),
    }


def rows_in(place: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of a directory's database, by table, whether a move has put them away or not; times by the wall."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    with closing(sqlite3.connect(place / "db" / DATABASE_NAME)) as connection:
        there = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for table in copied():
            name = table.hidden if table.hidden in there else table.name
            if name in there:
                columns, key = ", ".join(table.columns), ", ".join(table.key)
                rows = connection.execute(f"SELECT {columns} FROM {name} ORDER BY {key}").fetchall()
                found[table.name] = [_by_wall(table.columns, row) for row in rows]
    return found


def _by_wall(columns: tuple[str, ...], row: tuple[Any, ...]) -> tuple[Any, ...]:
    values = dict(zip(columns, row, strict=True))
    if values.get("due_clock") == 1:
        values |= {"due_clock": 0, "due_ms": values["due_ms"] and values["run_at_ms"]}
    if "limited" in values:
        values["paused"] &= 1  # a move has it be closed besides
    if isinstance(values.get("last_error"), str) and "\0" in values["last_error"]:
        values["last_error"] = values["last_error"].replace("\0", "\\x00")
    return tuple(values.values())


def tables_with_rows(place: Path) -> set[str]:
    return {name for name, rows in rows_in(place).items() if rows}
