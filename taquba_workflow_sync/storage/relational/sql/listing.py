"""Listings: the page, what narrows it, and which index walks it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from taquba_workflow_sync.storage.port.retention import SHORTEST_RETENTION_MS
from taquba_workflow_sync.storage.port.status import JobStatus, Verdict
from taquba_workflow_sync.storage.relational.belongings import Belonging
from taquba_workflow_sync.storage.relational.rows import ShownRow
from taquba_workflow_sync.storage.relational.sql.names import CHILD, GROUP, JOB, MEMBER, OVERFLOW, QUEUE, columns

#: The columns that are shown, of ``j`` (job) and ``q`` (queue).
SHOWN: Final = columns(ShownRow, "j.").replace("j.queue_name", "q.name")

# One page of a queue, in the order of submission; and where so many rows of an index end, if another one follows.
PAGE: Final = f"""SELECT {SHOWN} FROM {JOB} AS j {{index}} JOIN {QUEUE} AS q ON j.queue = q.id
    WHERE j.queue = ? AND j.seq > ? {{where}} ORDER BY j.seq LIMIT ?"""
END_OF_EXAMINED: Final = f"""SELECT j.seq FROM {JOB} AS j {{index}} WHERE j.queue = ? AND j.seq > ? {{where}}
    ORDER BY j.seq LIMIT 2 OFFSET ?"""
UP_TO: Final = "AND j.seq <= ?"
# The same of what a run has spawned, in whichever queue.
END_OF_EXAMINED_CHILDREN: Final = f"""SELECT c.job FROM {CHILD} AS c WHERE c.parent = ? AND c.job > ?
    ORDER BY c.job LIMIT 2 OFFSET ?"""


def backwards(statement: str) -> str:
    """Return a page's statement for the newest rows first."""
    for key in ("j.seq", "c.job"):
        for one, other in (("{} > ?", "{} < ?"), ("{} <= ?", "{} >= ?"), ("BY {}", "BY {} DESC")):
            statement = statement.replace(one.format(key), other.format(key))
    return statement


# Whether a row is still one that a listing found.
STILL_FITS: Final = f"SELECT j.belongings FROM {JOB} AS j WHERE j.seq = ? {{where}}"
# How many runs a beginning of their names is that of, up to a bound.
COUNT_PREFIX: Final = f"""SELECT count(*) FROM (SELECT 1 FROM {JOB} AS j INDEXED BY taquba_job_run
    WHERE j.queue = ? AND j.run_id IS NOT NULL AND j.run_id >= ? AND j.run_id < ? LIMIT ?)"""

# What narrows a page. Values are written out where a partial index holds only these, or it is not used.
IS_IN_STATUS: Final[Mapping[JobStatus, str]] = {
    JobStatus.PENDING: "AND j.status = 'pending'",
    JobStatus.SCHEDULED: "AND j.due_ms IS NOT NULL AND j.status = 'scheduled'",
    JobStatus.CLAIMED: "AND j.lease_until_ms IS NOT NULL AND j.status = 'claimed'",
    JobStatus.DONE: "AND j.finished_ms IS NOT NULL AND j.status = 'done'",
    JobStatus.DEAD: "AND j.finished_ms IS NOT NULL AND j.status = 'dead'",
    JobStatus.CANCELLED: "AND j.finished_ms IS NOT NULL AND j.status = 'cancelled'",
}
HAS_VERDICT: Final[Mapping[Verdict, str]] = {verdict: f"AND j.verdict = '{verdict.value}'" for verdict in Verdict}
IS_ASKED_TO_STOP: Final[Mapping[bool, str]] = {
    True: "AND j.cancel_requested = 1",
    False: "AND j.cancel_requested = 0",
}
IS_IN_LINE: Final = "AND j.parked = 0"
IS_WAITING: Final = "AND j.finished_ms IS NULL AND j.status IN ('pending', 'scheduled')"
IS_ACTIVE: Final = "AND j.finished_ms IS NULL"
IS_RUN: Final = "AND j.run_id IS NOT NULL"
HAS_PREFIX: Final = "AND j.run_id IS NOT NULL AND j.run_id >= ? AND j.run_id < ?"
# As it is encoded; see ``listing``.
_HEADERS: Final = f"ifnull(j.headers, (SELECT o.data FROM {OVERFLOW} AS o WHERE o.key = 4 * j.seq + 1))"
HAS_HEADER: Final = f"AND (instr({_HEADERS}, ?) = 1 OR instr({_HEADERS}, ?) > 0)"
HAS_ERROR: Final = "AND instr(j.last_error, ?) > 0"
IS_SINCE: Final = "AND j.enqueued_ms >= ?"
IS_BEFORE: Final = "AND j.enqueued_ms < ?"
HAS_ENDED_BY: Final = "AND j.finished_ms <= ?"
# Some of what a run has spawned.
IS_CHILD: Final = f"""AND j.seq IN (SELECT c.job FROM {CHILD} AS c
    WHERE c.parent = ? AND c.job > ? AND c.job <= ?)"""
IS_VISIBLE: Final = f"""AND (j.finished_ms IS NULL OR j.finished_ms + CASE WHEN j.run_id IS NULL AND j.status = 'dead'
    THEN ifnull(j.keep_dead_ms, 1 << 62) ELSE ifnull(j.keep_done_ms, 0) END > ? OR (j.belongings & {Belonging.MEMBER:d}
    AND EXISTS (SELECT 1 FROM {GROUP} AS g WHERE g.id = (SELECT grp FROM {MEMBER} AS m WHERE m.job = j.seq)
        AND g.state = 1 AND (g.expires_ms IS NULL
        OR g.expires_ms - max({SHORTEST_RETENTION_MS} - g.keep_ms, 0) > ?))))"""
# Members of a group that is not open are there for nobody.
IS_SHOWN: Final = f"""AND (j.parked <> 2 OR j.status <> 'pending' OR EXISTS (SELECT 1 FROM {GROUP} AS g
    WHERE g.id = (SELECT grp FROM {MEMBER} AS m WHERE m.job = j.seq) AND g.state = 1))"""

# Which index walks a page.
BY_STATUS: Final[Mapping[JobStatus, str]] = {
    JobStatus.SCHEDULED: "INDEXED BY taquba_job_due",
    JobStatus.CLAIMED: "INDEXED BY taquba_job_claimed",
}
BY_LINE: Final = "INDEXED BY taquba_job_pending"
BY_FAILURE: Final = "INDEXED BY taquba_job_failed"
BY_END: Final = "INDEXED BY taquba_job_finished"
BY_CANCELLATION: Final = "INDEXED BY taquba_job_cancelling"
BY_ACTIVE_RUN: Final = "INDEXED BY taquba_job_active_run"
BY_PREFIX: Final = "INDEXED BY taquba_job_run"
BY_SUBMISSION: Final = "INDEXED BY taquba_job_listing"
#: Some rows, each by its number.
BY_NUMBER: Final = "NOT INDEXED"
