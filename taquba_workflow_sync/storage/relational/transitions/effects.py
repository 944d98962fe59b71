"""Effects: checked, all of them, before anything is written, and then applied."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import assert_never

from taquba_workflow_sync.errors import EffectConflictError, InvalidStateError, RunNotFoundError
from taquba_workflow_sync.storage.port.effects import (
    Add,
    ComparePut,
    Delete,
    Effect,
    Insert,
    OfKey,
    OpenGroup,
    Put,
    SendSignal,
    value_after,
)
from taquba_workflow_sync.storage.port.event import EventKind
from taquba_workflow_sync.storage.port.job import Inserted, NewJob
from taquba_workflow_sync.storage.port.kv import Value
from taquba_workflow_sync.storage.port.notification import notification_id
from taquba_workflow_sync.storage.port.settlement import Ending, Settlement, ending_of
from taquba_workflow_sync.storage.port.signals import NewSignal, SignalOutcome
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.belongings import Belonging
from taquba_workflow_sync.storage.relational.rows import Held
from taquba_workflow_sync.storage.relational.transaction import Transaction
from taquba_workflow_sync.storage.relational.transitions import child, enqueue, group, kv, member, signals
from taquba_workflow_sync.storage.relational.transitions.event import note_event

_log = logging.getLogger(__name__)


class Plan:
    """What some effects come to, one after the other; nothing is written before :meth:`apply`."""

    def __init__(self, tx: Transaction, ending: Ending | None = None, sender: Held | None = None) -> None:
        self._tx = tx
        self._ending = None if ending is None else ending.job_id
        self._sender = sender
        # A hook's call is no run, and what it submits is nobody's child.
        is_run = sender is not None and sender.run_id is not None
        self._parent = child.Parent(sender.seq, sender.id, sender.run_id) if sender is not None and is_run else None
        told = None
        if sender is not None and is_run and ending is not None and tx.subscription(sender.queue) is not None:
            told = notification_id(sender.id, sender.termination + 1)
        self._batch = enqueue.Batch(ending, told)
        self._values: dict[str, Value | None] = {}
        self._jobs: list[NewJob] = []
        self._groups: set[str] = set()
        self._signals: dict[tuple[str, str], list[NewSignal]] = {}
        self._dropped: list[str] = []
        #: What became of the last signal to each run, once it is written.
        self.outcomes: dict[tuple[str, str], SignalOutcome] = {}

    @property
    def opens(self) -> Collection[str]:
        """The groups that it opens: whose settlement this is, may wait for one of them."""
        return self._groups

    def add(self, effects: Sequence[Effect]) -> list[Inserted]:
        """Check effects and note what they write; returns what becomes of the jobs in them.

        Raises:
            EffectConflictError: an expectation does not hold.
            InputMismatchError, DuplicateJobIdError: a job is refused.
            RunNotFoundError, InvalidStateError: a signal is for nobody, and no step's, which goes on without it.
            SignalBufferFullError: there is no room for a signal.
            GroupMismatchError: a group to be opened is not there as it was written.
            InvalidDataError: a value that is looked at is damaged.
        """
        return [answer for effect in effects if (answer := self._add(effect)) is not None]

    def _add(self, effect: Effect) -> Inserted | None:
        match effect:
            case Insert(job=job, effects=effects):
                return self._insert(job, effects)
            case SendSignal():
                self._send(effect)
                return None
            case OpenGroup(name=name, fingerprint=fingerprint):
                group.check_opening(self._tx, name, fingerprint)
                self._groups.add(name)
                return None
            case Put() | Delete() | ComparePut() | Add():
                self._values[effect.key] = value_after(effect, self._look(effect), self._tx.now_ms)
                return None
            case _:
                assert_never(effect)

    def _look(self, effect: OfKey) -> Value | None:
        if effect.key in self._values:
            return self._values[effect.key]
        if isinstance(effect, (Put, Delete)):
            return None  # whatever it is, and though it may be damaged
        return kv.look(self._tx, effect.key)

    def _insert(self, job: NewJob, effects: Sequence[Effect]) -> Inserted:
        answer = enqueue.admit(self._tx, job, self._batch)
        if answer.is_new:
            self._jobs.append(job)
            self.add(effects)
        return answer

    def _send(self, effect: SendSignal) -> None:
        run = (effect.queue, effect.run_id)
        before = self._signals.get(run, [])
        if run not in self._batch.runs:  # what is put in before it has room for all that one commit may send
            try:
                signals.check(self._tx, *run, effect.signal, before, self._ending, self._groups)
            except (RunNotFoundError, InvalidStateError) as refusal:
                if self._sender is None:
                    raise
                self._dropped.append(f"signal {effect.signal.name!r:.80}: {refusal}")
                return
        self._signals[run] = [*before, effect.signal]

    def apply(self) -> None:
        """Write it."""
        tx = self._tx
        tx.transitions.add("effects")
        for key, value in self._values.items():
            kv.write(tx, key, value)
        for job in self._jobs:
            self._write(job)
        for name in self._groups:
            found = member.find(tx, name)  # as it is now: somebody may wait for it
            if found is not None:
                group.open_group(tx, found)
        for run, sent in self._signals.items():
            for signal in sent:
                self.outcomes[run] = signals.send(tx, *run, signal)
        for dropped in self._dropped:
            self._note(dropped)

    def _write(self, job: NewJob) -> None:
        parent = self._parent
        if parent is None or job.run is None:
            enqueue.write(self._tx, job)
            return
        child.adopt(self._tx, parent, enqueue.write(self._tx, job, owned=Belonging.CHILD))
        child.count(self._tx, parent, 1)

    def _note(self, dropped: str) -> None:
        sender = self._sender
        if sender is not None and sender.run_id is not None:
            note_event(self._tx, sender.seq, EventKind.SIGNAL_DROPPED, dropped)
        else:  # a hook, which has no history of its own
            _log.warning("dropped, since nobody will ask for it: %s", dropped)


def commit(tx: Transaction, effects: Sequence[Effect]) -> list[Inserted]:
    """Apply effects of a program, all or none; returns what became of the jobs in them."""
    plan = Plan(tx)
    answers = plan.add(effects)
    plan.apply()
    return answers


def send_signal(tx: Transaction, queue: str, run_id: str, signal: NewSignal, submit: Insert | None) -> SignalOutcome:
    """Hand a signal to a run, submitted first, with its effects, if it is not there; all of it or nothing.

    Raises:
        RunNotFoundError, InvalidStateError, SignalBufferFullError: as for :func:`signals.send`.
        InputMismatchError, QueueFullError: the run cannot be submitted.
        EffectConflictError, DuplicateJobIdError: its effects are refused.
    """
    if submit is None:
        return signals.send(tx, queue, run_id, signal)
    if signals.is_duplicate(tx, queue, run_id, signal):
        return SignalOutcome.DUPLICATE
    plan = Plan(tx)
    plan.add([submit, SendSignal(queue, run_id, signal)])
    plan.apply()
    return plan.outcomes[queue, run_id]


def plan_of(tx: Transaction, held: Held, settlement: Settlement) -> Plan:
    """Check the effects of a settlement against what is stored before it.

    Raises:
        EffectConflictError: an expectation does not hold; it tells how often the step was refused before.
        InputMismatchError, DuplicateJobIdError, SignalBufferFullError, GroupMismatchError, InvalidDataError: as for
            :meth:`Plan.add`.
    """
    plan = Plan(tx, ending_of(settlement), held)
    try:
        plan.add(settlement.effects)
    except EffectConflictError as conflict:
        conflict.refusals = _refusals(tx, held)
        raise
    return plan


def count_refusal(tx: Transaction, held: Held) -> None:
    """Count a refusal with a row that has just been put back."""
    tx.execute(sql.COUNT_REFUSAL, (held.seq, min(_refusals(tx, held), 2**31) + 1))
    tx.execute(sql.OWN_BELONGINGS, (Belonging.REFUSED, held.seq))


def _refusals(tx: Transaction, held: Held) -> int:
    if not held.belongings & Belonging.REFUSED:
        return 0
    row = tx.execute(sql.REFUSALS_OF, (held.seq,)).fetchone()
    return 0 if row is None else max(row[0], 0)


def forget_refusals(tx: Transaction, held: Held) -> None:
    """Have the next refusal of a row be the first in a row."""
    if held.belongings & Belonging.REFUSED:
        tx.execute(sql.FORGET_REFUSALS, (held.seq,))
        tx.execute(sql.DROP_REFUSALS, (held.seq,))
