"""What only reads."""

from __future__ import annotations

HISTORY = """SELECT a.ordinal, a.step, a.attempt, a.claimed_ms, a.ended_ms, a.outcome, a.error
    FROM taquba_attempt AS a JOIN taquba_job AS j ON a.job = j.seq WHERE j.id = ? ORDER BY a.ordinal"""


JOB_COLUMNS = """j.seq, j.id, q.name, j.status, j.priority, j.step, j.attempts, j.max_attempts, j.cancel_requested,
    j.owner, j.enqueued_ms, j.claimed_ms, j.lease_until_ms, j.run_at_ms, j.finished_ms, j.verdict, j.last_error,
    j.dedup_key, j.run_id, j.keep_done_ms, j.termination, j.headers, j.payload, j.result, j.wide"""


GET = f"SELECT {JOB_COLUMNS} FROM taquba_job AS j JOIN taquba_queue AS q ON j.queue = q.id WHERE j.id = ?"


FIND_RUN = (
    f"""SELECT {JOB_COLUMNS} FROM taquba_job AS j INDEXED BY taquba_job_active_run
        JOIN taquba_queue AS q ON j.queue = q.id
        WHERE j.queue = (SELECT id FROM taquba_queue WHERE name = ?) AND j.run_id = ? AND j.finished_ms IS NULL""",
    f"""SELECT {JOB_COLUMNS} FROM taquba_job AS j INDEXED BY taquba_job_run JOIN taquba_queue AS q ON j.queue = q.id
        WHERE j.queue = (SELECT id FROM taquba_queue WHERE name = ?) AND j.run_id = ? ORDER BY j.seq DESC LIMIT 1""",
)


PAGE = f"""SELECT {JOB_COLUMNS} FROM taquba_job AS j {{index}} JOIN taquba_queue AS q ON j.queue = q.id
    WHERE j.queue = ? AND j.seq > ? {{where}} ORDER BY j.seq LIMIT ?"""


COUNTS = "SELECT name, pending, scheduled, claimed, done, dead, cancelled FROM taquba_queue ORDER BY name"


IS_PENDING = """SELECT 1 FROM taquba_job INDEXED BY taquba_job_pending WHERE status = 'pending'
    AND queue = (SELECT id FROM taquba_queue WHERE name = ?) LIMIT 1"""


NEXT_DUE = """SELECT min(due_ms) FROM taquba_job INDEXED BY taquba_job_due WHERE due_ms IS NOT NULL
    AND queue = (SELECT id FROM taquba_queue WHERE name = ?) AND due_clock = ?"""


NEXT_RETRY = """SELECT min(due_ms) FROM taquba_job INDEXED BY taquba_job_due WHERE due_ms IS NOT NULL AND attempts > 0
    AND queue = (SELECT id FROM taquba_queue WHERE name = ?) AND due_clock = ?"""


NEXT_BARE_EXPIRY = """SELECT min(lease_until_ms) FROM taquba_job INDEXED BY taquba_job_claimed
    WHERE owner = '' AND lease_until_ms IS NOT NULL AND queue = (SELECT id FROM taquba_queue WHERE name = ?)"""


RUNNING_HERE = """SELECT id, token, owner, cancel_requested, lease_until_ms, lease_ms FROM taquba_job
    INDEXED BY taquba_job_claimed WHERE owner = ? AND lease_until_ms IS NOT NULL"""


RUNNING_ELSEWHERE = """SELECT id, token, owner, cancel_requested, lease_until_ms, lease_ms FROM taquba_job
    INDEXED BY taquba_job_claimed WHERE owner > '' AND lease_until_ms IS NOT NULL AND owner <> ?"""
