"""Which runs an operator means: the filters of listings and of what is done to many runs, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from taquba_workflow_sync.errors import InvalidRunIdError
from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.storage.port.operators import MOST_EXAMINED
from taquba_workflow_sync.storage.port.reads import Filter
from taquba_workflow_sync.storage.port.status import JobStatus, Verdict
from taquba_workflow_sync.workflow.status import RunState

_FILTERS: Final[Mapping[RunState, Filter]] = {
    RunState.PENDING: Filter(is_waiting=True, cancel_requested=False, runs_only=True),
    RunState.RUNNING: Filter(status=JobStatus.CLAIMED, cancel_requested=False, runs_only=True),
    RunState.CANCELLING: Filter(is_active=True, cancel_requested=True, runs_only=True),
    RunState.SUCCEEDED: Filter(status=JobStatus.DONE, verdict=Verdict.SUCCEEDED, runs_only=True),
    RunState.FAILED: Filter(verdict=Verdict.FAILED, runs_only=True),
    RunState.CANCELLED: Filter(status=JobStatus.CANCELLED, runs_only=True),
}
_ERROR_BYTES: Final = 16_384


def selection(
    state: object = None,
    *,
    prefix: object = None,
    header: object = None,
    since: object = None,
    until: object = None,
    failed_with: object = None,
    parent: object = None,
    newest_first: object = False,
) -> Filter:
    """Return which runs are meant.

    Raises:
        TypeError, ValueError, InvalidRunIdError: an argument is wrong.
    """
    if not isinstance(newest_first, bool):
        raise TypeError(f"newest_first must be a bool, not {type(newest_first).__name__}")
    which = Filter(runs_only=True) if state is None else _FILTERS[_state(state)]
    return replace(
        which,
        visible_only=True,
        prefix=None if prefix is None else validation.identifier(prefix, "prefix", InvalidRunIdError),
        header=None if header is None else _header(header),
        since_ms=_moment_ms(since, "since"),
        until_ms=_moment_ms(until, "until"),
        failed_with=None if failed_with is None else validation.text(failed_with, "failed_with", most=_ERROR_BYTES),
        parent=None if parent is None else validation.identifier(parent, "parent", InvalidRunIdError),
        newest_first=newest_first,
        most_examined=MOST_EXAMINED,
    )


def selection_of_many(every: object, filters: Mapping[str, Any]) -> Filter:
    """Return which runs are meant where something is done to them: they must be named, or all of them meant.

    Raises:
        TypeError, ValueError, InvalidRunIdError: an argument is wrong; or there is neither a filter nor ``all``, or
            there are both.
    """
    if not isinstance(every, bool):
        raise TypeError(f"all must be a bool, not {type(every).__name__}")
    which = selection(**filters)
    is_narrowed = any(value is not None for value in filters.values())
    if is_narrowed == every:
        what = "both filters and all=True were given" if every else "neither a filter nor all=True was given"
        raise ValueError(f"{what}; say which runs are meant by a filter, or all=True for every run of the queue")
    return which


def _state(value: object) -> RunState:
    if not isinstance(value, str):
        raise TypeError(f"state must be a RunState, not {type(value).__name__}")
    try:
        return RunState(value)
    except ValueError:
        raise ValueError(f"state is {validation.shown(value)}; it must be one of {', '.join(RunState)}") from None


def _header(value: object) -> tuple[str, str]:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"header must be a pair of a name and its value, not {validation.shown(value)}")
    ((name, content),) = validation.checked_headers(
        {value[0]: value[1]} if _is_text(value[0]) else {"": value[0]}
    ).items()
    return name, content


def _is_text(value: object) -> bool:
    if not isinstance(value, str):
        raise TypeError(
            f"header must be a pair of a name and its value, and the name a str, not {type(value).__name__}"
        )
    return True


def _moment_ms(value: object, name: str) -> int | None:
    """Return a moment in milliseconds, rounded up: what was submitted at an earlier instant comes before it."""
    ms = validation.moment_ms(value, name)
    is_between = isinstance(value, datetime) and value.microsecond % 1000 != 0
    return None if ms is None else ms + is_between
