"""The rows that statements read and write: a statement's list of columns is a row's list of fields."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from taquba_workflow_sync.storage.port.group import MOST_MEMBERS


class QueueRow(NamedTuple):
    """A queue as a transaction finds it: who is told of its ended runs, and what it has that needs more than a look at
    its line."""

    id: int
    name: str
    subscription: str | None
    pending: int
    scheduled: int
    claimed: int
    paused: int
    limited: int
    timed: int
    parked: int
    groups: int


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
    rank: int
    belongings: int
    run_id: str | None
    termination: int
    keep_done_ms: int | None
    keep_dead_ms: int | None
    headers: str | None
    cancel_reason: str | None
    parked: int
    limit_key: str | None
    aging_ms: int | None


class TakenRow(NamedTuple):
    """A row that was just claimed."""

    seq: int
    id: str
    place: int
    priority: int
    rank: int
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
    belongings: int
    headers: str | None
    payload: bytes | None
    payload_crc: int | None
    headers_crc: int | None
    limit_key: str | None


class AdvancedRow(NamedTuple):
    """A row that was just advanced with others."""

    seq: int
    ordinal: int
    queue: int
    run_id: str | None


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
    belongings: int
    headers: str | bytes | None
    payload: str | bytes | None
    payload_crc: int | None
    headers_crc: int | None
    rank: int
    limit_key: str | None
    aging_ms: int | None
    parked: int


class NamedRow(NamedTuple):
    """A row of a run id, as a submit needs it."""

    seq: int
    id: str
    belongings: int
    input_hash: bytes
    status: str
    verdict: str | None
    finished_ms: int | None
    keep_done_ms: int | None


class AddressedRow(NamedTuple):
    """A row that a signal is for, or that is to be woken."""

    seq: int
    id: str
    queue: int
    status: str
    belongings: int
    finished_ms: int | None
    keep_done_ms: int | None
    priority: int
    rank: int
    parked: int
    limit_key: str | None
    aging_ms: int | None


class FinishedRow(NamedTuple):
    """A row that may be put back in line, or removed."""

    seq: int
    queue: int
    status: str
    verdict: str | None
    run_id: str | None
    belongings: int
    cancel_requested: int
    priority: int
    limit_key: str | None
    aging_ms: int | None


class WaitingRow(NamedTuple):
    """A row in line that may be removed."""

    seq: int
    status: str
    belongings: int


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
    ordinal: int
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
    belongings: int
    headers: str | None
    payload: bytes | None
    result: bytes | None
    payload_crc: int | None
    headers_crc: int | None
    result_crc: int | None
    parked: int
    limit_key: str | None


class OwnedClaim(NamedTuple):
    """The claim of a worker loop."""

    id: str
    token: str
    owner: str
    cancel_requested: int
    lease_until_ms: int
    lease_ms: int


class ClaimRow(NamedTuple):
    """A claim of anybody's, as it is shown."""

    owner: str
    queue_name: str
    id: str
    run_id: str | None
    step: int
    attempts: int
    claimed_ms: int
    lease_until_ms: int


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
    owner: int | None


class KeptSchedule(NamedTuple):
    """A schedule as a transaction finds it."""

    id: int
    revision: int
    watermark_ms: int
    last_job: str | None


class GroupState(IntEnum):
    """Where a group stands: being written, there for everyone, or being removed."""

    WRITING = 0
    OPEN = 1
    GONE = 2


class StoredGroup(NamedTuple):
    """A group as it is stored; see the table."""

    id: int
    name: bytes | None
    queue: int
    state: int
    total: int
    written: int
    released: int
    stopped: int
    succeeded: int
    failed: int
    cancelled: int
    cancels_on_failure: int
    cancel_requested: int
    work: int
    fingerprint: bytes
    parent: int | None
    waiter: int | None
    keep_ms: int
    ended_ms: int | None

    @property
    def last(self) -> int:
        """How many positions there are to be moved, at most: a damaged number must not make it endless."""
        return min(self.total, MOST_MEMBERS)

    @property
    def ended(self) -> int:
        """How many of its members have ended."""
        return self.succeeded + self.failed + self.cancelled

    @property
    def has_ended(self) -> bool:
        """Whether none of its members is open."""
        return self.ended >= self.total

    @property
    def wakes(self) -> bool:
        """Whether who waits for it waits no more: it has ended, or failed where that is enough."""
        return self.has_ended or bool(self.cancels_on_failure and self.failed > 0)
