"""How the tables of one version become those of the next, statement by statement.

A table gets a new name with each version, and under the old one stays a view that cannot be read: an older program
that still has the store open fails at its next statement, with an error that says why.
"""

from __future__ import annotations

from typing import Final


def refusals(version: int, *names: str) -> tuple[str, ...]:
    """Return the views that refuse the statements of older programs; the sentence is the name of no table."""
    sentence = (
        f"the store has schema version {version} since it was upgraded: restart with the new taquba-workflow-sync"
    )
    return tuple(f'CREATE VIEW IF NOT EXISTS {name} AS SELECT * FROM "{sentence}"' for name in names)


#: What version 1 called its tables.
OLD_NAMES_1: Final = ("taquba_queue", "taquba_job", "taquba_part", "taquba_attempt")


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
