"""Who works, or has: the processes of the handles, by number, as the history names them."""

from __future__ import annotations

from typing import Final

from taquba_workflow_sync.storage.relational.sql.names import JOB, table

OWNER: Final = table("owner")


SCHEMA_OF_OWNER: Final = (
    # One handle that has claimed, or was about to: its name as the claims have it. The oldest go, once there are many.
    f"""CREATE TABLE IF NOT EXISTS {OWNER} (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        host TEXT NOT NULL,
        pid INTEGER NOT NULL
    )""",
)


# enrol: before the first claim of a handle, or with it
ENROL = f"INSERT OR IGNORE INTO {OWNER} (name, host, pid) VALUES (?, ?, ?)"


OWNER_NUMBER = f"SELECT id FROM {OWNER} WHERE name = ?"


FORGET_OWNER = f"DELETE FROM {OWNER} WHERE id = ?"


# the process behind a claim
WORKER_OF = f"SELECT host, pid FROM {OWNER} WHERE name = ?"


#: The number of a held row's owner: this handle's own (its name, its number), nobody's, or another's by its name.
NUMBER_OF_HOLDER: Final = f"""CASE {JOB}.owner WHEN ? THEN ? WHEN '' THEN NULL
        ELSE (SELECT o.id FROM {OWNER} AS o WHERE o.name = {JOB}.owner) END"""
