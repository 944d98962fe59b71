"""Claims: made, renewed, found abandoned. Their ends are in ``fence``."""

from __future__ import annotations

from taquba_workflow_sync.storage.relational.rows import TakenRow
from taquba_workflow_sync.storage.relational.sql.names import JOB, QUEUE, columns

_TAKE = f"""UPDATE {JOB} SET status = 'claimed', attempts = attempts + 1, ordinal = ordinal + 1,
    token = ? || (attempts + 1) || '.' || seq, owner = ?, claimed_ms = ?, lease_until_ms = ?, lease_ms = ?,
    dedup_key = NULL"""


# claim: pending -> claimed, the first in line. Attempt, token and lease are new, the dedup key is free again.
CLAIM = f"""{_TAKE}
    WHERE seq IN (SELECT seq FROM {JOB} INDEXED BY taquba_job_pending
        WHERE queue = ? AND status = 'pending' AND parked = 0 ORDER BY rank, place LIMIT ?)
    RETURNING {columns(TakenRow)}"""


# claim: one of the first in line, where the line has rows that cannot be read
FIRST_IN_LINE = f"""SELECT seq FROM {JOB} INDEXED BY taquba_job_pending
    WHERE queue = ? AND status = 'pending' AND parked = 0 ORDER BY rank, place LIMIT ?"""


# hold: what waits in line, past what the caller has room for; and how much waits in a line before
PAST_ROOM = f"""SELECT rank, place FROM {JOB} INDEXED BY taquba_job_pending
    WHERE queue = ? AND status = 'pending' AND parked = 0 ORDER BY rank, place LIMIT ? OFFSET ?"""


WAITING = f"""SELECT count(*) FROM (SELECT 1 FROM {JOB} INDEXED BY taquba_job_pending
    WHERE queue = ? AND status = 'pending' AND parked = 0 LIMIT ?)"""


CLAIM_SEQ = f"""{_TAKE} WHERE seq = ? AND status = 'pending' AND parked = 0
    RETURNING {columns(TakenRow)}"""


# claim: a notification inserted in this very transaction
CLAIM_ONE = f"""{_TAKE} WHERE id = ? AND status = 'pending' AND parked = 0
    RETURNING {columns(TakenRow)}"""


# promote: scheduled, due by its clock -> pending, at its place in line
PROMOTE = f"""UPDATE {JOB} SET status = 'pending', due_ms = NULL WHERE seq IN (
    SELECT seq FROM {JOB} INDEXED BY taquba_job_due WHERE queue = ? AND due_clock = 0 AND due_ms <= ?
    UNION ALL
    SELECT seq FROM {JOB} INDEXED BY taquba_job_due WHERE queue = ? AND due_clock = 1 AND due_ms <= ?
    LIMIT ?)"""


# the boot clock started anew: what waits for a time on its old scale goes by the wall clock
LEAVE_BOOT_CLOCK = f"""UPDATE {JOB} INDEXED BY taquba_job_due SET due_clock = 0, due_ms = ifnull(run_at_ms, 0)
    WHERE due_ms IS NOT NULL AND due_clock = 1 AND queue IN (SELECT id FROM {QUEUE})"""


# renew: the tokens whose step threads run, in one statement
RENEW = f"""UPDATE {JOB} SET lease_until_ms = ?, lease_ms = ? WHERE seq IN ({{seqs}}) AND token IN ({{tokens}})
    AND status = 'claimed' RETURNING token"""


# cancel: claimed, flag it
REQUEST_CANCEL = f"""UPDATE {JOB} SET cancel_requested = 1, cancel_reason = ifnull(cancel_reason, ?)
    WHERE seq = ? AND status = 'claimed'"""


# reap: the claims of dead owners
CLAIMS_OF_OWNER = f"""SELECT id, token FROM {JOB} INDEXED BY taquba_job_claimed
    WHERE owner = ? AND lease_until_ms IS NOT NULL AND queue = ? LIMIT ?"""


# reap: bare claims whose lease is over
EXPIRED_BARE = f"""SELECT id, token FROM {JOB} INDEXED BY taquba_job_claimed
    WHERE owner = '' AND lease_until_ms <= ? AND queue = ? LIMIT ?"""


# reap: one claim that was watched for long enough, and has not been renewed since
CLAIM_OF_TOKEN = f"""SELECT id, owner FROM {JOB} WHERE seq = ? AND token = ? AND queue = ? AND lease_until_ms = ?
    AND status = 'claimed'"""


# the first open of a backup: every claim of a queue, bare ones too
ALL_CLAIMS = f"""SELECT id, token FROM {JOB} INDEXED BY taquba_job_claimed
    WHERE lease_until_ms IS NOT NULL AND queue = ? LIMIT ?"""
