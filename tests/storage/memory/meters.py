"""What is counted for those who watch."""

from __future__ import annotations

from collections.abc import Sequence

from taquba_workflow_sync.storage.port.meter import (
    MINUTE_MS,
    MINUTES,
    MOST_LABELS,
    OTHER_LABEL,
    Added,
    Counting,
    Meter,
    MinuteRow,
    Series,
    has_minutes,
    merged,
)
from taquba_workflow_sync.storage.port.run import terminal_status
from taquba_workflow_sync.storage.port.settlement import Answer, Ongoing
from taquba_workflow_sync.storage.port.status import AttemptOutcome, JobStatus, Verdict
from tests.storage.memory.state import Row, State
from tests.storage.memory.transaction import Transaction


def add(tx: Transaction, added: Added) -> None:
    """Add to series; a label that is one too many counts with the others."""
    meters, minute = tx.state.meters, tx.now_ms // MINUTE_MS
    for series, many in added.items():
        labels = {each.label for at, each in meters if not at and each.queue == series.queue}
        is_new = series.label not in labels
        if series.label and is_new and len(labels - {"", OTHER_LABEL}) >= MOST_LABELS:
            series = series._replace(label=OTHER_LABEL)
        for at in (0, minute) if has_minutes(series) else (0,):
            meters[at, series] = meters.get((at, series), 0) + many
    if added:
        for at, series in list(meters):
            if 0 < at <= minute - MINUTES:
                del meters[at, series]


def count_settled(tx: Transaction, counting: Counting | None, answers: Sequence[Answer]) -> None:
    """Count what settlements have come to."""
    if counting is not None:
        applied = [each for each, answer in zip(counting.each, answers, strict=True) if _is_applied(answer)]
        add(tx, merged(counting.before, *applied))


def _is_applied(answer: Answer) -> bool:
    return answer is None or isinstance(answer, Ongoing)


def count_end(tx: Transaction, row: Row, target: JobStatus, verdict: Verdict | None) -> None:
    """Count the end of a run that no dispatcher has ended."""
    if row.run is not None:
        add(tx, {Series(row.queue, "", Meter.RUNS, terminal_status(target, verdict).value): 1})


def count_reaped(tx: Transaction, row: Row) -> None:
    """Count an attempt that nobody has ended."""
    add(tx, {Series(row.queue, row.given.label or "", Meter.ATTEMPTS, AttemptOutcome.REAPED.value): 1})


def read(state: State) -> dict[Series, int]:
    """Return every series."""
    return {series: value for (at, series), value in state.meters.items() if not at}


def recent_minutes(state: State, now_ms: int) -> list[MinuteRow]:
    """Return what was added in each of the last minutes."""
    since = now_ms // MINUTE_MS - MINUTES
    found = [MinuteRow(at, series, value) for (at, series), value in state.meters.items() if at > max(since, 0)]
    return sorted(found)


def ready_ages_ms(state: State, now_ms: int) -> dict[str, int]:
    """Return for how long what is longest ready in each queue has been."""
    ages: dict[str, int] = {}
    for row in state.rows.values():
        if row.status is JobStatus.PENDING and not row.parked and not row.is_held and row.waiting is None:
            retried = [note.event.at_ms for note in row.notes if note.event.kind == "retried"]
            ended = [attempt.ended_ms for attempt in row.history[-1:] if attempt.ordinal == row.ordinal]
            since = max(row.enqueued_ms, row.run_at_ms or 0, *retried, *ended)
            ages[row.queue] = max(ages.get(row.queue, 0), now_ms - since, 0)
    return ages
