"""What a step of a flow returns to go on: the step that comes next, and its state."""

from __future__ import annotations

from typing import Any, Protocol, final

import msgspec

from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.queue.config import Duration
from taquba_workflow_sync.workflow.outcomes import GoesOn


class Target(Protocol):
    """A step, as a Goto knows it."""

    name: str


@final
class Goto(msgspec.Struct, frozen=True, eq=False):
    """The next step and its state; made by ``step.goto``, ``step.on_signal`` and ``step.on_group``.

    Two are equal that go to the same step with equal states and wait for the same. ``outcome`` is what the runtime
    stores for it.
    """

    step: Target
    state: Any
    outcome: GoesOn
    after: Duration | None = None
    signal: str | None = None
    group: str | None = None
    timeout: Duration | None = None

    def _waits(self) -> tuple[Any, ...]:
        """What it waits for, and how long, whichever way that was said: 60 is a minute."""
        return self.signal, self.group, *map(_ms, (self.after, self.timeout))

    def _said(self) -> tuple[Any, ...]:
        return self.step, self.state, *self._waits()

    def __eq__(self, other: object) -> bool:
        return self._said() == other._said() if isinstance(other, Goto) else NotImplemented

    def __hash__(self) -> int:
        return hash((self.step, *self._waits()))

    def __repr__(self) -> str:
        how = f".on_signal({self.state!r}, {self.signal!r}" if self.signal is not None else f".goto({self.state!r}"
        if self.group is not None:
            how = f".on_group({self.state!r}, {self.group!r}"
        more = "".join(
            f", {name}={value!r}"
            for name, value in (("after", self.after), ("timeout", self.timeout))
            if value is not None
        )
        return f"{self.step.name}{how}{more})"


def _ms(value: Duration | None) -> int | None:
    return None if value is None else validation.duration_ms(value, "after")
