"""Runs of a flow: submitted, found, signalled and scheduled, with what they take and return typed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, Generic, TypedDict, TypeVar, Unpack, overload

from taquba_workflow_sync import IfFinished, SignalOutcome
from taquba_workflow_sync.errors import ReservedHeaderError
from taquba_workflow_sync.flow.binding import Binding
from taquba_workflow_sync.flow.codec import Codec, read_plain
from taquba_workflow_sync.flow.definition import Definition
from taquba_workflow_sync.flow.handle import FlowHandle
from taquba_workflow_sync.flow.routing import header_of
from taquba_workflow_sync.flow.step import codec_of
from taquba_workflow_sync.outcome import RunOutcome
from taquba_workflow_sync.queue.config import Duration
from taquba_workflow_sync.queue.queue import Queue
from taquba_workflow_sync.workflow.client import WorkflowClient
from taquba_workflow_sync.workflow.effects import Effects
from taquba_workflow_sync.workflow.group import Group
from taquba_workflow_sync.workflow.spec import HEADER_FLOW, RunSpec

_In = TypeVar("_In")
_Out = TypeVar("_Out")

#: What a step is given that a run is given, too: under which name a run has it, and a step.
_OF_START: Final = (
    ("max_attempts_per_step", "max_attempts"),
    ("backoff", "backoff"),
    ("step_timeout", "step_timeout"),
    ("priority", "priority"),
)


class RunFields(TypedDict, total=False):
    """What a submit may say beside the state and the run id: the fields of :class:`RunSpec`."""

    headers: Mapping[str, str]
    priority: int | None
    max_attempts_per_step: int | None
    run_at: datetime | None
    if_finished: IfFinished
    effects: Effects | None
    backoff: tuple[Duration, Duration] | None
    step_timeout: Duration | None
    deadline: datetime | timedelta | None
    expires_after: Duration | None
    limit_key: str | None


class Submitting(Generic[_In, _Out]):
    """The part of a flow that knows its runs. ``queue`` of each call is the store, else what the flow is bound to."""

    _definition: Definition
    _binding: Binding
    _keep_runs: Duration | None

    def client(self, queue: Queue | None = None) -> WorkflowClient:
        """Return a client of the flow's queue, for all that is not typed: status, lists, history, limits, schedules.

        Raises:
            FlowNotBoundError: no store is known.
        """
        return WorkflowClient(self._binding.queue(queue), queue_name=self._definition.name, keep_runs=self._keep_runs)

    @overload
    def spec(
        self: Submitting[None, _Out], state: None = None, *, run_id: str | None = None, **fields: Unpack[RunFields]
    ) -> RunSpec: ...

    @overload
    def spec(self, state: _In, *, run_id: str | None = None, **fields: Unpack[RunFields]) -> RunSpec: ...

    def spec(self, state: Any = None, *, run_id: str | None = None, **fields: Any) -> RunSpec:
        """Return a run of this flow to submit, for what takes a :class:`RunSpec`: effects, groups, other clients.

        The queue to submit it to is the flow's ``name``. What the submit says of attempts, backoff, priority and
        timeout is for every step that says nothing itself, as its start may, too.

        Raises:
            TypeError: the state does not fit; names the path.
            ValueError, InvalidRunIdError, ReservedHeaderError, PayloadTooLargeError: a field is wrong.
            FlowDefinitionError: the flow is not put together so that it could run.
        """
        self._definition.check()
        first = self._definition.first
        headers = fields.pop("headers", {})
        said = RunSpec(input=first.encode(state), run_id=run_id, label=first.name, headers=headers, **fields)
        if HEADER_FLOW in said.headers:
            raise ReservedHeaderError(f"header {HEADER_FLOW!r} is written by the flow itself; leave it out")
        own: dict[str, Any] = {}
        of_run: dict[str, Any] = {}
        for name_of_run, name in _OF_START:
            value = first.options.settings[name]  # type: ignore[literal-required]  # one of those above
            if value is not None:
                own[name_of_run] = value
                of_run[name] = getattr(said, name_of_run)
        return replace(said, headers={**said.headers, **header_of(self._definition.version, of_run)}, **own)

    @overload
    def submit(
        self: Submitting[None, _Out],
        state: None = None,
        *,
        run_id: str | None = None,
        queue: Queue | None = None,
        connection: Any = None,
        notify: bool = False,
        **fields: Unpack[RunFields],
    ) -> FlowHandle[_Out]: ...

    @overload
    def submit(
        self,
        state: _In,
        *,
        run_id: str | None = None,
        queue: Queue | None = None,
        connection: Any = None,
        notify: bool = False,
        **fields: Unpack[RunFields],
    ) -> FlowHandle[_Out]: ...

    def submit(
        self,
        state: Any = None,
        *,
        run_id: str | None = None,
        queue: Queue | None = None,
        connection: Any = None,
        notify: bool = False,
        **fields: Any,
    ) -> FlowHandle[_Out]:
        """Submit a run; durable on return. Safe to repeat after any error when it has a ``run_id``.

        With ``connection`` it exists exactly if the transaction that is open there commits: see
        ``WorkflowClient.submit`` for that and ``notify``.

        Raises:
            TypeError: the state does not fit; names the path. Nothing was written.
            FlowDefinitionError: the flow is not put together so that it could run. Nothing was written.
            FlowNotBoundError: no store is known.
            InputMismatchError, EffectConflictError, QueueFullError and the rest: as for ``WorkflowClient.submit``.
        """
        spec = self.spec(state, run_id=run_id, **fields)
        client = self.client(queue)
        found = client.submit(spec, connection=connection, notify=notify)
        return FlowHandle(client, self._definition, found.run_id, found)

    def handle(self, run_id: str, *, queue: Queue | None = None) -> FlowHandle[_Out]:
        """Return the newest run of that name, which is looked for when the handle is used.

        Raises:
            FlowNotBoundError: no store is known.
            FlowDefinitionError: the flow is not put together so that it could run.
        """
        return FlowHandle(self.client(queue), self._definition, run_id, None)

    def input_of(self, data: bytes | str) -> _In:
        """Return the state that a text of JSON says: what a command line, or a web request, has been given.

        Raises:
            ValueError: it is no JSON.
            TypeError: it does not fit; names the path.
            FlowDefinitionError: the flow is not put together so that it could run.
        """
        raw = data.encode() if isinstance(data, str) else data
        self._definition.check()
        first = self._definition.first
        try:
            read_plain(raw)
        except ValueError as error:
            raise ValueError(f"this is no JSON: {error}") from None
        codec = first.types.state
        if codec is None:
            first.encode(read_plain(raw))
            return None  # type: ignore[return-value]  # an In that is None
        state: _In = codec.decode(raw, first.root)
        return state

    def result_of(self, outcome: RunOutcome) -> _Out:
        """Return the result of a run of this flow that succeeded, from its outcome: of a hook, a group, a ``wait``.

        Raises:
            ValueError: it did not succeed.
            TypeError: it does not fit the flow's result; names the path.
        """
        if outcome.result is None:
            raise ValueError(f"run {outcome.run_id!r} has no result, it is {outcome.status}: {outcome.error}")
        return self._result.decode(outcome.result, "result")

    def signal(
        self,
        run_id: str,
        name: str,
        value: object = None,
        *,
        queue: Queue | None = None,
        signal_id: str | None = None,
        submit: RunSpec | None = None,
        connection: Any = None,
        notify: bool = False,
    ) -> SignalOutcome:
        """Send a signal with a value, written as JSON, to the newest run of that name; see ``WorkflowClient.signal``.

        ``submit``: a run to submit first if there is none of that name, made by :meth:`spec`.

        Raises:
            TypeError: the value cannot be stored, or would come back as another; names the path. Nothing was written.
            RunNotFoundError, InvalidStateError and the rest: as for ``WorkflowClient.signal``.
        """
        payload = codec_of(_type_of(value)).encode(value, name if isinstance(name, str) else "value")
        return self.client(queue).signal(
            run_id, name, payload, signal_id=signal_id, submit=submit, connection=connection, notify=notify
        )

    @overload
    def schedule(
        self: Submitting[None, _Out],
        name: str,
        state: None = None,
        *,
        cron: str | None = None,
        every: Duration | None = None,
        timezone: str = "UTC",
        catch_up: str = "one",
        overlap: str = "allow",
        start: datetime | None = None,
        until: datetime | None = None,
        queue: Queue | None = None,
        **fields: Unpack[RunFields],
    ) -> None: ...

    @overload
    def schedule(
        self,
        name: str,
        state: _In,
        *,
        cron: str | None = None,
        every: Duration | None = None,
        timezone: str = "UTC",
        catch_up: str = "one",
        overlap: str = "allow",
        start: datetime | None = None,
        until: datetime | None = None,
        queue: Queue | None = None,
        **fields: Unpack[RunFields],
    ) -> None: ...

    def schedule(
        self,
        name: str,
        state: Any = None,
        *,
        cron: str | None = None,
        every: Duration | None = None,
        timezone: str = "UTC",
        catch_up: str = "one",
        overlap: str = "allow",
        start: datetime | None = None,
        until: datetime | None = None,
        queue: Queue | None = None,
        **fields: Any,
    ) -> None:
        """Have a run with this state submitted again and again; durable on return. See ``WorkflowClient.schedule``.

        A schedule that a newer version of the flow has defined is left as it is, so that a process of the older one,
        started while the newer is rolled out, does not undo it; ``client().unschedule`` makes way for a step back.

        Raises:
            TypeError, ValueError, InvalidNameError: an argument is wrong; nothing was written.
            ImportError: ``cron`` was given, and the extra ``[cron]`` is not installed.
        """
        self.client(queue).schedule(
            name,
            cron=cron,
            every=every,
            timezone=timezone,
            spec=self.spec(state, **fields),
            catch_up=catch_up,
            overlap=overlap,
            start=start,
            until=until,
        )

    def submit_group(
        self,
        group_id: str,
        states: Iterable[_In | RunSpec],
        *,
        on_failure: str = "collect",
        queue: Queue | None = None,
    ) -> Group:
        """Submit up to 100,000 runs as one group; durable on return, and never half there.

        ``states``: what each begins with, or what :meth:`spec` made of it, to say more. A step fans out with
        ``step.effects.submit_group(group_id, [flow.spec(state), ...], queue_name=flow.name)``.

        Raises:
            TypeError: a state does not fit; names the path. Nothing was written.
            GroupMismatchError, QueueFullError, ValueError: as for ``WorkflowClient.submit_group``.
        """
        specs = [each if isinstance(each, RunSpec) else self.spec(each) for each in states]
        return self.client(queue).submit_group(group_id, specs, on_failure=on_failure)

    @property
    def _result(self) -> Codec[_Out]:
        return self._definition.result


def _type_of(value: object) -> Any:
    """Return the type to check a value by that nobody has said a type of: that of a class of its own."""
    kind = type(value)
    return Any if kind.__module__ == "builtins" else kind
