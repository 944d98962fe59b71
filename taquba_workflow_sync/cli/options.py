"""The options that commands share, and what their values become."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from taquba_workflow_sync.queue.durations import moment_of, seconds_of
from taquba_workflow_sync.queue.validation import shown

_F = TypeVar("_F", bound=Callable[..., Any])

_STATES: Final = ("pending", "running", "cancelling", "succeeded", "failed", "cancelled")


if TYPE_CHECKING:
    ParameterType = click.ParamType[Any]
else:
    ParameterType = click.ParamType  # generic from click 8.4 on


class DurationType(ParameterType):
    """A duration, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds."""
        if isinstance(value, (int, float)):
            return float(value)
        seconds = seconds_of(value)
        if seconds is None:
            text = "a number and its unit, like 50s, 10m, 2h or 7d, of a century at most"
            self.fail(f"{shown(value)} is no duration; write {text}", param, ctx)
        return seconds


class MomentType(ParameterType):
    """A moment: ISO 8601 (local time where it names no zone), or a duration from now, into the past or the future."""

    name = "moment"

    def __init__(self, *, ahead: bool = False) -> None:
        self._is_ahead = ahead

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the aware moment."""
        if isinstance(value, datetime):
            return value
        try:
            return moment_of(value, ahead=self._is_ahead)
        except (ValueError, OverflowError):
            way = "from now" if self._is_ahead else "ago"
            self.fail(f"{shown(value)} is no moment; write 2026-11-26, 2026-11-26T03:15 or 2h ({way})", param, ctx)


class PairType(ParameterType):
    """``NAME=VALUE``."""

    name = "name=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Return the two."""
        if isinstance(value, tuple):
            return value
        name, sign, content = value.partition("=")
        if not sign or not name:
            self.fail(f"{shown(value)} is no pair; write NAME=VALUE", param, ctx)
        return name, content


DURATION: Final = DurationType()
PAST: Final = MomentType()
FUTURE: Final = MomentType(ahead=True)
PAIR: Final = PairType()


def store_option(command: _F) -> _F:
    """Take ``--store`` and ``--json``, as every command does."""
    command = click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for programs.")(command)
    return click.option(
        "--store", metavar="DIR", help="The store: a directory, or a postgresql:// URL; else TAQUBA_STORE."
    )(command)


def queue_option(command: _F) -> _F:
    """Take ``--queue`` besides."""
    text = "The queue's name; default: the target's, else workflow-steps."
    return store_option(click.option("--queue", "queue_name", metavar="NAME", help=text)(command))


def yes_option(command: _F) -> _F:
    """Take ``--yes``, for what asks first."""
    return click.option("--yes", "-y", is_flag=True, help="Do not ask; needed where there is no terminal.")(command)


def target_option(command: _F) -> _F:
    """Take ``--target``, for what speaks of the runs of a flow in its own terms."""
    text = "MODULE:NAME of the runtime or Flow; its store, its queue, and a Flow's types."
    return click.option("--target", metavar="MODULE:NAME", help=text)(command)


def filter_options(command: _F) -> _F:
    """Take the filters of ``list_runs``; what is given must hold together."""
    for option in reversed(
        (
            click.option("--state", type=click.Choice(_STATES), help="In that state."),
            click.option("--prefix", metavar="TEXT", help="Whose id begins so."),
            click.option("--header", type=PAIR, help="With this header."),
            click.option("--since", type=PAST, help="Submitted at or after: 2026-11-26T03:15, or 2h (ago)."),
            click.option("--until", type=PAST, help="Submitted before."),
            click.option("--failed-with", metavar="TEXT", help="That failed with an error that contains this."),
            click.option("--parent", metavar="RUN", help="That this run has spawned."),
        )
    ):
        command = option(command)
    return command
