"""Effects: applied one after the other; whoever refuses one has the whole change thrown away."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import assert_never

from taquba_workflow_sync.errors import InvalidStateError, RunNotFoundError
from taquba_workflow_sync.storage.port.effects import (
    Add,
    ComparePut,
    Delete,
    Effect,
    Insert,
    OpenGroup,
    Put,
    SendSignal,
    value_after,
)
from taquba_workflow_sync.storage.port.event import EventKind
from taquba_workflow_sync.storage.port.job import Inserted
from taquba_workflow_sync.storage.port.signals import NewSignal, SignalOutcome
from tests.storage.memory import groups, jobs, signals
from tests.storage.memory.events import note_event
from tests.storage.memory.state import Row
from tests.storage.memory.transaction import Transaction
from tests.storage.memory.values_by_key import look, write

_log = logging.getLogger(__name__)


def apply(tx: Transaction, effects: Sequence[Effect], sender: Row | None = None) -> list[Inserted]:
    """Apply effects, of a job or a program; returns what became of the jobs in them. A run's are its children."""
    answers: list[Inserted] = []
    for effect in effects:
        match effect:
            case Insert(job=job, effects=inner):
                (answer,) = jobs.insert(tx, [job])
                answers.append(answer)
                if answer.is_new:
                    _adopt(tx, sender, answer.job_id)
                    apply(tx, inner, sender)
            case SendSignal():
                _send(tx, effect, None if sender is None else sender.id)
            case OpenGroup(name=name, fingerprint=fingerprint):
                groups.open_(tx, name, fingerprint)
            case Put() | Delete() | ComparePut() | Add():
                found = look(tx.state, effect.key, tx.now_ms)
                write(tx, effect.key, value_after(effect, found, tx.now_ms))
            case _:
                assert_never(effect)
    return answers


def _send(tx: Transaction, effect: SendSignal, sender: str | None) -> None:
    try:
        signals.send(tx, effect.queue, effect.run_id, effect.signal)
    except (RunNotFoundError, InvalidStateError) as refusal:
        if sender is None:
            raise
        why = f"signal {effect.signal.name!r:.80}: {refusal}"
        row = tx.state.rows.get(sender)
        if row is not None and row.run is not None:
            note_event(tx, sender, EventKind.SIGNAL_DROPPED, why)
        else:
            _log.warning("dropped: %s", why)


def send_signal(tx: Transaction, queue: str, run_id: str, signal: NewSignal, submit: Insert | None) -> SignalOutcome:
    """Hand a signal to a run, submitted first if it is not there."""
    row = jobs.newest_of_run(tx, queue, run_id)
    if submit is not None and (row is None or signal.id not in row.signal_ids):
        apply(tx, [submit])
    return signals.send(tx, queue, run_id, signal)


def _adopt(tx: Transaction, parent: Row | None, job_id: str) -> None:
    row = tx.state.rows[job_id]
    if parent is None or parent.run_id is None or row.run is None:
        return
    tx.state.rows[job_id] = replace(row, parent=parent.id, parent_run=parent.run_id)
    stored = tx.state.rows[parent.id]
    tx.state.rows[parent.id] = replace(stored, children=stored.children + 1)
