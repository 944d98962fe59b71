"""Jobs that nobody holds: put in, requeued, dropped, swept."""

from __future__ import annotations

from typing import Final

from taquba_workflow_sync.storage.relational.rows import FinishedRow, NamedRow, NewRow, WaitingRow
from taquba_workflow_sync.storage.relational.sql.names import JOB, columns, insert

# enqueue: is the id taken?
FIND_ID = f"SELECT 1 FROM {JOB} WHERE id = ?"


# enqueue: who holds the dedup key?
FIND_DEDUP = f"SELECT id FROM {JOB} WHERE queue = ? AND dedup_key = ?"


# enqueue: who holds the run id now, and who held it last?
FIND_ACTIVE_RUN = f"""SELECT {columns(NamedRow)} FROM {JOB}
    WHERE queue = ? AND run_id = ? AND finished_ms IS NULL"""


FIND_LAST_RUN = f"""SELECT {columns(NamedRow)} FROM {JOB}
    WHERE queue = ? AND run_id = ? ORDER BY seq DESC LIMIT 1"""


# enqueue: - -> pending / scheduled
INSERT_JOB = insert(JOB, NewRow)


# requeue, retry: what is there to be put back?
FIND_FINISHED = f"SELECT {columns(FinishedRow)} FROM {JOB} WHERE id = ?"


# requeue, retry: dead / done as failed -> pending at the back of its priority
_REQUEUE: Final = f"""UPDATE {JOB} SET status = 'pending', attempts = 0, place = ?, rank = ?, cancel_requested = 0,
    cancel_reason = NULL, parked = 0, last_error = NULL, verdict = NULL, result = NULL, result_crc = NULL,
    belongings = ?, finished_ms = NULL, expires_ms = NULL, run_at_ms = NULL{{payload}}
    WHERE seq = ? AND finished_ms IS NOT NULL"""
REQUEUE = _REQUEUE.format(payload="")
REQUEUE_WITH_PAYLOAD = _REQUEUE.format(payload=", payload = ?, payload_crc = ?")


# retry of many: the newest life of a run's name
NEWEST_LIFE = f"""SELECT n.seq FROM {JOB} AS j JOIN {JOB} AS n INDEXED BY taquba_job_run
    ON n.queue = j.queue AND n.run_id = j.run_id WHERE j.seq = ? ORDER BY n.seq DESC LIMIT 1"""


# drop: notifications that wait, of a hook that was unregistered
WAITING_IN_LINE = f"""SELECT {columns(WaitingRow)} FROM {JOB} INDEXED BY taquba_job_pending
    WHERE queue = ? AND status = 'pending' AND parked = 0 AND run_id IS NULL LIMIT ?"""


WAITING_FOR_TIME = f"""SELECT {columns(WaitingRow)} FROM {JOB} INDEXED BY taquba_job_due
    WHERE queue = ? AND due_ms IS NOT NULL AND run_id IS NULL LIMIT ?"""


# sweep: what is past the retention frozen on its row
EXPIRED = f"""SELECT {columns(FinishedRow)} FROM {JOB} INDEXED BY taquba_job_expiry
    WHERE expires_ms IS NOT NULL AND expires_ms <= ? LIMIT ?"""


# sweep: done / dead / cancelled -> gone
DELETE_FINISHED = f"DELETE FROM {JOB} WHERE seq = ? AND finished_ms IS NOT NULL"
