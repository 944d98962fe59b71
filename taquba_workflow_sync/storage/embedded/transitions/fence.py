"""The fence: a claim can be ended only under its token."""

from __future__ import annotations

from typing import NamedTuple


class Held(NamedTuple):
    """A row about to leave its state, as the transaction found it."""

    seq: int
    id: str
    queue: int
    step: int
    attempts: int
    ordinal: int
    cancel_requested: int
    claimed_ms: int
    place: int
    priority: int
    wide: int
    run_id: str | None
    termination: int
    keep_done_ms: int | None
    keep_dead_ms: int | None
    headers: str | None


def row_number(token: str) -> int:
    """Return the row a token names: it ends with it, so that the fence finds its row without an index."""
    seq = token.rpartition(".")[2]
    return int(seq) if seq.isdecimal() and seq.isascii() and len(seq) < 19 else 0


def _attempt_number(token: str) -> int:
    """Return which attempt a token is of; only for tokens that passed the fence."""
    return int(token.split(".", 2)[1])
