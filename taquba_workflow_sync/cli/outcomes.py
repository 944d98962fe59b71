"""How a run ended, as an answer and as an exit code; and waiting for it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import click

from taquba_workflow_sync.cli.exit_codes import BUSY, DONE, NEEDS_HUMAN, Failure
from taquba_workflow_sync.cli.output import Output, is_plain
from taquba_workflow_sync.outcome import RunOutcome, TerminalStatus
from taquba_workflow_sync.queue.readable import spelled_out
from taquba_workflow_sync.workflow.client import WorkflowClient
from taquba_workflow_sync.workflow.status import RunStatus

_TICK: Final = 0.25


def code_of(outcome: RunOutcome) -> int:
    """Return what a command exits with by a run that has ended."""
    return DONE if outcome.status is TerminalStatus.SUCCEEDED else NEEDS_HUMAN


def answer(out: Output, outcome: RunOutcome) -> int:
    """Print a run's result, or say on stderr how else it ended; returns the exit code."""
    if out.as_json:
        out.record(outcome)
    elif outcome.status is TerminalStatus.SUCCEEDED:
        write(outcome.result or b"")
    if outcome.status is not TerminalStatus.SUCCEEDED:
        why = f": {spelled_out(outcome.error)}" if outcome.error else ""
        how = "has failed" if outcome.status is TerminalStatus.FAILED else "was cancelled"
        click.echo(f"run {outcome.run_id} {how}{why}", err=True)
    return code_of(outcome)


def write(data: bytes) -> None:
    """Print bytes and the end of a line: as they are into a pipe, harmless on a terminal."""
    if sys.stdout.isatty():
        click.echo(spelled_out(data.decode(errors="backslashreplace")))
        return
    sys.stdout.flush()
    click.echo(data, nl=not data.endswith(b"\n"))


def wait_for(client: WorkflowClient, run_id: str, timeout: float | None) -> RunOutcome:
    """Wait for a run to end; a terminal shows meanwhile how far it is.

    Raises:
        RunNotFoundError: there is none of that name.
        Failure: it has not ended in that time.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    with live() as show:
        while True:
            left = _TICK if deadline is None else min(_TICK, max(deadline - time.monotonic(), 0.0))
            try:
                return client.wait(run_id, timeout=left)
            except TimeoutError:
                if deadline is not None and time.monotonic() >= deadline:
                    raise Failure(f"run {run_id} has not ended yet; it goes on", BUSY) from None
            show(lambda: client.status(run_id))


@contextmanager
def live() -> Iterator[Callable[[Callable[[], RunStatus | None]], None]]:
    """Have a line on stderr, where that is a terminal, that shows a run as it is now."""
    with live_line() as show:
        yield lambda look: show(lambda: _told(look()))


def _told(run: RunStatus | None) -> str:
    if run is None:
        return ""
    from taquba_workflow_sync.cli.runs_list import progress_text, step_name

    return f"{run.run_id}: {run.state.value}, step {step_name(run)} {progress_text(run)}"


@contextmanager
def live_line() -> Iterator[Callable[[Callable[[], str]], None]]:
    """Have a line on stderr, where that is a terminal, that shows a text as it is now; elsewhere nobody asks for it."""
    if is_plain(sys.stderr):
        yield lambda look: None
        return
    from rich.console import Console
    from rich.status import Status
    from rich.text import Text

    with Status("", console=Console(stderr=True)) as line:
        yield lambda look: line.update(Text(spelled_out(look())))
