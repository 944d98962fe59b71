"""Until when runs may take."""

from __future__ import annotations

from typing import Final

from taquba_workflow_sync.storage.relational.rows import Held
from taquba_workflow_sync.storage.relational.sql.names import JOB, QUEUE, columns, number, table

TIMING: Final = table("timing")


SCHEMA_OF_TIMING: Final = (
    # ``ends_ms``: when a claim must look after the run next, while it is active; of a claimed one, when it is to be
    # asked to stop. ``is_late``: it was, for its deadline. ``deadline_after_ms``: what a retry begins anew.
    f"""CREATE TABLE IF NOT EXISTS {TIMING} (
        job INTEGER PRIMARY KEY REFERENCES {JOB} (seq),
        queue INTEGER NOT NULL,
        deadline_ms INTEGER,
        deadline_after_ms INTEGER,
        expires_ms INTEGER,
        ends_ms INTEGER,
        is_late INTEGER NOT NULL DEFAULT 0
    )""",
    f"""CREATE INDEX IF NOT EXISTS taquba_timing_ends ON {TIMING} (queue, ends_ms) WHERE ends_ms IS NOT NULL""",
)


# enqueue: a run with an end
ADD_TIMING = f"""INSERT OR REPLACE INTO {TIMING} (job, queue, deadline_ms, deadline_after_ms, expires_ms, ends_ms)
    VALUES (?, ?, ?, ?, ?, ?)"""


# how many active runs of a queue have an end: a queue without any is not looked at
COUNT_TIMED = f"UPDATE {QUEUE} SET timed = max(timed + ?, 0) WHERE id = ?"


# a run's limits; what is no number is none
FIND_TIMING = f"""SELECT {number("deadline_ms")}, {number("expires_ms")}, {number("deadline_after_ms")},
    {number("is_late")} FROM {TIMING} WHERE job = ?"""


# exceed_deadline, expire, request_stop: what is to be looked after now
LATE = f"""SELECT job, {number("deadline_ms")}, {number("expires_ms")}, {number("is_late")}
    FROM {TIMING} INDEXED BY taquba_timing_ends
    WHERE queue = ? AND ends_ms IS NOT NULL AND ends_ms <= ? ORDER BY ends_ms LIMIT ?"""


FIND_LATE = f"SELECT {columns(Held)} FROM {JOB} WHERE seq = ? AND finished_ms IS NULL"


# claim: what is held is looked after at its deadline only
HOLD_TIMING = f"UPDATE {TIMING} SET ends_ms = deadline_ms WHERE job = ?"


# request_stop, or a cancellation that goes before it: nothing more is to be done until the claim ends
STOP_TIMING = f"UPDATE {TIMING} SET ends_ms = NULL, is_late = ? WHERE job = ?"


# nack, put_back, advance, reap: it waits again, and has started
WAIT_TIMING = f"UPDATE {TIMING} SET ends_ms = deadline_ms, expires_ms = NULL WHERE job = ?"


# release: it waits again, and has not started by this claim
RELEASE_TIMING = f"""UPDATE {TIMING} SET ends_ms = min(ifnull(deadline_ms, expires_ms), ifnull(expires_ms, deadline_ms))
    WHERE job = ?"""


# requeue, retry: what is left of it
RENEW_TIMING = f"UPDATE {TIMING} SET deadline_ms = ?, expires_ms = NULL, ends_ms = ?, is_late = 0 WHERE job = ?"


# running: was a claim asked to stop for its deadline alone?
IS_STOPPED_FOR_DEADLINE = f"SELECT 1 FROM {TIMING} WHERE job = ? AND is_late = 1"


DROP_TIMING = f"DELETE FROM {TIMING} WHERE job = ?"


# when a claim must look after a run of a queue next
NEXT_END = f"""SELECT min(ends_ms) FROM {TIMING} INDEXED BY taquba_timing_ends
    WHERE queue = (SELECT id FROM {QUEUE} WHERE name = ? AND timed > 0) AND ends_ms IS NOT NULL"""
