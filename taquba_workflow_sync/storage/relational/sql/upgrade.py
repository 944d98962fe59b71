"""How the tables of one version become those of the next, statement by statement.

A table gets a new name with each version, and under the old one stays a view that cannot be read: an older program
that still has the store open fails at its next statement, with an error that says why.
"""

from __future__ import annotations

import re
from typing import Final

from taquba_workflow_sync.storage.relational.sql import features
from taquba_workflow_sync.storage.relational.sql.names import SCHEMA_VERSION


def refusals(version: int, *names: str) -> tuple[str, ...]:
    """Return the views that refuse the statements of older programs; the sentence is the name of no table."""
    sentence = (
        f"the store has schema version {version} since it was upgraded: restart with the new taquba-workflow-sync"
    )
    return tuple(f'CREATE VIEW IF NOT EXISTS {name} AS SELECT * FROM "{sentence}"' for name in names)


#: What version 1 called its tables.
OLD_NAMES_1: Final = ("taquba_queue", "taquba_job", "taquba_part", "taquba_attempt")
#: What version 2 did.
OLD_NAMES_2: Final = ("taquba_queue_2", "taquba_job_2", "taquba_overflow_2", "taquba_attempt_2")
#: What version 3 did: its own, and those that it gave to features.
_FEATURES_3: Final = (
    "garbage", "memo_scope", "memo", "kv", "refusal", "signal", "signal_id", "mailbox", "wait", "timing", "settings",
    "schedule", "schedule_spec", "owner", "event", "progress", "limit", "rate", "rated", "group", "member", "parent",
    "child",
)  # fmt: skip
OLD_NAMES_3: Final = tuple(f"taquba_{name}_3" for name in ("queue", "job", "overflow", "attempt", *_FEATURES_3))
OLD_NAMES: Final = (*OLD_NAMES_1, *OLD_NAMES_2, *OLD_NAMES_3)


def of_version_3(statement: str) -> str | None:
    """Return a statement of today's schema as version 3 had it, or None: it is about a table that is newer."""
    then = statement.replace(f"_{SCHEMA_VERSION}", "_3")
    return then if all(name in OLD_NAMES_3 for name in _TABLES.findall(then)) else None


_TABLES: Final = re.compile(r"taquba_[a-z_]+_3\b")


TO_VERSION_2: Final = (
    "ALTER TABLE taquba_queue RENAME TO taquba_queue_2",
    "ALTER TABLE taquba_queue_2 RENAME COLUMN observer TO subscription",
    "ALTER TABLE taquba_job RENAME TO taquba_job_2",
    "ALTER TABLE taquba_job_2 RENAME COLUMN wide TO overflow",
    "ALTER TABLE taquba_job_2 ADD COLUMN payload_crc INTEGER",
    "ALTER TABLE taquba_job_2 ADD COLUMN headers_crc INTEGER",
    "ALTER TABLE taquba_job_2 ADD COLUMN result_crc INTEGER",
    "ALTER TABLE taquba_part RENAME TO taquba_overflow_2",
    "ALTER TABLE taquba_attempt RENAME TO taquba_attempt_2",
    """CREATE INDEX taquba_job_cancelling ON taquba_job_2 (queue, seq)
        WHERE cancel_requested = 1 AND finished_ms IS NULL""",
    *refusals(2, *OLD_NAMES_1),
)


_COUNTERS: Final = (
    "bare_waiting",
    "bare_claimed",
    "cancelling",
    "runs_succeeded",
    "runs_failed",
    "runs_cancelled",
    "cancelling_waiting",
)


TO_VERSION_3: Final = (
    # First: with a view that cannot be read SQLite renames nothing.
    *(f"DROP VIEW {name}" for name in OLD_NAMES_1),
    "ALTER TABLE taquba_queue_2 RENAME TO taquba_queue_3",
    *(
        f"ALTER TABLE taquba_queue_3 ADD COLUMN {name} INTEGER NOT NULL DEFAULT 0"
        for name in ("paused", "limited", "timed", "parked", "groups", *_COUNTERS)
    ),
    "ALTER TABLE taquba_job_2 RENAME TO taquba_job_3",
    "ALTER TABLE taquba_job_3 RENAME COLUMN overflow TO belongings",
    "ALTER TABLE taquba_job_3 ADD COLUMN rank INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE taquba_job_3 ADD COLUMN parked INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE taquba_job_3 ADD COLUMN limit_key TEXT",
    "ALTER TABLE taquba_job_3 ADD COLUMN is_retry INTEGER NOT NULL DEFAULT 0",
    "UPDATE taquba_job_3 SET is_retry = 1 WHERE due_ms IS NOT NULL AND attempts > 0",
    "ALTER TABLE taquba_job_3 ADD COLUMN cancel_reason TEXT",
    "ALTER TABLE taquba_job_3 ADD COLUMN aging_ms INTEGER",
    "UPDATE taquba_job_3 SET rank = priority",
    "DROP INDEX taquba_job_pending",
    """CREATE INDEX taquba_job_pending ON taquba_job_3 (queue, rank, place)
        WHERE status = 'pending' AND parked = 0""",
    "ALTER TABLE taquba_overflow_2 RENAME TO taquba_overflow_3",
    "ALTER TABLE taquba_attempt_2 RENAME TO taquba_attempt_3",
    "ALTER TABLE taquba_attempt_3 ADD COLUMN owner INTEGER",
    # What of a queue is counted since: its runs by state, as they are kept.
    """UPDATE taquba_queue_3 SET
        bare_waiting = (SELECT count(*) FROM taquba_job_3 AS j WHERE j.queue = taquba_queue_3.id
            AND j.run_id IS NULL AND j.status IN ('pending', 'scheduled')),
        bare_claimed = (SELECT count(*) FROM taquba_job_3 AS j WHERE j.queue = taquba_queue_3.id
            AND j.run_id IS NULL AND j.status = 'claimed'),
        cancelling = (SELECT count(*) FROM taquba_job_3 AS j WHERE j.queue = taquba_queue_3.id
            AND j.run_id IS NOT NULL AND j.status = 'claimed' AND j.cancel_requested IS NOT 0),
        cancelling_waiting = (SELECT count(*) FROM taquba_job_3 AS j WHERE j.queue = taquba_queue_3.id
            AND j.run_id IS NOT NULL AND j.status IN ('pending', 'scheduled') AND j.cancel_requested IS NOT 0),
        runs_succeeded = (SELECT count(*) FROM taquba_job_3 AS j WHERE j.queue = taquba_queue_3.id
            AND j.run_id IS NOT NULL AND j.status = 'done' AND j.verdict IS 'succeeded'),
        runs_failed = (SELECT count(*) FROM taquba_job_3 AS j WHERE j.queue = taquba_queue_3.id
            AND j.run_id IS NOT NULL AND (j.status = 'dead' OR (j.status = 'done' AND j.verdict IS NOT 'succeeded'))),
        runs_cancelled = (SELECT count(*) FROM taquba_job_3 AS j WHERE j.queue = taquba_queue_3.id
            AND j.run_id IS NOT NULL AND j.status = 'cancelled')""",
    *filter(None, map(of_version_3, features.SCHEMA)),
    *refusals(3, *OLD_NAMES_1, *OLD_NAMES_2),
)
