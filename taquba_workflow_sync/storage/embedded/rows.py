"""The rows that statements read and write: a statement's list of columns is a row's list of fields."""

from __future__ import annotations

from typing import NamedTuple


class Held(NamedTuple):
    """A row about to leave its state, as the transaction found it."""

    seq: int
    id: str
    queue: int
    status: str
    step: int
    attempts: int
    max_attempts: int
    ordinal: int
    cancel_requested: int
    token: str | None
    owner: str | None
    claimed_ms: int
    lease_until_ms: int | None
    place: int
    priority: int
    overflow: int
    run_id: str | None
    termination: int
    keep_done_ms: int | None
    keep_dead_ms: int | None
    headers: str | None


class TakenRow(NamedTuple):
    """A row that was just claimed."""

    seq: int
    id: str
    place: int
    priority: int
    token: str
    step: int
    attempts: int
    max_attempts: int
    cancel_requested: int
    enqueued_ms: int
    run_at_ms: int | None
    run_id: str | None
    last_error: str | None
    input_hash: bytes | None
    overflow: int
    headers: str | None
    payload: bytes | None
    payload_crc: int | None
    headers_crc: int | None


class AdvancedRow(NamedTuple):
    """A row that was just advanced with others; ``step`` is the one after."""

    seq: int
    ordinal: int
    queue: int
    step: int
    claimed_ms: int


class NewRow(NamedTuple):
    """What an insert writes; the other columns have their defaults."""

    seq: int
    id: str
    queue: int
    status: str
    priority: int
    place: int
    max_attempts: int
    due_ms: int | None
    run_at_ms: int | None
    enqueued_ms: int
    keep_done_ms: int | None
    keep_dead_ms: int | None
    dedup_key: str | None
    run_id: str | None
    input_hash: bytes | None
    overflow: int
    headers: str | bytes | None
    payload: str | bytes | None
    payload_crc: int | None
    headers_crc: int | None


class NamedRow(NamedTuple):
    """A row of a run id, as a submit needs it."""

    id: str
    input_hash: bytes
    status: str
    verdict: str | None
    finished_ms: int | None
    keep_done_ms: int | None


class FinishedRow(NamedTuple):
    """A row that may be put back in line, or removed."""

    seq: int
    queue: int
    status: str
    verdict: str | None
    run_id: str | None
    overflow: int


class WaitingRow(NamedTuple):
    """A row in line that may be removed."""

    seq: int
    status: str
    overflow: int


class ShownRow(NamedTuple):
    """A row as it is shown."""

    seq: int
    id: str
    queue_name: str
    status: str
    priority: int
    step: int
    attempts: int
    max_attempts: int
    cancel_requested: int
    owner: str | None
    enqueued_ms: int
    claimed_ms: int | None
    lease_until_ms: int | None
    run_at_ms: int | None
    finished_ms: int | None
    verdict: str | None
    last_error: str | None
    dedup_key: str | None
    run_id: str | None
    termination: int
    keep_done_ms: int | None
    keep_dead_ms: int | None
    overflow: int
    headers: str | None
    payload: bytes | None
    result: bytes | None
    payload_crc: int | None
    headers_crc: int | None
    result_crc: int | None


class OwnedClaim(NamedTuple):
    """The claim of a worker loop."""

    id: str
    token: str
    owner: str
    cancel_requested: int
    lease_until_ms: int
    lease_ms: int


class Attempt(NamedTuple):
    """What a job's history has of one claim."""

    job: int
    ordinal: int
    step: int
    attempt: int
    claimed_ms: int
    ended_ms: int
    outcome: str
    error: str | None
