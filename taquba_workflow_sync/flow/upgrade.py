"""States of older versions, brought to the newest one before their step begins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from taquba_workflow_sync.errors import StepError
from taquba_workflow_sync.flow.codec import builtins_of, read_plain
from taquba_workflow_sync.flow.errors import FlowDefinitionError
from taquba_workflow_sync.queue.policy import describe

Upgrade = Callable[[Any], Any]


class Upgrades:
    """The upgrades of one step's state, by the version since which each is needed."""

    __slots__ = ("_by_version",)

    def __init__(self) -> None:
        self._by_version: dict[int, Upgrade] = {}

    def add(self, step: str, since: int, function: Upgrade) -> None:
        """Have states of versions before ``since`` go through a function.

        Raises:
            FlowDefinitionError: there is one already.
        """
        if since in self._by_version:
            raise FlowDefinitionError(f"step {step!r} has an upgrade since version {since} already")
        self._by_version[since] = function
        self._by_version = dict(sorted(self._by_version.items()))

    def is_needed(self, version: int | None) -> bool:
        """Whether a state of that version is not of the newest form; None: nobody knows, so it is taken as it is."""
        return version is not None and any(since > version for since in self._by_version)

    def apply(self, step: str, version: int, state: Any) -> bytes | Any:
        """Return a state as the newest version has it: what the last upgrade returned.

        Each gets plain JSON; what one returned, the next one gets as JSON.

        Raises:
            StepError: permanent: the state is no JSON, or an upgrade failed; names it.
        """
        try:
            value = read_plain(state)
        except ValueError as error:
            raise StepError.permanent(f"the stored state of step {step!r} is no JSON: {error}") from None
        for since, function in self._by_version.items():
            if since <= version:
                continue
            try:
                value = function(builtins_of(value))
            except StepError:
                raise
            except Exception as error:
                raise StepError.permanent(
                    f"the upgrade of step {step!r} since version {since} failed: {describe(error)}"
                ) from error
        return value
