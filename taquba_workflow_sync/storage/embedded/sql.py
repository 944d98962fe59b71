"""All SQL of the embedded engine: the schema, and one named statement for each transition and each read.

Predicates of partial indexes name only columns that the hot transitions leave alone (``lease_until_ms`` rather than
``status``), except the pending line itself: an index whose predicate reads a rewritten column is evaluated each time.
"""

from __future__ import annotations

SCHEMA_VERSION = 1

SCHEMA = (
    """CREATE TABLE IF NOT EXISTS taquba_meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS taquba_queue (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        pending INTEGER NOT NULL DEFAULT 0,
        scheduled INTEGER NOT NULL DEFAULT 0,
        claimed INTEGER NOT NULL DEFAULT 0,
        done INTEGER NOT NULL DEFAULT 0,
        dead INTEGER NOT NULL DEFAULT 0,
        cancelled INTEGER NOT NULL DEFAULT 0,
        observer TEXT,
        CHECK (pending >= 0 AND scheduled >= 0 AND claimed >= 0 AND dead >= 0)
    )""",
    """CREATE TABLE IF NOT EXISTS taquba_job (
        seq INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        queue INTEGER NOT NULL REFERENCES taquba_queue (id),
        status TEXT NOT NULL,
        priority INTEGER NOT NULL,
        place INTEGER NOT NULL,
        step INTEGER NOT NULL DEFAULT 0,
        attempts INTEGER NOT NULL DEFAULT 0,
        max_attempts INTEGER NOT NULL,
        ordinal INTEGER NOT NULL DEFAULT 0,
        cancel_requested INTEGER NOT NULL DEFAULT 0,
        token TEXT,
        owner TEXT,
        claimed_ms INTEGER,
        lease_until_ms INTEGER,
        lease_ms INTEGER,
        due_ms INTEGER,
        due_clock INTEGER NOT NULL DEFAULT 0,
        run_at_ms INTEGER,
        enqueued_ms INTEGER NOT NULL,
        finished_ms INTEGER,
        expires_ms INTEGER,
        verdict TEXT,
        termination INTEGER NOT NULL DEFAULT 0,
        keep_done_ms INTEGER,
        keep_dead_ms INTEGER,
        dedup_key TEXT,
        run_id TEXT,
        input_hash BLOB,
        wide INTEGER NOT NULL DEFAULT 0,
        last_error TEXT,
        headers TEXT,
        payload BLOB,
        result BLOB,
        CHECK (status IN ('pending', 'scheduled', 'claimed', 'done', 'dead', 'cancelled')),
        CHECK ((status = 'claimed') = (token IS NOT NULL)),
        CHECK ((status = 'claimed') = (owner IS NOT NULL)),
        CHECK ((status = 'claimed') = (lease_until_ms IS NOT NULL)),
        CHECK ((status = 'scheduled') = (due_ms IS NOT NULL)),
        CHECK (due_clock IN (0, 1)),
        CHECK ((status IN ('done', 'dead', 'cancelled')) = (finished_ms IS NOT NULL)),
        CHECK (attempts >= 0 AND attempts <= max_attempts AND max_attempts >= 1),
        CHECK ((run_id IS NULL) = (input_hash IS NULL))
    )""",
    # A part over 2 KiB has a row of its own, so that a claim or a renewal never rewrites its bytes. The key is
    # 4 * seq + kind: found by rowid, no second index.
    """CREATE TABLE IF NOT EXISTS taquba_part (key INTEGER PRIMARY KEY, data BLOB NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS taquba_attempt (
        job INTEGER NOT NULL REFERENCES taquba_job (seq),
        ordinal INTEGER NOT NULL,
        step INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        claimed_ms INTEGER NOT NULL,
        ended_ms INTEGER NOT NULL,
        outcome TEXT NOT NULL,
        error TEXT,
        PRIMARY KEY (job, ordinal)
    ) WITHOUT ROWID""",
    # The line of each queue: a claim reads its head, whatever else the table holds.
    """CREATE INDEX IF NOT EXISTS taquba_job_pending ON taquba_job (queue, priority, place)
        WHERE status = 'pending'""",
    # What waits for its time. ``due_clock`` says on which scale: 0 the wall clock, 1 the steady clock of the boot
    # whose number the meta table holds.
    """CREATE INDEX IF NOT EXISTS taquba_job_due ON taquba_job (queue, due_clock, due_ms) WHERE due_ms IS NOT NULL""",
    """CREATE INDEX IF NOT EXISTS taquba_job_claimed ON taquba_job (owner, lease_until_ms)
        WHERE lease_until_ms IS NOT NULL""",
    """CREATE UNIQUE INDEX IF NOT EXISTS taquba_job_dedup ON taquba_job (queue, dedup_key)
        WHERE dedup_key IS NOT NULL""",
    """CREATE UNIQUE INDEX IF NOT EXISTS taquba_job_active_run ON taquba_job (queue, run_id)
        WHERE run_id IS NOT NULL AND finished_ms IS NULL""",
    """CREATE INDEX IF NOT EXISTS taquba_job_run ON taquba_job (queue, run_id, seq) WHERE run_id IS NOT NULL""",
    """CREATE INDEX IF NOT EXISTS taquba_job_expiry ON taquba_job (expires_ms) WHERE expires_ms IS NOT NULL""",
    """CREATE INDEX IF NOT EXISTS taquba_job_finished ON taquba_job (queue, status, seq)
        WHERE finished_ms IS NOT NULL""",
    """CREATE INDEX IF NOT EXISTS taquba_job_failed ON taquba_job (queue, seq) WHERE verdict = 'failed'""",
    """CREATE INDEX IF NOT EXISTS taquba_job_listing ON taquba_job (queue, seq)""",
    """INSERT OR IGNORE INTO taquba_meta (key, value) VALUES ('next_seq', 1)""",
    # Last, so that a store whose creation was cut short has no version and is completed by the next open.
    f"""INSERT OR IGNORE INTO taquba_meta (key, value) VALUES ('schema', {SCHEMA_VERSION})""",
)

# -- the frame of a transaction ------------------------------------------------------------------------------------

BEGIN = "BEGIN IMMEDIATE"
COMMIT = "COMMIT"
ROLLBACK = "ROLLBACK"
READ_META = "SELECT value FROM taquba_meta WHERE key = ?"
WRITE_META = "INSERT OR REPLACE INTO taquba_meta (key, value) VALUES (?, ?)"
WRITE_NEXT_SEQ = "UPDATE taquba_meta SET value = ? WHERE key = 'next_seq'"
FIND_QUEUE = "SELECT id, observer FROM taquba_queue WHERE name = ?"
ADD_QUEUE = "INSERT INTO taquba_queue (name) VALUES (?)"
QUEUE_NAME = "SELECT name, observer FROM taquba_queue WHERE id = ?"
ADD_COUNTS = """UPDATE taquba_queue SET pending = pending + ?, scheduled = scheduled + ?, claimed = claimed + ?,
    done = done + ?, dead = dead + ?, cancelled = cancelled + ? WHERE id = ?"""

# -- parts over 2 KiB ----------------------------------------------------------------------------------------------

PUT_PART = "INSERT OR REPLACE INTO taquba_part (key, data) VALUES (?, ?)"
GET_PART = "SELECT data FROM taquba_part WHERE key = ?"
DROP_PART = "DELETE FROM taquba_part WHERE key = ?"
DROP_PARTS = "DELETE FROM taquba_part WHERE key BETWEEN ? AND ?"

# -- transitions ---------------------------------------------------------------------------------------------------

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
LEAVE_STEADY_CLOCK = """UPDATE taquba_job INDEXED BY taquba_job_due SET due_clock = 0, due_ms = ifnull(run_at_ms, 0)
    WHERE due_ms IS NOT NULL AND due_clock = 1 AND queue IN (SELECT id FROM taquba_queue)"""

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
# the same columns of a row that waits, for a cancel
WAITING = """SELECT seq, id, queue, step, attempts, ordinal, cancel_requested, claimed_ms, place, priority, wide,
    run_id, termination, keep_done_ms, keep_dead_ms, headers, status, owner, token, lease_until_ms
    FROM taquba_job WHERE id = ?"""
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
# ... or gone, where nothing is kept
DELETE_JOB = "DELETE FROM taquba_job WHERE seq = ?"
# cancel: claimed, flag it
REQUEST_CANCEL = "UPDATE taquba_job SET cancel_requested = 1 WHERE seq = ? AND status = 'claimed'"
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
# reap: claimed -> pending, place and attempts kept
REAP = """UPDATE taquba_job SET status = 'pending', last_error = ?, token = NULL, owner = NULL, lease_until_ms = NULL
    WHERE seq = ? AND token = ? AND status = 'claimed'"""
# requeue, retry: what is there to be put back?
FIND_FINISHED = """SELECT seq, queue, run_id, status, verdict, wide FROM taquba_job WHERE id = ?"""
# requeue, retry: dead / done as failed -> pending at the back of its priority
REQUEUE = """UPDATE taquba_job SET status = 'pending', attempts = 0, place = ?, cancel_requested = 0,
    last_error = NULL, verdict = NULL, result = NULL, wide = ?, finished_ms = NULL, expires_ms = NULL, run_at_ms = NULL
    WHERE seq = ? AND finished_ms IS NOT NULL"""
# sweep: what is past the retention frozen on its row
EXPIRED = """SELECT seq, queue, status, wide FROM taquba_job INDEXED BY taquba_job_expiry
    WHERE expires_ms IS NOT NULL AND expires_ms <= ? LIMIT ?"""
# observe: the lane that is told of a queue's terminated runs
OBSERVE = "UPDATE taquba_queue SET observer = ? WHERE id = ? AND observer IS NOT ?"

# -- history -------------------------------------------------------------------------------------------------------

ADD_ATTEMPT = """INSERT INTO taquba_attempt (job, ordinal, step, attempt, claimed_ms, ended_ms, outcome, error)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""
DROP_ATTEMPT = "DELETE FROM taquba_attempt WHERE job = ? AND ordinal = ?"
DROP_ATTEMPTS = "DELETE FROM taquba_attempt WHERE job = ?"
HISTORY = """SELECT a.ordinal, a.step, a.attempt, a.claimed_ms, a.ended_ms, a.outcome, a.error
    FROM taquba_attempt AS a JOIN taquba_job AS j ON a.job = j.seq WHERE j.id = ? ORDER BY a.ordinal"""

# -- reads ---------------------------------------------------------------------------------------------------------

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
