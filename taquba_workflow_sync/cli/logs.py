"""What the log of a working command looks like: lines for people, or one JSON object a line."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from taquba_workflow_sync.logs import CurrentStepFilter, JsonFormatter
from taquba_workflow_sync.queue.readable import spelled_out

_F = TypeVar("_F", bound=Callable[..., Any])

_LEVELS: Final = ("debug", "info", "warning", "error")


class LineFormatter(logging.Formatter):
    """A line for people, in which nothing stored can move the cursor of a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return spelled_out(super().format(record))


def log_options(command: _F) -> _F:
    """Take ``--log-level`` and ``--log-format``."""
    level = click.option("--log-level", type=click.Choice(_LEVELS), help="What is logged, on stderr; default: warning.")
    form = click.option(
        "--log-format", type=click.Choice(("text", "json")), default="text", show_default=True, help="How it is logged."
    )
    return level(form(command))


def log_to_stderr(level: str | None, form: str, *, default: str = "warning") -> None:
    """Have the library, and the user's code, log to stderr; a program that has set up its logging keeps it."""
    if logging.root.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    text = LineFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if form == "json" else text)
    handler.addFilter(CurrentStepFilter())  # what a step's own code logs is known by it, too
    logging.root.addHandler(handler)
    logging.root.setLevel((level or default).upper())
