"""Jobs that nobody holds: put in, cancelled, requeued, swept."""

from __future__ import annotations

# enqueue: is the id taken?
FIND_ID = "SELECT 1 FROM taquba_job WHERE id = ?"


# enqueue: who holds the dedup key?
FIND_DEDUP = "SELECT id FROM taquba_job WHERE queue = ? AND dedup_key = ?"


# enqueue: who holds the run id now, and who held it last?
FIND_ACTIVE_RUN = """SELECT id, input_hash, status, verdict, finished_ms, keep_done_ms FROM taquba_job
    WHERE queue = ? AND run_id = ? AND finished_ms IS NULL"""


FIND_LAST_RUN = """SELECT id, input_hash, status, verdict, finished_ms, keep_done_ms FROM taquba_job
    WHERE queue = ? AND run_id = ? ORDER BY seq DESC LIMIT 1"""


# enqueue: - -> pending / scheduled
INSERT_JOB = """INSERT INTO taquba_job (seq, id, queue, status, priority, place, max_attempts, due_ms, run_at_ms,
    enqueued_ms, keep_done_ms, keep_dead_ms, dedup_key, run_id, input_hash, wide, headers, payload)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""


# the same columns of a row that waits, for a cancel
WAITING = """SELECT seq, id, queue, step, attempts, ordinal, cancel_requested, claimed_ms, place, priority, wide,
    run_id, termination, keep_done_ms, keep_dead_ms, headers, status, owner, token, lease_until_ms
    FROM taquba_job WHERE id = ?"""


# ... or gone, where nothing is kept
DELETE_JOB = "DELETE FROM taquba_job WHERE seq = ?"


# cancel: claimed, flag it
REQUEST_CANCEL = "UPDATE taquba_job SET cancel_requested = 1 WHERE seq = ? AND status = 'claimed'"


# requeue, retry: what is there to be put back?
FIND_FINISHED = """SELECT seq, queue, run_id, status, verdict, wide FROM taquba_job WHERE id = ?"""


# requeue, retry: dead / done as failed -> pending at the back of its priority
REQUEUE = """UPDATE taquba_job SET status = 'pending', attempts = 0, place = ?, cancel_requested = 0,
    last_error = NULL, verdict = NULL, result = NULL, wide = ?, finished_ms = NULL, expires_ms = NULL, run_at_ms = NULL
    WHERE seq = ? AND finished_ms IS NOT NULL"""


# sweep: what is past the retention frozen on its row
EXPIRED = """SELECT seq, queue, status, wide FROM taquba_job INDEXED BY taquba_job_expiry
    WHERE expires_ms IS NOT NULL AND expires_ms <= ? LIMIT ?"""


DROP_ATTEMPTS = "DELETE FROM taquba_attempt WHERE job = ?"
