"""How far steps have come."""

from __future__ import annotations

from typing import Final

from taquba_workflow_sync.storage.relational.sql.names import JOB, table

PROGRESS: Final = table("progress")


SCHEMA_OF_PROGRESS: Final = (
    # What was said last, under which claim: of any other it is nothing, so no end of a step has to clear it.
    f"""CREATE TABLE IF NOT EXISTS {PROGRESS} (
        job INTEGER PRIMARY KEY REFERENCES {JOB} (seq),
        token TEXT NOT NULL,
        done NOT NULL,
        total,
        note TEXT NOT NULL,
        at_ms INTEGER NOT NULL
    )""",
)


# progress: the row, while the token holds
FENCED_PROGRESS = f"SELECT belongings FROM {JOB} WHERE seq = ? AND id = ? AND token = ? AND status = 'claimed'"


PUT_PROGRESS = f"INSERT OR REPLACE INTO {PROGRESS} (job, token, done, total, note, at_ms) VALUES (?, ?, ?, ?, ?, ?)"


GET_PROGRESS = f"""SELECT p.done, p.total, p.note, p.at_ms FROM {JOB} AS j JOIN {PROGRESS} AS p
    ON p.job = j.seq AND p.token = j.token WHERE j.seq = ?"""


DROP_PROGRESS = f"DELETE FROM {PROGRESS} WHERE job = ?"
