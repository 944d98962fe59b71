"""The schema: tables, indexes, and what must hold for every row.

Predicates of partial indexes name only columns that the hot transitions leave alone (``lease_until_ms`` rather than
``status``), except the pending line itself: an index whose predicate reads a rewritten column is evaluated each time.
"""

from __future__ import annotations

from taquba_workflow_sync.storage.relational.sql import features
from taquba_workflow_sync.storage.relational.sql.names import ATTEMPT, JOB, META, OVERFLOW, QUEUE, SCHEMA_VERSION
from taquba_workflow_sync.storage.relational.sql.upgrade import OLD_NAMES, refusals

SCHEMA = (
    f"""CREATE TABLE IF NOT EXISTS {META} (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID""",
    f"""CREATE TABLE IF NOT EXISTS {QUEUE} (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        pending INTEGER NOT NULL DEFAULT 0,
        scheduled INTEGER NOT NULL DEFAULT 0,
        claimed INTEGER NOT NULL DEFAULT 0,
        done INTEGER NOT NULL DEFAULT 0,
        dead INTEGER NOT NULL DEFAULT 0,
        cancelled INTEGER NOT NULL DEFAULT 0,
        subscription TEXT,
        paused INTEGER NOT NULL DEFAULT 0,
        limited INTEGER NOT NULL DEFAULT 0,
        timed INTEGER NOT NULL DEFAULT 0,
        parked INTEGER NOT NULL DEFAULT 0,
        groups INTEGER NOT NULL DEFAULT 0,
        bare_waiting INTEGER NOT NULL DEFAULT 0,
        bare_claimed INTEGER NOT NULL DEFAULT 0,
        cancelling INTEGER NOT NULL DEFAULT 0,
        runs_succeeded INTEGER NOT NULL DEFAULT 0,
        runs_failed INTEGER NOT NULL DEFAULT 0,
        runs_cancelled INTEGER NOT NULL DEFAULT 0,
        cancelling_waiting INTEGER NOT NULL DEFAULT 0,
        CHECK (pending >= 0 AND scheduled >= 0 AND claimed >= 0 AND dead >= 0)
    )""",
    f"""CREATE TABLE IF NOT EXISTS {JOB} (
        seq INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        queue INTEGER NOT NULL REFERENCES {QUEUE} (id),
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
        belongings INTEGER NOT NULL DEFAULT 0,
        last_error TEXT,
        headers TEXT,
        payload BLOB,
        result BLOB,
        payload_crc INTEGER,
        headers_crc INTEGER,
        result_crc INTEGER,
        rank INTEGER NOT NULL DEFAULT 0,
        parked INTEGER NOT NULL DEFAULT 0,
        limit_key TEXT,
        is_retry INTEGER NOT NULL DEFAULT 0,
        cancel_reason TEXT,
        aging_ms INTEGER,
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
    # What is over 2 KiB has a row of its own, so that a claim or a renewal never rewrites its bytes. The key is
    # 4 * seq + kind: found by rowid, no second index.
    f"""CREATE TABLE IF NOT EXISTS {OVERFLOW} (key INTEGER PRIMARY KEY, data BLOB NOT NULL)""",
    f"""CREATE TABLE IF NOT EXISTS {ATTEMPT} (
        job INTEGER NOT NULL REFERENCES {JOB} (seq),
        ordinal INTEGER NOT NULL,
        step INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        claimed_ms INTEGER NOT NULL,
        ended_ms INTEGER NOT NULL,
        outcome TEXT NOT NULL,
        error TEXT,
        owner INTEGER,
        PRIMARY KEY (job, ordinal)
    ) WITHOUT ROWID""",
    # The line of each queue: a claim reads its head, whatever else the table holds. What is parked waits beside it.
    f"""CREATE INDEX IF NOT EXISTS taquba_job_pending ON {JOB} (queue, rank, place)
        WHERE status = 'pending' AND parked = 0""",
    # What waits for its time. ``due_clock`` says on which scale: 0 the wall clock, 1 the clock of the boot
    # whose number the meta table holds.
    f"""CREATE INDEX IF NOT EXISTS taquba_job_due ON {JOB} (queue, due_clock, due_ms) WHERE due_ms IS NOT NULL""",
    f"""CREATE INDEX IF NOT EXISTS taquba_job_claimed ON {JOB} (owner, lease_until_ms)
        WHERE lease_until_ms IS NOT NULL""",
    f"""CREATE UNIQUE INDEX IF NOT EXISTS taquba_job_dedup ON {JOB} (queue, dedup_key)
        WHERE dedup_key IS NOT NULL""",
    f"""CREATE UNIQUE INDEX IF NOT EXISTS taquba_job_active_run ON {JOB} (queue, run_id)
        WHERE run_id IS NOT NULL AND finished_ms IS NULL""",
    f"""CREATE INDEX IF NOT EXISTS taquba_job_run ON {JOB} (queue, run_id, seq) WHERE run_id IS NOT NULL""",
    f"""CREATE INDEX IF NOT EXISTS taquba_job_expiry ON {JOB} (expires_ms) WHERE expires_ms IS NOT NULL""",
    f"""CREATE INDEX IF NOT EXISTS taquba_job_finished ON {JOB} (queue, status, seq)
        WHERE finished_ms IS NOT NULL""",
    f"""CREATE INDEX IF NOT EXISTS taquba_job_failed ON {JOB} (queue, seq) WHERE verdict = 'failed'""",
    # Runs that were asked to stop and have not ended: few, among whatever else is claimed.
    f"""CREATE INDEX IF NOT EXISTS taquba_job_cancelling ON {JOB} (queue, seq)
        WHERE cancel_requested = 1 AND finished_ms IS NULL""",
    f"""CREATE INDEX IF NOT EXISTS taquba_job_listing ON {JOB} (queue, seq)""",
    *features.SCHEMA,
    *refusals(SCHEMA_VERSION, *OLD_NAMES),
    f"""INSERT OR IGNORE INTO {META} (key, value) VALUES ('next_seq', 1)""",
    # Last, so that a store whose creation was cut short has no version and is completed by the next open.
    f"""INSERT OR IGNORE INTO {META} (key, value) VALUES ('schema', {SCHEMA_VERSION})""",
)
