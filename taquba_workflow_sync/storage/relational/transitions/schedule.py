"""Schedules: defined, paused, dropped; and fired, each firing once, whoever else tries."""

from __future__ import annotations

from collections.abc import Sequence

from taquba_workflow_sync.errors import InputMismatchError
from taquba_workflow_sync.storage.port.job import NewJob
from taquba_workflow_sync.storage.port.schedule import Fired, Mark, NewSchedule, Seen
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.overflow import checksum
from taquba_workflow_sync.storage.relational.rows import KeptSchedule
from taquba_workflow_sync.storage.relational.transaction import Transaction
from taquba_workflow_sync.storage.relational.transitions.enqueue import insert


def define(tx: Transaction, new: NewSchedule, expected: int | None) -> bool:
    """Write a definition where the one is that was expected, or none is; whether that was so."""
    kept = _find(tx, new.queue, new.name)
    if (None if kept is None else kept.revision) != expected:
        return False
    tx.transitions.add("define_schedule")
    queue = tx.make_queue(new.queue)
    revision = tx.next_seq()
    if kept is None:
        number = revision
        tx.execute(sql.ADD_SCHEDULE, (number, queue, new.name, new.kind, revision, new.defined_ms, *new.mark))
    else:
        number = kept.id
        tx.execute(sql.REDEFINE_SCHEDULE, (new.kind, revision, new.defined_ms, *new.mark, number))
    tx.execute(
        sql.PUT_SCHEDULE_SPEC,
        (number, new.definition, new.payload, checksum(new.definition), checksum(new.payload)),
    )
    tx.woken.add(new.queue)  # who serves the queue has something else to wait for
    return True


def drop(tx: Transaction, queue: str, name: str) -> bool:
    """Remove a schedule; whether there was one."""
    kept = _find(tx, queue, name)
    if kept is None:
        return False
    tx.transitions.add("drop_schedule")
    tx.execute(sql.DROP_SCHEDULE, (kept.id,))
    tx.execute(sql.DROP_SCHEDULE_SPEC, (kept.id,))
    return True


def move(tx: Transaction, queue: str, name: str, seen: Seen, mark: Mark, *, is_paused: bool) -> bool:
    """Pause a schedule, or let it go on from a mark; whether it was as it was seen."""
    kept = _find(tx, queue, name)
    if kept is None or _seen(kept) != seen:
        return False
    tx.transitions.add("move_schedule")
    tx.execute(sql.MOVE_SCHEDULE, (int(is_paused), tx.next_seq(), *mark, kept.id))
    tx.woken.add(queue)
    return True


def fire(
    tx: Transaction, queue: str, name: str, seen: Seen, jobs: Sequence[NewJob], mark: Mark | None, *, skips_active: bool
) -> Fired | None:
    """Put in the runs and move the mark, if the schedule is as it was seen."""
    kept = _find(tx, queue, name)
    if kept is None or _seen(kept) != seen:
        return None
    tx.transitions.add("fire")
    fired = Fired([], [], [])
    last_job = kept.last_job
    for job in jobs:
        assert job.run is not None
        run_id = job.run.run_id
        if skips_active and _is_active(tx, last_job):
            fired.skipped.append(run_id)
            continue
        try:
            (answer,) = insert(tx, [job])
        except InputMismatchError:  # raised before anything of this run was written
            fired.taken.append(run_id)
            continue
        last_job = answer.job_id
        fired.runs.append(run_id)
    if mark is not None:
        tx.execute(sql.MARK_SCHEDULE, (*mark, kept.id))
    if fired.runs:
        tx.execute(sql.LAST_RUN_OF_SCHEDULE, (fired.runs[-1], last_job, kept.id))
    return fired


def _find(tx: Transaction, queue: str, name: str) -> KeptSchedule | None:
    number = tx.find_queue(queue)
    row = None if number is None else tx.execute(sql.FIND_SCHEDULE, (number, name)).fetchone()
    return None if row is None else KeptSchedule._make(row)


def _is_active(tx: Transaction, job_id: str | None) -> bool:
    return job_id is not None and tx.execute(sql.IS_LAST_RUN_ACTIVE, (job_id,)).fetchone() is not None


def _seen(kept: KeptSchedule) -> Seen:
    return Seen(kept.revision, kept.watermark_ms)
