"""Whether a job is as it was stored: what must hold of its columns, and the checksums of what it carries."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final

from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.belongings import Belonging
from taquba_workflow_sync.storage.relational.checking.invalid import why_invalid
from taquba_workflow_sync.storage.relational.columns import COLUMNS
from taquba_workflow_sync.storage.relational.connection import Connection
from taquba_workflow_sync.storage.relational.overflow import Overflow, is_changed

RESTORE: Final = "restore a backup (docs/operations.md)"
_SUBMIT_AGAIN: Final = "submit the run again with its input, or restore a backup"


def why_damaged(connection: Connection, row: dict[str, Any]) -> str | None:
    """Return what is wrong with a row, given by its columns, or with what it carries; None: nothing is."""
    who = f"job {row['id']!r:.80} (row {row['seq']})"
    wrong = why_invalid(row)
    if wrong is not None:
        return f"{who} is damaged: {wrong}; the next transition that meets it makes it a dead letter"
    for kind in Overflow:
        column = COLUMNS[kind.name.lower()]
        wanted: Any = column.kind
        data = row[column.name]
        if row["belongings"] & 1 << kind:
            found = connection.execute(sql.GET_OVERFLOW, (row["seq"] * 4 + kind,)).fetchone()
            data = None if found is None else found[0]
        is_missing = data is None and (row["belongings"] & 1 << kind or kind is not Overflow.RESULT)
        if is_missing or (data is not None and type(data) is not wanted):
            return f"the {column.name} of {who} is missing or of another type; {_SUBMIT_AGAIN}"
        if is_changed(data, row[f"{column.name}_crc"]):
            return f"the {column.name} of {who} is not what was stored: its checksum differs; {_SUBMIT_AGAIN}"
        is_input = kind is Overflow.PAYLOAD and row["step"] == 0 and row["input_hash"] is not None
        is_input = is_input and not row["belongings"] & Belonging.OTHER_INPUT
        if is_input and sha256(data).digest() != row["input_hash"]:
            return f"the input of {who} is not what was submitted: its SHA-256 differs; {_SUBMIT_AGAIN}"
    return None
