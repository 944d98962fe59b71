"""What a dispatcher counts of its settlements: in memory, and once a second in the commit of others.

Each step passes here: a few additions, no lock. Only the thread whose turn it is counts.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from taquba_workflow_sync.outcome import TerminalStatus
from taquba_workflow_sync.queue.dispatch.lane import Execution
from taquba_workflow_sync.queue.dispatch.state import Finished
from taquba_workflow_sync.storage.port.claim import ClaimedRow
from taquba_workflow_sync.storage.port.meter import (
    BOUNDS,
    MOST_LABELS,
    OTHER_LABEL,
    SUM,
    Added,
    Counting,
    Meter,
    Series,
    bucket_of,
)
from taquba_workflow_sync.storage.port.run import terminal_status
from taquba_workflow_sync.storage.port.settlement import (
    Ack,
    Action,
    Advance,
    Answer,
    DeadLetter,
    Nack,
    Ongoing,
    PutBack,
    Release,
    SettleCancelled,
    Settlement,
    ending_of,
)
from taquba_workflow_sync.storage.port.status import AttemptOutcome, Verdict

_INTERVAL: Final = 1.0
_FOR_EVER: Final = float("inf")
_OUTCOMES: Final[dict[type[Action], AttemptOutcome]] = {
    Ack: AttemptOutcome.SUCCEEDED,
    Advance: AttemptOutcome.CONTINUED,
    Nack: AttemptOutcome.RETRIED,
    PutBack: AttemptOutcome.PUT_BACK,
    DeadLetter: AttemptOutcome.DEAD,
    SettleCancelled: AttemptOutcome.CANCELLED,
}


class _Steps:
    """What was counted of the steps of one queue and label that went well, which are nearly all."""

    __slots__ = ("buckets", "continued", "runs", "seconds", "started", "succeeded", "waited_ms")

    def __init__(self) -> None:
        self.continued = 0
        self.succeeded = 0
        self.seconds = 0.0
        self.buckets = [0] * (len(BOUNDS) + 1)
        #: Of those that were runs: how many have ended, and how long they had waited to start.
        self.runs = 0
        self.waited_ms = 0
        self.started = [0] * (len(BOUNDS) + 1)


class Tally:
    """Counts what settlements have come to, and says when that is to be stored."""

    def __init__(self) -> None:
        self._steps: dict[tuple[str, str | None], _Steps] = {}
        self._labels: dict[str, set[str]] = {}
        self._rest: dict[Series, int] = {}
        self._stored_at = -_INTERVAL

    @property
    def next_due(self) -> float:
        """When what is counted is to be stored though nothing else is; by the monotonic clock."""
        return self._stored_at + _INTERVAL if self._steps or self._rest else _FOR_EVER

    def counting(self, batch: Sequence[Finished]) -> Counting | None:
        """Return what the commit that settles a batch is to count, if a second has passed; None: it counts nothing."""
        now = time.monotonic()
        if now - self._stored_at < _INTERVAL or not batch:
            return None
        self._stored_at = now
        return Counting(self.take(), [_of(execution, settlement) for execution, settlement in batch])

    def take(self) -> Added:
        """Return what was counted; it is counted no longer."""
        self._stored_at = time.monotonic()
        taken, self._rest = self._rest, {}
        steps, self._steps, self._labels = self._steps, {}, {}
        for (queue, label), counted in steps.items():
            _add(taken, _of_steps(queue, label or "", counted))
        return taken

    def put_back(self, counting: Counting) -> None:
        """Count again what could not be stored."""
        _add(self._rest, counting.before)

    def note(self, batch: Sequence[Finished], answers: Sequence[Answer]) -> None:
        """Count what a batch has come to, after its commit."""
        # Steps without a label that went on in no time are nearly all where many are done in a second.
        queue: str | None = None
        plain: _Steps | None = None
        quick, seconds = 0, 0.0
        for (execution, settlement), answer in zip(batch, answers, strict=True):
            if answer is _HELD and execution.took <= _QUICK and execution.row.settings is None:
                row = execution.row
                if queue is None:
                    queue, plain = row.queue, self._of(row.queue, None)
                if row.queue is queue and row.step:
                    quick += 1
                    seconds += execution.took
                    continue
            if answer is None or answer is _HELD:
                self._note_one(execution, settlement)
        if plain is not None:
            plain.continued += quick
            plain.buckets[0] += quick
            plain.seconds += seconds

    def _note_one(self, execution: Execution, settlement: Settlement) -> None:
        action, row = settlement.action, execution.row
        if type(action) is Advance:
            counted = self._of(row.queue, None if row.settings is None else row.settings.label)
            counted.continued += 1
        elif type(action) is Ack and action.verdict is _SUCCEEDED:
            counted = self._of(row.queue, None if row.settings is None else row.settings.label)
            counted.succeeded += 1
            counted.runs += row.run_id is not None
        else:
            _add(self._rest, self._bounded(_of(execution, settlement)))
            return
        took = execution.took
        counted.seconds += took
        counted.buckets[bisect_left(BOUNDS, took)] += 1
        if not row.step and row.attempts == 1 and row.run_id is not None:
            waited_ms = _waited_ms(row)
            counted.waited_ms += waited_ms
            counted.started[bisect_left(BOUNDS, waited_ms / 1000)] += 1

    def _of(self, queue: str, label: str | None) -> _Steps:
        """Return where steps of a label count; in memory, too, there are not more than the store would take."""
        counted = self._steps.get((queue, label))
        if counted is None:
            counted = self._begin(queue, label)
        return counted

    def _begin(self, queue: str, label: str | None) -> _Steps:
        if label is not None:
            known = self._labels.setdefault(queue, set())
            if len(known) >= MOST_LABELS:
                return self._steps.setdefault((queue, OTHER_LABEL), _Steps())
            known.add(label)
        return self._steps.setdefault((queue, label), _Steps())

    def _bounded(self, added: Added) -> Added:
        """Return what is added with its label, unless there are more of them than a second can have."""
        if len(self._rest) < _MOST_SERIES:
            return added
        return {series._replace(label=OTHER_LABEL if series.label else ""): many for series, many in added.items()}


#: Of what goes wrong, in a second, where labels are new with each step.
_MOST_SERIES: Final = 10_000
_HELD: Final = Ongoing.HELD
_QUICK: Final = BOUNDS[0]
_SUCCEEDED: Final = Verdict.SUCCEEDED


def _add(total: dict[Series, int], added: Added) -> None:
    for series, many in added.items():
        if many:
            total[series] = total.get(series, 0) + many


def _waited_ms(row: ClaimedRow) -> int:
    """Return how long a run has waited for its first step, from when that could have begun."""
    return max(row.claimed_ms - max(row.enqueued_ms, row.run_at_ms or 0), 0)


def _of_steps(queue: str, label: str, counted: _Steps) -> dict[Series, int]:
    """Return what was counted of steps as what it adds to series."""
    added = {
        Series(queue, label, Meter.ATTEMPTS, AttemptOutcome.CONTINUED.value): counted.continued,
        Series(queue, label, Meter.ATTEMPTS, AttemptOutcome.SUCCEEDED.value): counted.succeeded,
        Series(queue, label, Meter.TOOK, SUM): round(counted.seconds * 1e6),
        Series(queue, "", Meter.RUNS, TerminalStatus.SUCCEEDED.value): counted.runs,
        Series(queue, "", Meter.STARTED, SUM): counted.waited_ms * 1000,
    }
    for meter, name, buckets in ((Meter.TOOK, label, counted.buckets), (Meter.STARTED, "", counted.started)):
        for number, many in enumerate(buckets):
            added[Series(queue, name, meter, str(number))] = many
    return added


def _of(execution: Execution, settlement: Settlement) -> dict[Series, int]:
    """Return what one settlement counts for, if it is applied."""
    action, row = settlement.action, execution.row
    if isinstance(action, Release):
        return {}
    outcome = _OUTCOMES[type(action)]
    if isinstance(action, Ack) and action.verdict is Verdict.FAILED:
        outcome = AttemptOutcome.FAILED
    label = (None if row.settings is None else row.settings.label) or ""
    added = {
        Series(row.queue, label, Meter.ATTEMPTS, outcome.value): 1,
        Series(row.queue, label, Meter.TOOK, str(bucket_of(execution.took))): 1,
        Series(row.queue, label, Meter.TOOK, SUM): round(execution.took * 1e6),
    }
    if row.run_id is not None:
        if row.step == 0 and row.attempts == 1:
            waited_ms = _waited_ms(row)
            added[Series(row.queue, "", Meter.STARTED, str(bucket_of(waited_ms / 1000)))] = 1
            added[Series(row.queue, "", Meter.STARTED, SUM)] = waited_ms * 1000
        ending = ending_of(settlement)
        if ending is not None:
            status = terminal_status(ending.status, ending.verdict)
            added[Series(row.queue, "", Meter.RUNS, status.value)] = 1
    return added
