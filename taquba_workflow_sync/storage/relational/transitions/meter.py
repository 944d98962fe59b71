"""What is counted for those who watch, added in the commits of others."""

from __future__ import annotations

from taquba_workflow_sync.storage.port.meter import (
    MINUTE_MS,
    MINUTES,
    MOST_LABELS,
    OTHER_LABEL,
    Added,
    Meter,
    Series,
    has_minutes,
)
from taquba_workflow_sync.storage.port.run import terminal_status
from taquba_workflow_sync.storage.port.status import AttemptOutcome, JobStatus, Verdict
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.belongings import SETTINGS
from taquba_workflow_sync.storage.relational.rows import Held
from taquba_workflow_sync.storage.relational.transaction import Transaction
from taquba_workflow_sync.storage.relational.transitions.settings import current_of


def add(tx: Transaction, added: Added) -> None:
    """Add to series; a label that is one too many counts with the others."""
    if not added:
        return
    tx.transitions.add("meter")
    minute = tx.now_ms // MINUTE_MS
    labels = _Labels(tx)
    merged: dict[Series, int] = {}
    for series, many in added.items():
        counts_as = series._replace(label=labels.admitted(series.queue, series.label))
        merged[counts_as] = merged.get(counts_as, 0) + many
    for series, many in merged.items():
        row = series.queue.encode(), series.label.encode(), series.meter, series.name, many
        tx.execute(sql.ADD_TO_METER, (0, *row))
        if has_minutes(series):
            tx.execute(sql.ADD_TO_METER, (minute, *row))
    tx.execute(sql.DROP_MINUTES, (minute - MINUTES + 1,))


class _Labels:
    """What the labels of one call count under; each is looked for once, and a queue's are counted once."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._known: dict[tuple[str, str], str] = {}
        self._many: dict[str, int] = {}

    def admitted(self, queue: str, label: str) -> str:
        """Return what a label counts under."""
        if not label:
            return label
        known = self._known.get((queue, label))
        if known is None:
            known = self._known[queue, label] = self._find(queue, label)
        return known

    def _find(self, queue: str, label: str) -> str:
        if self._tx.execute(sql.HAS_LABEL, (queue.encode(), label.encode())).fetchone() is not None:
            return label
        many = self._many.get(queue)
        if many is None:
            (many,) = self._tx.execute(sql.COUNT_LABELS, (queue.encode(), OTHER_LABEL.encode())).fetchone()
        self._many[queue] = many + (many < MOST_LABELS)
        return label if many < MOST_LABELS else OTHER_LABEL


def count_end(tx: Transaction, held: Held, target: JobStatus, verdict: Verdict | None) -> None:
    """Count the end of a run that no dispatcher has ended, which would count it itself."""
    if held.run_id is not None:
        status = terminal_status(target, verdict)
        _count(tx, Series(tx.queue_name(held.queue), "", Meter.RUNS, status.value))


def count_reaped(tx: Transaction, held: Held) -> None:
    """Count an attempt that nobody has ended."""
    given = current_of(tx.execute, held.seq) if held.belongings & SETTINGS else None
    label = given.label if given is not None else None
    series = Series(tx.queue_name(held.queue), label or "", Meter.ATTEMPTS, AttemptOutcome.REAPED.value)
    _count(tx, series)


def _count(tx: Transaction, series: Series) -> None:
    if not tx.metered:
        tx.before_flush.append(lambda: _write(tx))
    tx.metered[series] = tx.metered.get(series, 0) + 1


def _write(tx: Transaction) -> None:
    added = dict(tx.metered)
    tx.metered.clear()
    add(tx, added)
