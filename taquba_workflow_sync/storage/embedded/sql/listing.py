"""Listings: the page, what narrows it, and which index walks it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from taquba_workflow_sync.storage.embedded.rows import ShownRow
from taquba_workflow_sync.storage.embedded.sql.names import JOB, QUEUE, columns
from taquba_workflow_sync.storage.port.status import JobStatus, Verdict

#: The columns that are shown, of ``j`` (job) and ``q`` (queue).
SHOWN: Final = columns(ShownRow, "j.").replace("j.queue_name", "q.name")

# One page of a queue, in the order of submission.
PAGE: Final = f"""SELECT {SHOWN} FROM {JOB} AS j {{index}} JOIN {QUEUE} AS q ON j.queue = q.id
    WHERE j.queue = ? AND j.seq > ? {{where}} ORDER BY j.seq LIMIT ?"""

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
IS_WAITING: Final = "AND j.finished_ms IS NULL AND j.status IN ('pending', 'scheduled')"
IS_ACTIVE: Final = "AND j.finished_ms IS NULL"
IS_RUN: Final = "AND j.run_id IS NOT NULL"
IS_VISIBLE: Final = """AND (j.finished_ms IS NULL OR j.finished_ms + CASE WHEN j.run_id IS NULL AND j.status = 'dead'
    THEN ifnull(j.keep_dead_ms, 1 << 62) ELSE ifnull(j.keep_done_ms, 0) END > ?)"""

# Which index walks a page.
BY_STATUS: Final[Mapping[JobStatus, str]] = {
    JobStatus.PENDING: "INDEXED BY taquba_job_pending",
    JobStatus.SCHEDULED: "INDEXED BY taquba_job_due",
    JobStatus.CLAIMED: "INDEXED BY taquba_job_claimed",
}
BY_FAILURE: Final = "INDEXED BY taquba_job_failed"
BY_END: Final = "INDEXED BY taquba_job_finished"
BY_CANCELLATION: Final = "INDEXED BY taquba_job_cancelling"
BY_ACTIVE_RUN: Final = "INDEXED BY taquba_job_active_run"
BY_SUBMISSION: Final = "INDEXED BY taquba_job_listing"
