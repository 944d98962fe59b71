"""What happened to a run that its row and its attempts do not tell."""

from __future__ import annotations

from typing import Final

from taquba_workflow_sync.storage.port.event import EventKind
from taquba_workflow_sync.storage.port.job import AttemptRow
from taquba_workflow_sync.storage.relational.sql.names import ATTEMPT, JOB, columns, table
from taquba_workflow_sync.storage.relational.sql.owner import OWNER

EVENT: Final = table("event")


SCHEMA_OF_EVENT: Final = (
    # ``number`` counts a job's events; ``place`` says between which of its claims one belongs.
    f"""CREATE TABLE IF NOT EXISTS {EVENT} (
        id INTEGER PRIMARY KEY,
        job INTEGER NOT NULL REFERENCES {JOB} (seq),
        number INTEGER NOT NULL,
        place INTEGER NOT NULL,
        at_ms INTEGER NOT NULL,
        kind TEXT NOT NULL,
        step INTEGER NOT NULL,
        outcome TEXT,
        error TEXT,
        detail TEXT,
        UNIQUE (job, number)
    )""",
)


# A damaged number must not keep the next event from being noted, nor the transition that notes it.
_ADD: Final = f"""INSERT OR REPLACE INTO {EVENT} (job, number, place, at_ms, kind, step, outcome, error, detail)
    SELECT seq, ifnull((SELECT CAST(max(number) AS INTEGER) FROM {EVENT} WHERE job = {JOB}.seq), 0) + 1,
        2 * ordinal - (status = 'claimed'), {{what}} FROM {JOB} WHERE seq = ? RETURNING number"""


# an event of now: when, its kind and its detail
NOTE_EVENT = _ADD.format(what="?, ?, step, NULL, NULL, ?")


# retry: the termination that it overwrites
NOTE_TERMINATION = _ADD.format(
    what=f"ifnull(finished_ms, 0), '{EventKind.TERMINATED.value}', step, 'failed', last_error, NULL"
)


# release: what was noted under a claim that never was belongs after the one before
LEAVE_CLAIM = f"UPDATE {EVENT} SET place = ? WHERE job = ? AND place > ?"


DROP_EVENT = f"DELETE FROM {EVENT} WHERE job = ? AND number = ?"


NOTES = f"SELECT place, at_ms, kind, step, outcome, error, detail FROM {EVENT} WHERE job = ? ORDER BY number"


# the attempts of a run, with the processes that made them
ATTEMPTS_WITH_WORKERS = f"""SELECT {columns(AttemptRow, "a.")}, o.host, o.pid
    FROM {ATTEMPT} AS a LEFT JOIN {OWNER} AS o ON o.id = a.owner WHERE a.job = ? ORDER BY a.ordinal"""


# what a deleted job has left
DISCARDED_EVENT = f"SELECT id, ifnull(length(error), 0) + ifnull(length(detail), 0) FROM {EVENT} WHERE job = ? LIMIT ?"


DROP_DISCARDED_EVENT = f"DELETE FROM {EVENT} WHERE id = ?"
