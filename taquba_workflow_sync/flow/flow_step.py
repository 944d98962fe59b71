"""A decorated step: still its function, and what another step goes to it by."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Final, Generic, ParamSpec, TypeVar, overload

from taquba_workflow_sync.flow.definition import Definition
from taquba_workflow_sync.flow.goto import Goto
from taquba_workflow_sync.flow.node import Node
from taquba_workflow_sync.flow.trial import run_on_trial
from taquba_workflow_sync.queue.config import Duration
from taquba_workflow_sync.workflow.outcomes import (
    Cancel,
    Continue,
    ContinueAfter,
    ContinueOnGroup,
    ContinueOnSignal,
    Fail,
    GoesOn,
    OutcomeTypeError,
)

_set_payload: Final = Continue.__dict__["payload"].__set__  # frozen to others
_S = TypeVar("_S")
_P = ParamSpec("_P")
_Out = TypeVar("_Out")


class FlowStep(Generic[_S, _P, _Out]):
    """A step of a flow whose state is an ``S``; made by ``@flow.step`` and ``@flow.start``."""

    def __init__(self, node: Node, definition: Definition) -> None:
        functools.update_wrapper(self, node.function)
        self._node = node
        self._definition = definition
        checked = Continue(**node.options.settings)
        self._settings = [(getattr(Continue, name).__set__, getattr(checked, name)) for name in GoesOn.__slots__]
        #: What the step is stored by.
        self.name: str = node.name
        #: The name of its flow.
        self.flow: str = node.flow

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _Out | Goto | Fail | Cancel:
        """Call the function, as it was written."""
        returned: _Out | Goto | Fail | Cancel = self._node.function(*args, **kwargs)
        return returned

    def __repr__(self) -> str:
        return f"<step {self.name!r} of flow {self.flow!r}>"

    @overload
    def goto(self: FlowStep[None, ..., Any], state: None = None, *, after: Duration | None = None) -> Goto: ...

    @overload
    def goto(self, state: _S, *, after: Duration | None = None) -> Goto: ...

    def goto(self, state: Any = None, *, after: Duration | None = None) -> Goto:
        """Return what has a run go on with this step, ``after`` seconds (or a timedelta) or at once.

        Raises:
            TypeError: the state does not fit; names the path. From a step it is a permanent failure.
            ValueError: ``after`` is negative or infinite.
            FlowDefinitionError: the annotations of this step are wrong.
        """
        payload = self._payload(state)
        if after is None:
            return Goto(self, state, self._continue(payload))
        return Goto(self, state, ContinueAfter(payload=payload, delay=after, **self._node.options.settings), after)

    @overload
    def on_signal(
        self: FlowStep[None, ..., Any], state: None, name: str, *, timeout: Duration | None = None
    ) -> Goto: ...

    @overload
    def on_signal(self, state: _S, name: str, *, timeout: Duration | None = None) -> Goto: ...

    def on_signal(self, state: Any, name: str, *, timeout: Duration | None = None) -> Goto:
        """Return what has a run go on with this step once a signal of that name is there, or ``timeout`` is over.

        The step has it as ``step.signal``, and by ``step.signal_as``; see ``ContinueOnSignal``.

        Raises:
            TypeError, ValueError, FlowDefinitionError: as for :meth:`goto`.
        """
        outcome = ContinueOnSignal(
            payload=self._payload(state), signal=name, timeout=timeout, **self._node.options.settings
        )
        return Goto(self, state, outcome, signal=name, timeout=timeout)

    @overload
    def on_group(
        self: FlowStep[None, ..., Any], state: None, group_id: str, *, timeout: Duration | None = None
    ) -> Goto: ...

    @overload
    def on_group(self, state: _S, group_id: str, *, timeout: Duration | None = None) -> Goto: ...

    def on_group(self, state: Any, group_id: str, *, timeout: Duration | None = None) -> Goto:
        """Return what has a run go on with this step once all runs of a group have ended, or ``timeout`` is over.

        The step has it as ``step.group``; see ``ContinueOnGroup``.

        Raises:
            TypeError, ValueError, FlowDefinitionError: as for :meth:`goto`.
        """
        outcome = ContinueOnGroup(
            payload=self._payload(state), group_id=group_id, timeout=timeout, **self._node.options.settings
        )
        return Goto(self, state, outcome, group=group_id, timeout=timeout)

    @overload
    def test(
        self: FlowStep[None, ..., Any],
        state: None = None,
        *,
        attempts: int = 1,
        signal: object = None,
        wait_timed_out: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> _Out | Goto | Fail | Cancel: ...

    @overload
    def test(
        self,
        state: _S,
        *,
        attempts: int = 1,
        signal: object = None,
        wait_timed_out: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> _Out | Goto | Fail | Cancel: ...

    def test(
        self,
        state: Any = None,
        *,
        attempts: int = 1,
        signal: object = None,
        wait_timed_out: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Run the step as a worker would, without a store, and return what it returned.

        The state goes through the codec; what is returned is checked against the annotation; exceptions come as the
        worker would see them, those that count as permanent as ``StepError``. Memos and effects are forgotten.
        ``attempts``: which attempt this is. ``signal``: what the step was waited for with, as its value.

        Raises:
            TypeError: the state does not fit; names the path.
            StepError: the step would fail for good, such as for a return that is not what its annotation says.
        """
        return run_on_trial(
            self._node,
            state,
            attempts=attempts,
            signal=signal,
            wait_timed_out=wait_timed_out,
            headers=headers,
        )

    def _continue(self, payload: bytes) -> Continue:
        """Return a copy of the outcome that was checked when the step was made, with this payload.

        What every step of every run returns must not cost the checks of what its decorator said.
        """
        outcome = object.__new__(Continue)
        for set_one, value in self._settings:
            set_one(outcome, value)
        _set_payload(outcome, payload)
        return outcome

    def _payload(self, state: Any) -> bytes:
        try:
            return self._node.wrap(self._node.encode(state))
        except TypeError as error:
            raise OutcomeTypeError(str(error)) from None
