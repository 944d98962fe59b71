"""What keeps a row from being worked on, or moved on."""

from __future__ import annotations

from typing import Any

from taquba_workflow_sync.clock import FIRST_MS, LAST_MS
from taquba_workflow_sync.storage.embedded.columns import _ACTIVE, _COLUMNS, _ID, _MANY, invalid
from taquba_workflow_sync.storage.embedded.overflow import Overflow
from taquba_workflow_sync.storage.embedded.transaction import Transaction
from taquba_workflow_sync.storage.port.status import JobStatus


def is_sound_claim(fields: list[Any]) -> bool:
    """Whether the columns of a row just claimed, in the order of the claim's statement, can be worked on."""
    place, job_id, _, step, attempts, limit, payload, headers, priority, flag, run_id, enqueued, run_at, error = fields
    return (
        type(payload) is bytes
        and type(headers) is str
        and type(job_id) is str
        and _ID.match(job_id) is not None
        and type(step) is int
        and 0 <= step < _MANY
        and type(attempts) is int
        and type(limit) is int
        and 1 <= attempts <= limit
        and type(priority) is int
        and type(place) is int
        and flag in (0, 1)
        and (run_id is None or (type(run_id) is str and _ID.match(run_id) is not None))
        and type(enqueued) is int
        and FIRST_MS <= enqueued <= LAST_MS
        and (run_at is None or (type(run_at) is int and FIRST_MS <= run_at <= LAST_MS))
        and (error is None or type(error) is str)
    )


def _why_damaged(tx: Transaction, row: dict[str, Any]) -> str | None:
    """Return what keeps a row that has not ended from being moved on, or None."""
    wrong = [why for column in _COLUMNS if (why := invalid(column, row[column])) is not None]
    if wrong:
        return "; ".join(wrong)
    status, seq = row["status"], row["seq"]
    is_claimed, is_scheduled = status == JobStatus.CLAIMED, status == JobStatus.SCHEDULED
    for column, wanted in (
        ("token", is_claimed), ("owner", is_claimed), ("lease_until_ms", is_claimed), ("due_ms", is_scheduled),
        ("finished_ms", status not in _ACTIVE),
    ):  # fmt: skip
        if (row[column] is not None) != wanted:
            return f"it is {status} and its {column} is {row[column]!r:.80}"
    if (row["run_id"] is None) != (row["input_hash"] is None):
        return f"its run_id is {row['run_id']!r:.80} and its input_hash is {row['input_hash']!r:.80}"
    if row["attempts"] + (status in (JobStatus.PENDING, JobStatus.SCHEDULED)) > row["max_attempts"]:
        return f"it is {status} after {row['attempts']} of {row['max_attempts']} attempts"
    if is_claimed:
        _, attempt, number = ("..." + row["token"]).rsplit(".", 2)
        if number != str(seq) or not attempt.isdecimal() or row["claimed_ms"] is None or row["lease_ms"] is None:
            return f"its token is {row['token']!r:.80}, claimed at {row['claimed_ms']!r}"
    for kind, column, wanted_type in ((Overflow.PAYLOAD, "payload", bytes), (Overflow.HEADERS, "headers", str)):
        data = tx.get_overflow(seq, kind) if row["wide"] & 1 << kind else row[column]
        if type(data) is not wanted_type:
            return f"its {column} is {data!r:.80}"
    return None
