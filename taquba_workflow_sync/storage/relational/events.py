"""What happened to a run, read."""

from __future__ import annotations

from typing import Any

from taquba_workflow_sync.storage.port.event import EventKind, EventRow, Note, Worker, story
from taquba_workflow_sync.storage.port.job import AttemptRow, JobRow
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.columns import COLUMNS
from taquba_workflow_sync.storage.relational.connection import Connection
from taquba_workflow_sync.storage.relational.reading.trace import traces_of_row
from taquba_workflow_sync.storage.relational.reads import Now, in_one_snapshot
from taquba_workflow_sync.storage.relational.rows import ShownRow
from taquba_workflow_sync.storage.relational.showing import readable_attempt

_OF_ATTEMPT = len(AttemptRow._fields)


def events(connection: Connection, now: Now, job_id: str) -> list[EventRow]:
    """Return what happened to a run in order, all of one moment; nothing of what is none."""
    told: list[EventRow] = []

    def tell(shown: ShownRow, row: JobRow) -> None:
        if row.run_id is not None:
            told.extend(_story(connection, shown, row))

    in_one_snapshot(connection, now, (sql.GET,), (job_id,), with_payload=False, beside=tell)
    return told


def _story(connection: Connection, shown: ShownRow, row: JobRow) -> list[EventRow]:
    attempts = [
        (readable_attempt(values[:_OF_ATTEMPT]), _worker(values[_OF_ATTEMPT:]))
        for values in connection.execute(sql.ATTEMPTS_WITH_WORKERS, (shown.seq,))
    ]
    notes = [note for values in connection.execute(sql.NOTES, (shown.seq,)) if (note := _note(*values)) is not None]
    holder = None if row.owner is None else connection.execute(sql.WORKER_OF, (row.owner,)).fetchone()
    traces = traces_of_row(connection, shown.seq)
    return story(row, shown.ordinal, _worker(holder or (None, None)), attempts, notes, traces)


def _worker(values: Any) -> Worker | None:
    """Return a process, or None where none is known, or its row is damaged."""
    host, pid = values
    return Worker(host, pid) if type(host) is str and type(pid) is int else None


def _note(
    place: object, at_ms: object, kind: object, step: object, outcome: object, error: object, detail: object
) -> Note | None:
    """Return an event as it was noted, or None where that cannot be read: the others can be."""
    is_sound = type(place) is int and COLUMNS["enqueued_ms"].holds(at_ms) and COLUMNS["step"].holds(step)
    if not is_sound or kind not in tuple(EventKind):
        return None
    texts = [text if type(text) is str else None for text in (outcome, error, detail)]
    assert isinstance(place, int) and isinstance(at_ms, int) and isinstance(step, int) and isinstance(kind, str)
    return Note(place, EventRow(at_ms, EventKind(kind), step, None, texts[0], texts[1], None, None, texts[2]))
