"""What happened to a run, told in order: derived from its row and its attempts, and from the few notes beside them.

A plain run leaves no note: its submit, its attempts and its last termination are all there already.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from taquba_workflow_sync.storage.port.job import AttemptRow, JobRow
from taquba_workflow_sync.storage.port.run import terminal_status
from taquba_workflow_sync.storage.port.status import JobStatus

#: How much of a long history stays, of the attempts, of the notes, and of what is told of both.
FIRST: Final = 100
LAST: Final = 1_000


class EventKind(enum.StrEnum):
    """What happened. Those after ``TERMINATED`` are noted when they happen; the others are derived."""

    SUBMITTED = "submitted"
    STARTED = "started"
    ENDED = "ended"
    TERMINATED = "terminated"
    CANCEL_REQUESTED = "cancel_requested"
    RETRIED = "retried"
    SIGNAL_DROPPED = "signal_dropped"


class Worker(NamedTuple):
    """Whose claim an attempt was: a process of a machine."""

    host: str
    pid: int


class EventRow(NamedTuple):
    """One event. ``outcome``: of an attempt that ended, or of a run that did; ``trace``: of one that failed."""

    at_ms: int
    kind: EventKind
    step: int
    attempt: int | None = None
    outcome: str | None = None
    error: str | None = None
    host: str | None = None
    pid: int | None = None
    detail: str | None = None
    trace: str | None = None


class Note(NamedTuple):
    """An event that was noted. ``place`` says where it belongs: see :func:`place_of`."""

    place: int
    event: EventRow


class Events(Protocol):
    """What happened to runs."""

    def events(self, job_id: str) -> list[EventRow]:
        """Return what happened to a job that is a run, in order: the first 100 and the last 1,000; else nothing."""
        ...


def place_of(ordinal: int, *, is_claimed: bool) -> int:
    """Return where something belongs that happens when a job has been claimed ``ordinal`` times.

    The start of the nth claim has place 2n - 1 and its end 2n, so that no step of a clock changes the order.
    """
    return 2 * ordinal - is_claimed


def story(
    row: JobRow,
    ordinal: int,
    worker: Worker | None,
    attempts: Iterable[tuple[AttemptRow, Worker | None]],
    notes: Iterable[Note],
    traces: Mapping[int, str],
) -> list[EventRow]:
    """Return what happened to a run in order; ``ordinal`` and ``worker`` are those of its newest claim.

    ``traces``: of its attempts, by ordinal.
    """
    told: list[tuple[int, int, EventRow]] = [(0, 0, EventRow(row.enqueued_ms, EventKind.SUBMITTED, 0))]
    for attempt, by in attempts:
        started = _of_claim(EventKind.STARTED, attempt.claimed_ms, attempt.step, attempt.attempt, by)
        ended = _of_claim(EventKind.ENDED, attempt.ended_ms, attempt.step, attempt.attempt, by)
        told.append((place_of(attempt.ordinal, is_claimed=True), 0, started))
        ended = ended._replace(outcome=attempt.outcome, error=attempt.error, trace=traces.get(attempt.ordinal))
        told.append((place_of(attempt.ordinal, is_claimed=False), 0, ended))
    if row.status is JobStatus.CLAIMED and row.claimed_ms is not None:
        started = _of_claim(EventKind.STARTED, row.claimed_ms, row.step, row.attempts, worker)
        told.append((place_of(ordinal, is_claimed=True), 0, started))
    told += [(note.place, 1, note.event) for note in notes]
    if row.finished_ms is not None:
        outcome = terminal_status(row.status, row.verdict)
        ended = EventRow(row.finished_ms, EventKind.TERMINATED, row.step, outcome=outcome, error=row.last_error)
        told.append((place_of(ordinal, is_claimed=False), 2, ended))
    return bounded([event for _, _, event in sorted(told, key=lambda each: each[:2])])


def bounded(events: Sequence[EventRow]) -> list[EventRow]:
    """Return the first 100 and the last 1,000."""
    if len(events) <= FIRST + LAST:
        return list(events)
    return [*events[:FIRST], *events[-LAST:]]


def _of_claim(kind: EventKind, at_ms: int, step: int, attempt: int, worker: Worker | None) -> EventRow:
    host, pid = (None, None) if worker is None else worker
    return EventRow(at_ms, kind, step, attempt, host=host, pid=pid)
