"""What happened to runs: notes in a row, and the story that the port's rule makes of them."""

from __future__ import annotations

from dataclasses import replace

from taquba_workflow_sync.storage.port.event import FIRST, LAST, EventKind, EventRow, Note, place_of, story
from taquba_workflow_sync.storage.port.status import JobStatus
from taquba_workflow_sync.storage.port.texts import storable_error
from tests.storage.memory.reads import show
from tests.storage.memory.state import Row, State
from tests.storage.memory.transaction import Transaction, worker_of


def note(
    row: Row,
    at_ms: int,
    kind: EventKind,
    *,
    outcome: str | None = None,
    error: str | None = None,
    detail: str | None = None,
) -> Row:
    """Return a run with one more event, the first 100 and the last 1,000 of them; a bare job as it is."""
    if row.run is None:
        return row
    place = place_of(row.ordinal, is_claimed=row.status is JobStatus.CLAIMED)
    event = EventRow(at_ms, kind, row.step, outcome=outcome, error=storable_error(error), detail=storable_error(detail))
    notes = (*row.notes, Note(place, event))
    if len(notes) > FIRST + LAST:
        notes = notes[:FIRST] + notes[-LAST:]
    return replace(row, notes=notes)


def without_claim(row: Row) -> Row:
    """Return a row whose notes of its claim stand after the one before: this one is released."""
    before = place_of(row.ordinal - 1, is_claimed=False)
    return replace(row, notes=tuple(Note(min(place, before), event) for place, event in row.notes))


def note_event(tx: Transaction, job_id: str, kind: EventKind, detail: str | None = None) -> None:
    """Note an event of now."""
    tx.put(note(tx.state.rows[job_id], tx.now_ms, kind, detail=detail))


def events(state: State, now_ms: int, job_id: str) -> list[EventRow]:
    """Return what happened to a run."""
    row = state.rows.get(job_id)
    if row is None or row.run is None:
        return []
    attempts = [(attempt, row.workers.get(attempt.ordinal)) for attempt in row.history]
    holder = None if row.held is None else row.held.owner
    worker = None if holder is None else worker_of(holder)
    return story(show(row, now_ms), row.ordinal, worker, attempts, row.notes, row.traces)
