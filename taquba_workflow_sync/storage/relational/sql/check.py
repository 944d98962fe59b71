"""What a check looks at; each statement reads a bounded number of rows."""

from __future__ import annotations

from taquba_workflow_sync.storage.relational.columns import COLUMNS
from taquba_workflow_sync.storage.relational.sql.names import ATTEMPT, JOB, OVERFLOW, QUEUE

INTEGRITY = "PRAGMA integrity_check(100)"


# what there is of the store's own; diskcache's tables are its own affair
SCHEMA_TEXTS = "SELECT name, sql FROM sqlite_master WHERE name LIKE 'taquba_%' AND sql IS NOT NULL"


# rows of queues that there are none of would be counted nowhere
STRAY_ROWS = f"SELECT count(*) FROM {JOB} WHERE queue NOT IN (SELECT id FROM {QUEUE})"


ROWS_AFTER = f"SELECT {', '.join(COLUMNS)} FROM {JOB} WHERE seq > ? ORDER BY seq LIMIT ?"


# where a page of the table is damaged: the numbers of the rows, from an index; each is then read by WHOLE_ROW
NUMBERS_AFTER = f"SELECT seq FROM {JOB} INDEXED BY taquba_job_listing WHERE seq > ? ORDER BY seq LIMIT ?"


STRAY_OVERFLOWS = f"""SELECT key FROM {OVERFLOW} AS o WHERE NOT EXISTS (
    SELECT 1 FROM {JOB} AS j WHERE j.seq = o.key / 4 AND (j.belongings >> (o.key & 3)) & 1) LIMIT ?"""


STRAY_ATTEMPTS = f"""SELECT DISTINCT a.job FROM {ATTEMPT} AS a WHERE NOT EXISTS (
    SELECT 1 FROM {JOB} AS j WHERE j.seq = a.job) LIMIT ?"""
