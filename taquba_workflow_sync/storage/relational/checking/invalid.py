"""What keeps a row from being worked on, or moved on."""

from __future__ import annotations

from typing import Any, Final

from taquba_workflow_sync.storage.port.status import JobStatus
from taquba_workflow_sync.storage.relational.columns import ACTIVE, COLUMNS
from taquba_workflow_sync.storage.relational.overflow import Overflow
from taquba_workflow_sync.storage.relational.transaction import Transaction

#: What is set exactly where a row has one of these statuses.
_SET_WITH: Final = (
    ("token", (JobStatus.CLAIMED,)),
    ("owner", (JobStatus.CLAIMED,)),
    ("lease_until_ms", (JobStatus.CLAIMED,)),
    ("due_ms", (JobStatus.SCHEDULED,)),
    ("finished_ms", tuple(status for status in JobStatus if status.is_finished)),
)


def why_invalid(row: dict[str, Any]) -> str | None:
    """Return what of a row's columns no transition could have stored, or None."""
    wrong = [why for name, column in COLUMNS.items() if (why := column.why_not(row[name])) is not None]
    if wrong:
        return "; ".join(wrong)
    status = row["status"]
    for name, statuses in _SET_WITH:
        if (row[name] is not None) != (status in statuses):
            return f"it is {status} and its {name} is {row[name]!r:.80}"
    if (row["run_id"] is None) != (row["input_hash"] is None):
        return f"its run_id is {row['run_id']!r:.80} and its input_hash is {row['input_hash']!r:.80}"
    if row["attempts"] + (status in (JobStatus.PENDING, JobStatus.SCHEDULED)) > row["max_attempts"]:
        return f"it is {status} after {row['attempts']} of {row['max_attempts']} attempts"
    if status == JobStatus.CLAIMED:
        _, attempt, number = ("..." + row["token"]).rsplit(".", 2)
        is_of_row = number == str(row["seq"]) and attempt.isdecimal()
        if not is_of_row or row["claimed_ms"] is None or row["lease_ms"] is None:
            return f"its token is {row['token']!r:.80}, claimed at {row['claimed_ms']!r}"
    return None


def why_stuck(tx: Transaction, row: dict[str, Any]) -> str | None:
    """Return what keeps a row that has not ended from being worked on or moved on, or None."""
    wrong = why_invalid(row)
    if wrong is not None or row["status"] not in ACTIVE:
        return wrong
    for kind, column, wanted_type in ((Overflow.PAYLOAD, "payload", bytes), (Overflow.HEADERS, "headers", str)):
        data = tx.get_overflow(row["seq"], kind) if row["belongings"] & 1 << kind else row[column]
        if type(data) is not wanted_type:
            return f"its {column} is {data!r:.80}"
    return None
