"""What nobody sees any more and may be many rows: noted in one, gone in pieces."""

from __future__ import annotations

from typing import Final

from taquba_workflow_sync.storage.relational.sql.names import table

GARBAGE: Final = table("garbage")


SCHEMA_OF_GARBAGE: Final = (
    # ``kind`` says of which table, ``ref`` which rows of it.
    f"""CREATE TABLE IF NOT EXISTS {GARBAGE} (
        id INTEGER PRIMARY KEY,
        kind INTEGER NOT NULL,
        ref INTEGER NOT NULL
    )""",
)


DISCARD = f"INSERT INTO {GARBAGE} (kind, ref) VALUES (?, ?)"


# numbers, whatever a damaged row holds: it must keep nothing else from being collected
FIRST_GARBAGE = f"""SELECT id, CAST(kind AS INTEGER), CAST(ref AS INTEGER) FROM {GARBAGE}
    WHERE id > 0 ORDER BY id LIMIT 1"""


DROP_GARBAGE = f"DELETE FROM {GARBAGE} WHERE id = ?"
