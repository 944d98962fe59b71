"""The contract of what users write: a runner, called once per attempt of a step."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from taquba_workflow_sync.errors import InvalidStateError
from taquba_workflow_sync.queue.cancel_token import CancelCause, CancelToken
from taquba_workflow_sync.queue.kv import KeyValueView
from taquba_workflow_sync.workflow.claim import StepClaim
from taquba_workflow_sync.workflow.effects import Effects
from taquba_workflow_sync.workflow.group import Group
from taquba_workflow_sync.workflow.keys import idempotency_key
from taquba_workflow_sync.workflow.memo import Memo
from taquba_workflow_sync.workflow.outcomes import StepOutcome
from taquba_workflow_sync.workflow.signals import Signal


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One attempt of one step.

    ``payload`` is the run's input at step 0, then what the step before passed on. ``attempts`` is 1 at the first try;
    a redelivery after a crash or an error adds 1, so a runner must be idempotent for the same (``run_id``,
    ``step_number``). ``headers`` are the submitter's.
    """

    run_id: str
    step_number: int
    payload: bytes
    headers: dict[str, str]
    job_id: str
    attempts: int
    max_attempts: int
    #: Set when what the step returns will not count any more; ``cancel_cause`` says why.
    cancel_token: threading.Event
    #: Set when the process is shutting down: finish early with a ``Continue`` if you can.
    stopping: threading.Event
    #: What the step before waited for with a ``ContinueOnSignal``; None if it did not, or the timeout came first.
    signal: Signal | None = None
    #: Whether the timeout of what the step before waited for (a signal, a group) came first; the same at every attempt.
    wait_timed_out: bool = False
    #: What the step was called by whoever named it: the step before, or the submit for the first.
    label: str | None = None
    _claim: StepClaim | None = field(default=None, repr=False)

    @property
    def cancel_cause(self) -> CancelCause | None:
        """Why the library has set ``cancel_token``; None: it has not (whatever else did).

        ``"cancelled"``: the run's cancellation was requested; ``"claim lost"``; ``"deadline"``: the run's has passed;
        ``"step timeout"``: the step's own has; ``"in doubt"``: the store's server cannot be reached, and the claim may
        soon be another's: a ``Cancel`` or an exception then counts as no attempt. Of several, the one that decides how
        the step ends.
        """
        token = self.cancel_token
        return token.cause if isinstance(token, CancelToken) else None

    @property
    def memo(self) -> Memo:
        """What this step has noted, at this attempt or an earlier one."""
        return self._held.memo

    @property
    def run_memo(self) -> Memo:
        """What the steps of this run have noted for each other."""
        return self._held.run_memo

    @property
    def effects(self) -> Effects:
        """What is written with the end of this step, exactly once: staged here, applied if it returns an outcome."""
        return self._held.effects

    @property
    def kv(self) -> KeyValueView:
        """The store's values, read: what is committed; to write them, stage ``effects``."""
        return self._held.kv

    def transaction(self, connection: Any = None) -> AbstractContextManager[Any]:
        """Have this step end in one transaction with what the block writes: both are committed, or neither is.

        ``with step.transaction() as connection:`` gives a connection of psycopg to the database of the store, which is
        on PostgreSQL; or what was given: a connection of psycopg, Django or SQLAlchemy to it, in no transaction, at
        READ COMMITTED. The transaction goes on behind the block, and is committed with the step's end once the runner
        has returned an outcome, whichever; it is undone if the block or the runner raises, or if the step's end is
        refused (its claim was lost, its cancellation requested). Leave committing, rolling back and closing to it, and
        do not touch the same rows through another connection meanwhile: it would wait for this step for ever.

        Nothing of the store's is locked before the runner has returned. The server ends the transaction after 60 s in
        which nothing is sent, unless the connection says otherwise. Errors of the server, a serialization failure or
        deadlock at the end among them, are transient; a transaction that was ended inside the step is permanent.

        Raises:
            RuntimeError: the step has had one.
            InvalidStateError: the store is in a directory.
            StoreMismatchError: ``connection`` leads to another database.
            StorageError: no connection can be opened.
            TypeError, ValueError: ``connection`` is none, is inside a transaction, or at another isolation level.
        """
        return self._held.transaction(connection)

    def progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """Say how far this step is, for ``RunStatus.progress``: ``done`` of ``total`` (None: nobody knows), and a note.

        Cheap, to be called as often as one likes: what was said last is stored at most once a second, and shown until
        the step's claim ends. It is told to whom looks, and decides nothing; once the claim is lost it is nothing.

        Raises:
            TypeError, ValueError: ``done`` or ``total`` is no number of 0 or more, or ``note`` has more than 1 KiB.
        """
        self._held.progress(done, total, note)

    @property
    def group(self) -> Group | None:
        """The group that this step was to wait for (``ContinueOnGroup``), or None; see :attr:`wait_timed_out`."""
        return self._held.group

    def idempotency_key(self, name: str = "") -> str:
        """Return 64 hex characters for (this run, this step, ``name``): the same at every attempt and after a retry.

        For the other side of a call that must not happen twice, like a payment; ``name`` tells several such calls of
        one step apart.

        Raises:
            TypeError, ValueError: ``name`` is no text.
        """
        return idempotency_key(self.job_id, self.step_number, name)

    @property
    def _held(self) -> StepClaim:
        if self._claim is None:
            raise InvalidStateError("this Step was made by hand; only one that a runtime runs has a store behind it")
        return self._claim

    @property
    def is_last_attempt(self) -> bool:
        """Whether a transient error now dead-letters the run."""
        return self.attempts >= self.max_attempts


@runtime_checkable
class StepRunner(Protocol):
    """Runs steps. A plain function of one argument is accepted in its place.

    Returns a ``StepOutcome``. Raises ``StepError`` to say whether a retry can help; any other exception counts as
    transient. Called by several threads at once.
    """

    def run_step(self, step: Step) -> StepOutcome:
        """Run one step and say what comes next."""
        ...


StepFunction = Callable[[Step], StepOutcome]


def step_function(runner: StepRunner | StepFunction) -> StepFunction:
    """Return the function that runs a step.

    Raises:
        TypeError: ``runner`` is neither a function nor has a method ``run_step``.
    """
    method = getattr(runner, "run_step", None)
    if callable(method):
        return method  # type: ignore[no-any-return]  # StepRunner's method
    if callable(runner):
        return runner
    raise TypeError(f"runner must be a function or have a method run_step, not {type(runner).__name__}")
