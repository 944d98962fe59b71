"""The claim that a step runs under, as its features use it: each is made when it is first asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Final

from taquba_workflow_sync.queue.config import QueueConfig
from taquba_workflow_sync.queue.dispatch.lane import Execution
from taquba_workflow_sync.queue.effects import NOTHING, Site, Staged, seal
from taquba_workflow_sync.queue.handle import QueueHandle
from taquba_workflow_sync.queue.kv import KeyValueView
from taquba_workflow_sync.storage.port.group import HeldBy
from taquba_workflow_sync.storage.port.memo import MemoScope
from taquba_workflow_sync.storage.port.own import OwnTransaction
from taquba_workflow_sync.storage.port.wait import WaitKind
from taquba_workflow_sync.workflow.effects import Effects, effects_of
from taquba_workflow_sync.workflow.group import Group
from taquba_workflow_sync.workflow.group_writing import GroupWriter
from taquba_workflow_sync.workflow.history import RunEvent, event_of
from taquba_workflow_sync.workflow.memo import Memo
from taquba_workflow_sync.workflow.progress import say

#: What a step has that has returned, and had staged nothing.
_SEALED: Final = Effects()
seal(_SEALED)


class StepClaim:
    """One attempt of a step, seen from the store."""

    def __init__(self, handle: QueueHandle, execution: Execution, site: Site) -> None:
        self._handle = handle
        self._execution = execution
        self._site = site
        #: The effects, once one of the step's threads has asked for them, or the step has returned.
        self._effects: dict[str, Effects] = {}
        self._transaction: OwnTransaction | None = None
        self._has_begun = self._is_sealed = False

    @property
    def config(self) -> QueueConfig:
        """The configuration of the step's queue."""
        return self._handle.config_of(self._execution.row.queue)

    def history(self) -> list[RunEvent]:
        """Return what happened to the run, this attempt last; see ``WorkflowClient.history``."""
        return [event_of(row) for row in self._handle.events(self._execution.row.id)]

    @property
    def effects(self) -> Effects:
        """What this step stages; one for all its threads."""
        found = self._effects.get("of the step")
        # Of two threads that ask first, both get what one of them has made: setdefault is one step.
        return found or self._effects.setdefault("of the step", effects_of(self._site, self._writer()))

    def _writer(self) -> GroupWriter:
        row, site = self._execution.row, self._site
        return GroupWriter(self._handle, HeldBy(row.id, row.token), site.queue_name or row.queue, site.keep_ms)

    def seal(self) -> Staged:
        """Return what was staged, and refuse what comes later: the runner has returned."""
        found = self._effects.setdefault("of the step", _SEALED)
        return NOTHING if found is _SEALED else seal(found)

    @contextmanager
    def transaction(self, connection: Any) -> Iterator[Any]:
        """Begin the transaction that the step ends with; what the block raises undoes it."""
        if self._has_begun:
            raise RuntimeError("the step has had its transaction: there is one in a step, and none inside another")
        self._has_begun = True
        transaction = self._handle.own_transaction(connection)
        try:
            yield transaction.connection
        except BaseException:
            transaction.roll_back()
            raise
        if self._is_sealed:
            transaction.roll_back()  # by a thread that has outlived the step
            raise RuntimeError("the step has returned before the block of its transaction had ended; it was undone")
        self._transaction = transaction

    def take_transaction(self) -> OwnTransaction | None:
        """Return the transaction that the step is to end with, if it has one."""
        self._is_sealed = True
        return self._transaction

    @cached_property
    def kv(self) -> KeyValueView:
        """What is committed."""
        return KeyValueView(self._handle)

    def progress(self, done: float, total: float | None, note: str) -> None:
        """Say how far this step is."""
        say(self._execution, done, total, note)

    @cached_property
    def memo(self) -> Memo:
        """What this step has noted."""
        return Memo(self._handle, self._execution.row, MemoScope.STEP)

    @cached_property
    def run_memo(self) -> Memo:
        """What the run has noted."""
        return Memo(self._handle, self._execution.row, MemoScope.RUN)

    @cached_property
    def group(self) -> Group | None:
        """What the step was to wait for."""
        end = self._execution.row.wait
        return Group(self._handle, end.wait.name) if end is not None and end.wait.kind is WaitKind.GROUP else None
