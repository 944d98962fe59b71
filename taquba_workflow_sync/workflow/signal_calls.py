"""What a client does with the signals of runs; needs no runner."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from taquba_workflow_sync.errors import InvalidRunIdError
from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.queue.handle import QueueHandle
from taquba_workflow_sync.queue.own_handle import checked_given
from taquba_workflow_sync.storage.port.effects import Insert
from taquba_workflow_sync.storage.port.job import JobRow
from taquba_workflow_sync.storage.port.signals import SignalOutcome
from taquba_workflow_sync.workflow.endings import Endings
from taquba_workflow_sync.workflow.signals import Signal, new_signal, signal_of
from taquba_workflow_sync.workflow.spec import RunSpec


def refuse_effects(insert: Insert) -> None:
    """Refuse effects of what is submitted in a program's own transaction: what they expect might not hold later.

    Raises:
        ValueError: there are some.
    """
    if insert.effects:
        raise ValueError(
            "effects do not go with connection; write in the transaction what is to be there with the run, or have the"
            " first step stage them"
        )


class SignalCalls:
    """The part of a client that sends signals, shows and clears them."""

    _handle: QueueHandle
    _queue_name: str
    _endings: Endings

    def _find_visible(self, run_id: object) -> JobRow:
        raise NotImplementedError  # pragma: no cover

    def _insert_of(self, spec: RunSpec) -> Insert:
        raise NotImplementedError  # pragma: no cover

    def signal(
        self,
        run_id: str,
        name: str,
        payload: bytes = b"",
        *,
        signal_id: str | None = None,
        submit: RunSpec | None = None,
        connection: Any = None,
        notify: bool = False,
    ) -> SignalOutcome:
        """Send a signal to the newest run of that name, from any process, in one commit; durable on return.

        DELIVERED: the run waited for that name, and its next step is in line. BUFFERED: it does not yet, or others of
        that name came before; first in, first out. DUPLICATE: the run knows the ``signal_id`` (the last 10,000, as
        long as it is kept), and nothing was changed. With ``submit`` (whose ``run_id`` is the same or None) a run that
        is not there is submitted first, with its effects, in the same commit.

        Safe to repeat with a ``signal_id``. Without one, a ``StorageError`` leaves open whether the signal was
        accepted, and a repeat may be a second signal.

        With ``connection`` (of psycopg, Django or SQLAlchemy, to the store's database) it is sent exactly if the
        transaction that is open there commits; see :meth:`submit`. The answer is BUFFERED then, or DUPLICATE. A run
        that ends before the commit has it in its history as dropped.

        Raises:
            RunNotFoundError: there is no run of that name (any more), and no ``submit``.
            InvalidStateError: it has ended.
            QueueFullError: it would be a new run, and as many wait as ``max_waiting`` of a limit allows.
            SignalBufferFullError: 1,000 signals wait to be asked for, or the run has 64 MiB of memos and signals.
            InputMismatchError, EffectConflictError, DuplicateJobIdError: ``submit``, or an effect of it, is refused, as
                :meth:`submit` would refuse it.
            PayloadTooLargeError: the payload has more than 256 KiB.
            StoreMismatchError: ``connection`` leads to another database.
            TypeError, ValueError: an argument is wrong. Nothing was written, whichever it is.
        """
        given = checked_given(connection, notify)
        validation.identifier(run_id, "run_id", InvalidRunIdError)
        sent = new_signal(name, payload, signal_id)
        insert = None
        if submit is not None:
            validation.instance(submit, RunSpec, "submit")
            if submit.run_id not in (None, run_id):
                raise ValueError(f"submit names the run {submit.run_id!r}, the signal is for {run_id!r}; leave it out")
            insert = self._insert_of(replace(submit, run_id=run_id))
            if given is not None:
                refuse_effects(insert)
            self._endings.register()
        if given is not None:
            job = None if insert is None else insert.job
            return self._handle.send_signal_in(given, self._queue_name, run_id, sent, job)
        return self._handle.send_signal(self._queue_name, run_id, sent, insert)

    def signals(self, run_id: str) -> list[Signal]:
        """Return the signals that the newest run of that name has not used up, the oldest first.

        The one that its current step has received is among them until the step is settled.

        Raises:
            RunNotFoundError: there is no run of that name (any more).
        """
        return [signal_of(each) for each in self._handle.signals(self._find_visible(run_id).id)]

    def clear_signals(self, run_id: str, name: str) -> int:
        """Remove the signals of a name that are buffered now, and return how many; durable on return.

        The one that the run was woken by, or that its current step has received, stays. Ids stay remembered.

        Raises:
            RunNotFoundError: there is no run of that name (any more).
            TypeError, ValueError: an argument is wrong; nothing was changed.
        """
        checked = validation.key(name, "name")
        return self._handle.clear_signals(self._find_visible(run_id).id, checked)
