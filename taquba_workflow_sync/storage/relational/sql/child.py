"""Whose children runs are: by the rows of both, and by what the parent is called, which outlives its row."""

from __future__ import annotations

from typing import Final

from taquba_workflow_sync.storage.relational.sql.names import CHILD, JOB, PARENT

SCHEMA_OF_CHILD: Final = (
    f"""CREATE TABLE IF NOT EXISTS {PARENT} (
        job INTEGER PRIMARY KEY,
        id TEXT NOT NULL,
        run_id TEXT,
        children INTEGER NOT NULL DEFAULT 0
    )""",
    f"""CREATE TABLE IF NOT EXISTS {CHILD} (job INTEGER PRIMARY KEY, parent INTEGER NOT NULL)""",
    f"CREATE INDEX IF NOT EXISTS taquba_parent_id ON {PARENT} (id)",
    f"CREATE INDEX IF NOT EXISTS taquba_parent_run ON {PARENT} (run_id) WHERE run_id IS NOT NULL",
    f"CREATE INDEX IF NOT EXISTS taquba_child_parent ON {CHILD} (parent, job)",
)


ADD_PARENT = f"INSERT OR IGNORE INTO {PARENT} (job, id, run_id) VALUES (?, ?, ?)"


ADD_CHILD = f"INSERT OR REPLACE INTO {CHILD} (job, parent) VALUES (?, ?)"


COUNT_CHILDREN = f"UPDATE {PARENT} SET children = children + ? WHERE job = ?"


DROP_CHILD = f"DELETE FROM {CHILD} WHERE job = ? RETURNING parent"


# once neither the parent nor a child of it is stored
DROP_PARENT = f"""DELETE FROM {PARENT} WHERE job = ? AND NOT EXISTS (SELECT 1 FROM {CHILD} WHERE parent = ?)
    AND NOT EXISTS (SELECT 1 FROM {JOB} WHERE seq = ?)"""


PARENT_OF = f"SELECT ifnull(run_id, id) FROM {PARENT} WHERE job = (SELECT parent FROM {CHILD} WHERE job = ?)"


CHILDREN_OF = f"SELECT CAST(children AS INTEGER) FROM {PARENT} WHERE job = ?"


PARENTS_OF_ID = f"SELECT job FROM {PARENT} WHERE id = ?"


PARENTS_OF_RUN = f"SELECT job FROM {PARENT} WHERE run_id = ? ORDER BY job DESC LIMIT 1"
