"""A step run as a worker would, without a store: for tests of users."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, NoReturn, cast

from taquba_workflow_sync.errors import InvalidStateError
from taquba_workflow_sync.flow.node import Node
from taquba_workflow_sync.flow.routing import header_of
from taquba_workflow_sync.flow.step import codec_of
from taquba_workflow_sync.ids import new_ulid
from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.queue.cancel_token import CancelToken
from taquba_workflow_sync.queue.config import QueueConfig
from taquba_workflow_sync.workflow.claim import StepClaim
from taquba_workflow_sync.workflow.effects import Effects
from taquba_workflow_sync.workflow.memo import Memo
from taquba_workflow_sync.workflow.outcomes import Cancel, Fail
from taquba_workflow_sync.workflow.runner import Step
from taquba_workflow_sync.workflow.signals import Signal

_RUN_ID = "test"


class _Notes:
    """What a memo writes to in place of a store."""

    def __init__(self) -> None:
        self._noted: dict[tuple[object, str], bytes] = {}

    def memo_get(self, job_id: str, scope: object, step: int, key: str) -> bytes | None:
        return self._noted.get((scope, key))

    def memo_put(self, job_id: str, token: str, scope: object, key: str, value: bytes) -> bytes:
        return self._noted.setdefault((scope, key), value)

    def memo_keys(self, job_id: str, scope: object, step: int) -> list[str]:
        return [key for of, key in self._noted if of == scope]


class TrialClaim(StepClaim):
    """What a step has of a store where there is none: memos and effects that are forgotten."""

    def __init__(self) -> None:
        row = cast(Any, SimpleNamespace(id=_RUN_ID, token="", step=0))
        notes = cast(Any, _Notes())
        self._memo = Memo(notes, row, cast(Any, "step"))
        self._run_memo = Memo(notes, row, cast(Any, "run"))
        self._staged = Effects()

    @property
    def config(self) -> QueueConfig:
        """That of a queue for which nothing is said."""
        return QueueConfig()

    @property
    def effects(self) -> Effects:
        """What the step stages; it goes nowhere."""
        return self._staged

    @property
    def memo(self) -> Memo:
        """What the step has noted."""
        return self._memo

    @property
    def run_memo(self) -> Memo:
        """What the run has noted."""
        return self._run_memo

    @property
    def kv(self) -> NoReturn:
        """Refuse: values are a store's."""
        raise InvalidStateError("a step that is tested without a store has no kv; run it by a runtime on a Queue")

    @property
    def group(self) -> None:
        """None: nothing was waited for."""

    def progress(self, done: float, total: float | None, note: str) -> None:
        """Tell nobody."""


def run_on_trial(
    node: Node,
    state: Any,
    *,
    attempts: int = 1,
    signal: object = None,
    wait_timed_out: bool = False,
    headers: Mapping[str, str] | None = None,
) -> Any:
    """Run a step on a state and return what it returned, checked as a worker checks it."""
    validation.integer(attempts, "attempts", least=1)
    of_step = node.options.settings["max_attempts"]
    step = Step(
        run_id=_RUN_ID,
        step_number=0,
        payload=node.encode(state),
        headers={**header_of(node.version), **(headers or {})},
        job_id=new_ulid(),
        attempts=attempts,
        max_attempts=max(QueueConfig().max_attempts if of_step is None else of_step, attempts),
        cancel_token=CancelToken(),
        stopping=threading.Event(),
        signal=_signal(signal),
        wait_timed_out=wait_timed_out,
        label=node.name,
        _claim=TrialClaim(),
    )
    returned = node.call(step, node.decode(step.payload, node.version))
    if not isinstance(returned, (Fail, Cancel)) and not hasattr(returned, "outcome"):
        node.encode_result(returned)
    return returned


def _signal(value: object) -> Signal | None:
    if value is None or isinstance(value, Signal):
        return value
    kind: Any = Any if type(value).__module__ == "builtins" else type(value)
    return Signal("signal", codec_of(kind).encode(value, "signal"), datetime.now(UTC), None)
