"""Which runs a list shows: the fields of its form, as the arguments of ``list_runs``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from taquba_workflow_sync.console.messages import Fields
from taquba_workflow_sync.console.view import Refused
from taquba_workflow_sync.queue.durations import moment_of
from taquba_workflow_sync.workflow.status import RunState

NAMES: Final = ("state", "prefix", "header", "since", "until", "failed_with", "parent")


@dataclass(frozen=True, slots=True)
class Filters:
    """``texts``: the fields as they were written; ``arguments``: what they mean."""

    texts: Mapping[str, str]
    arguments: Mapping[str, Any]


def filters_of(fields: Fields) -> Filters:
    """Return the filters of a query or a form.

    Raises:
        Refused: one of them makes no sense; says which, and what it may be.
    """
    texts = {name: value for name in NAMES if (value := fields.get(name)) is not None}
    return Filters(texts, {name: _meaning(name, text) for name, text in texts.items()})


def _meaning(name: str, text: str) -> Any:
    match name:
        case "state":
            if text not in tuple(RunState):
                raise Refused(f"state is {text!r}; it may be one of {', '.join(RunState)}")
            return RunState(text)
        case "header":
            header, sign, value = text.partition("=")
            if not sign or not header:
                raise Refused(f"header is {text!r}; write NAME=VALUE")
            return header, value
        case "since" | "until":
            return _moment(name, text)
        case _:
            return text


def _moment(name: str, text: str) -> datetime:
    try:
        return moment_of(text)
    except (ValueError, OverflowError):
        raise Refused(f"{name} is {text!r}; write 2026-11-26, 2026-11-26T03:15 or 2h (ago)") from None
