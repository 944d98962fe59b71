"""Claims: made, renewed, found abandoned."""

from __future__ import annotations

# claim: pending -> claimed, the first in line. Attempt, token and lease are new, the dedup key is free again.
CLAIM = """UPDATE taquba_job SET status = 'claimed', attempts = attempts + 1, ordinal = ordinal + 1,
    token = ? || (attempts + 1) || '.' || seq, owner = ?, claimed_ms = ?, lease_until_ms = ?, lease_ms = ?,
    dedup_key = NULL
    WHERE seq IN (SELECT seq FROM taquba_job INDEXED BY taquba_job_pending
        WHERE queue = ? AND status = 'pending' ORDER BY priority, place LIMIT ?)
    RETURNING place, id, token, step, attempts, max_attempts, payload, headers, priority, cancel_requested, run_id,
        enqueued_ms, run_at_ms, last_error, seq, wide"""


# claim: a notification inserted in this very transaction
CLAIM_ONE = """UPDATE taquba_job SET status = 'claimed', attempts = attempts + 1, ordinal = ordinal + 1,
    token = ? || (attempts + 1) || '.' || seq, owner = ?, claimed_ms = ?, lease_until_ms = ?, lease_ms = ?,
    dedup_key = NULL WHERE id = ? AND status = 'pending'
    RETURNING place, id, token, step, attempts, max_attempts, payload, headers, priority, cancel_requested, run_id,
        enqueued_ms, run_at_ms, last_error, seq, wide"""


# promote: scheduled, due by its clock -> pending, at its place in line
PROMOTE = """UPDATE taquba_job SET status = 'pending', due_ms = NULL WHERE seq IN (
    SELECT seq FROM taquba_job INDEXED BY taquba_job_due WHERE queue = ? AND due_clock = 0 AND due_ms <= ?
    UNION ALL
    SELECT seq FROM taquba_job INDEXED BY taquba_job_due WHERE queue = ? AND due_clock = 1 AND due_ms <= ?
    LIMIT ?)"""


# the steady clock started anew: what waits for a time on its old scale goes by the wall clock
LEAVE_BOOT_CLOCK = """UPDATE taquba_job INDEXED BY taquba_job_due SET due_clock = 0, due_ms = ifnull(run_at_ms, 0)
    WHERE due_ms IS NOT NULL AND due_clock = 1 AND queue IN (SELECT id FROM taquba_queue)"""


# renew: the tokens whose step threads run, in one statement
RENEW = """UPDATE taquba_job SET lease_until_ms = ?, lease_ms = ? WHERE seq IN ({seqs}) AND token IN ({tokens})
    AND status = 'claimed' RETURNING token"""


# reap: the claims of dead owners
CLAIMS_OF_OWNER = """SELECT seq, id, token FROM taquba_job INDEXED BY taquba_job_claimed
    WHERE owner = ? AND lease_until_ms IS NOT NULL AND queue = ? LIMIT ?"""


# reap: bare claims whose lease is over
EXPIRED_BARE = """SELECT seq, id, token FROM taquba_job INDEXED BY taquba_job_claimed
    WHERE owner = '' AND lease_until_ms <= ? AND queue = ? LIMIT ?"""


# reap: one claim that was watched for long enough, and has not been renewed since
CLAIM_OF_TOKEN = """SELECT seq, id FROM taquba_job WHERE seq = ? AND token = ? AND queue = ? AND lease_until_ms = ?
    AND status = 'claimed'"""


MAX_ATTEMPTS = "SELECT max_attempts FROM taquba_job WHERE seq = ?"
