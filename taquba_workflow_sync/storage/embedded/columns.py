"""The columns of a job: what each may hold, and what stands for a value that it may not."""

from __future__ import annotations

import re
from typing import Any, Final

from taquba_workflow_sync.clock import FIRST_MS, LAST_MS
from taquba_workflow_sync.storage.port.status import JobStatus, Verdict

_MANY: Final = 2**53


# A row's parts have the key 4 * seq + kind, which must fit.
_LAST_SEQ: Final = 2**60


#: What a whole number may be, and what stands for one that is none of these.
_INTEGERS: Final[dict[str, tuple[int, int, int]]] = {
    "seq": (1, _LAST_SEQ, 0),
    "priority": (-(2**63), 2**63 - 1, 1000),
    "place": (-(2**63), 2**63 - 1, 0),
    "step": (0, _MANY, 0),
    "attempts": (0, _MANY, 0),
    "max_attempts": (1, _MANY, 1),
    "ordinal": (0, _MANY, 0),
    "cancel_requested": (0, 1, 0),
    "due_clock": (0, 1, 0),
    "enqueued_ms": (FIRST_MS, LAST_MS, 0),
    "termination": (0, _MANY, 0),
    "wide": (0, 7, 0),
}


#: The same for those that may be missing, which is what stands for a bad one.
_OPTIONAL_INTEGERS: Final[dict[str, tuple[int, int]]] = {
    "claimed_ms": (FIRST_MS, LAST_MS),
    "lease_until_ms": (-(2**62), 2**62),
    "lease_ms": (0, 2**62),
    "due_ms": (-(2**62), 2**62),
    "run_at_ms": (FIRST_MS, LAST_MS),
    "finished_ms": (FIRST_MS, LAST_MS),
    "expires_ms": (-(2**62), 2**62),
    "keep_done_ms": (0, 2**62),
    "keep_dead_ms": (0, 2**62),
}


_OPTIONAL_TEXTS: Final = ("token", "dedup_key", "last_error")


# What ids are made of; those of notifications and of their webhooks are longer than what may be given.
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,200}\Z")


_OWNER: Final = re.compile(r"[A-Za-z0-9_-]{0,100}\Z")


_OPTIONAL_BYTES: Final = ("input_hash", "payload", "result")


_COLUMNS: Final = (
    *_INTEGERS, *_OPTIONAL_INTEGERS, *_OPTIONAL_TEXTS, *_OPTIONAL_BYTES, "id", "run_id", "owner", "queue", "status",
    "verdict", "headers",
)  # fmt: skip


_ACTIVE: Final = (JobStatus.PENDING, JobStatus.SCHEDULED, JobStatus.CLAIMED)


def invalid(column: str, value: object) -> str | None:
    """Return why a column cannot hold a value, or None."""
    if column in _INTEGERS:
        least, most, _ = _INTEGERS[column]
        fits = type(value) is int and least <= value <= most
    elif column in _OPTIONAL_INTEGERS:
        least, most = _OPTIONAL_INTEGERS[column]
        fits = value is None or (type(value) is int and least <= value <= most)
    elif column in _OPTIONAL_TEXTS or column == "headers":
        fits = value is None or type(value) is str
    elif column in _OPTIONAL_BYTES:
        fits = value is None or type(value) is bytes
    elif column in ("id", "run_id", "owner"):
        pattern = _OWNER if column == "owner" else _ID
        fits = (value is None and column != "id") or (type(value) is str and pattern.match(value) is not None)
    elif column == "queue":
        fits = type(value) is str and value != ""
    elif column == "status":
        fits = value in tuple(JobStatus)
    else:
        fits = column != "verdict" or value in (None, *Verdict)
    return None if fits else f"{column} is {value!r:.80}"


def placeholder(column: str) -> Any:
    """Return what stands for a value that the column cannot hold."""
    if column in _INTEGERS:
        return _INTEGERS[column][2]
    if column in ("id", "queue"):
        return ""
    return JobStatus.DEAD if column == "status" else None
