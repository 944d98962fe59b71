"""Tracebacks, read."""

from __future__ import annotations

from collections.abc import Iterable

from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.connection import Connection


def traces(connection: Connection, job_id: str) -> dict[int, str]:
    """Return the tracebacks of a job's attempts by ordinal."""
    return _readable(connection.execute(sql.TRACES_OF_JOB, (job_id,)))


def traces_of_row(connection: Connection, seq: int) -> dict[int, str]:
    """Return those of the job in a row."""
    return _readable(connection.execute(sql.TRACES_OF_ROW, (seq,)))


def _readable(found: Iterable[tuple[object, object]]) -> dict[int, str]:
    """Return what can be read of them: damage of one hides no other."""
    return {ordinal: trace for ordinal, trace in found if isinstance(ordinal, int) and isinstance(trace, str)}
