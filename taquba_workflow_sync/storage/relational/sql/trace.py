"""The tracebacks of attempts that failed."""

from __future__ import annotations

from typing import Final

from taquba_workflow_sync.storage.relational.sql.names import JOB, table

TRACE: Final = table("trace")


SCHEMA_OF_TRACE: Final = (
    f"""CREATE TABLE IF NOT EXISTS {TRACE} (
        id INTEGER PRIMARY KEY,
        job INTEGER NOT NULL REFERENCES {JOB} (seq),
        ordinal INTEGER NOT NULL,
        trace TEXT NOT NULL,
        UNIQUE (job, ordinal)
    )""",
)


PUT_TRACE = f"INSERT OR REPLACE INTO {TRACE} (job, ordinal, trace) VALUES (?, ?, ?)"


# what the newest attempts push out of the history
DROP_OLD_TRACES = f"DELETE FROM {TRACE} WHERE job = ? AND ordinal > ? AND ordinal <= ?"


TRACES_OF_ROW = f"SELECT ordinal, trace FROM {TRACE} WHERE job = ?"


TRACES_OF_JOB = f"SELECT m.ordinal, m.trace FROM {JOB} AS j JOIN {TRACE} AS m ON m.job = j.seq WHERE j.id = ?"


# what a deleted job has left
DISCARDED_TRACES = f"SELECT id, length(trace) FROM {TRACE} WHERE job = ? LIMIT ?"


DROP_TRACE = f"DELETE FROM {TRACE} WHERE id = ?"
