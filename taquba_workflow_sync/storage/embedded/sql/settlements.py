"""The ends of a claim."""

from __future__ import annotations

# advance, in bulk: claimed -> pending, one step on; rows not returned were refused and take the single way.
ADVANCE_MANY = """WITH s (seq, token, payload, place) AS (VALUES {values})
    UPDATE taquba_job SET status = 'pending', step = step + 1, attempts = 0, payload = s.payload,
        place = coalesce(s.place, taquba_job.place), token = NULL, owner = NULL, lease_until_ms = NULL,
        run_at_ms = NULL, last_error = NULL
    FROM s WHERE taquba_job.seq = s.seq AND taquba_job.token = s.token AND status = 'claimed'
        AND cancel_requested = 0 AND wide = 0
    RETURNING seq, ordinal, queue, step - 1, claimed_ms"""


# the fence of every single settlement: the row, if the claim still holds it
FENCED = """SELECT seq, id, queue, step, attempts, ordinal, cancel_requested, claimed_ms, place, priority, wide, run_id,
    termination, keep_done_ms, keep_dead_ms, headers FROM taquba_job
    WHERE seq = ? AND id = ? AND token = ? AND status = 'claimed'"""


# advance: claimed -> pending / scheduled, one step on
ADVANCE = """UPDATE taquba_job SET status = ?, due_clock = ?, due_ms = ?, run_at_ms = ?, step = step + 1,
    attempts = 0, place = ?, payload = ?, headers = ?, wide = ?, token = NULL, owner = NULL, lease_until_ms = NULL,
    last_error = NULL WHERE seq = ? AND token = ? AND status = 'claimed'"""


# nack: claimed -> pending / scheduled, place kept
RETRY = """UPDATE taquba_job SET status = ?, due_clock = ?, due_ms = ?, run_at_ms = ?, last_error = ?, token = NULL,
    owner = NULL, lease_until_ms = NULL WHERE seq = ? AND token = ? AND status = 'claimed'"""


# release: claimed -> pending, at its place, uncharged
RELEASE = """UPDATE taquba_job SET status = 'pending', attempts = attempts - 1, ordinal = ordinal - 1, token = NULL,
    owner = NULL, lease_until_ms = NULL WHERE seq = ? AND token = ? AND status = 'claimed'"""


# ack, dead_letter, settle_cancelled, cancel: -> done / dead / cancelled
FINISH = """UPDATE taquba_job SET status = ?, verdict = ?, result = ?, last_error = ?, wide = ?, finished_ms = ?,
    expires_ms = ?, termination = ?, due_ms = NULL, token = NULL, owner = NULL, lease_until_ms = NULL,
    dedup_key = NULL WHERE seq = ? AND finished_ms IS NULL"""


# reap: claimed -> pending, place and attempts kept
REAP = """UPDATE taquba_job SET status = 'pending', last_error = ?, token = NULL, owner = NULL, lease_until_ms = NULL
    WHERE seq = ? AND token = ? AND status = 'claimed'"""


ADD_ATTEMPT = """INSERT INTO taquba_attempt (job, ordinal, step, attempt, claimed_ms, ended_ms, outcome, error)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""


DROP_ATTEMPT = "DELETE FROM taquba_attempt WHERE job = ? AND ordinal = ?"
