"""Where the command line begins: it says which extra is missing, or hands over."""

from __future__ import annotations

import io
import signal
import sys
from typing import Any

_MISSING = "the command line needs the extra [cli]: pip install 'taquba-workflow-sync[cli]'"


def main() -> None:
    """Run the command line with the arguments of the process, and exit with its code."""
    try:
        import click  # noqa: F401  # looked for here, where its absence can be said in a sentence
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        sys.stderr.write(f"{_MISSING}\n")
        raise SystemExit(1) from None
    from taquba_workflow_sync.cli.main import cli

    # What a terminal's encoding cannot show is told in escapes, and ends no command.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    _end_in_order()
    cli.main(prog_name="taquba-workflow")


def _end_in_order() -> None:
    """Have the first SIGTERM or Ctrl-C unwind what runs; a second one ends the process, wherever it is."""
    from taquba_workflow_sync.cli.exit_codes import Interrupted, Terminated

    def told(number: int, frame: Any) -> None:
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        raise Terminated if number == signal.SIGTERM else Interrupted

    before = [
        each
        for each, usual in ((signal.SIGTERM, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler))
        if signal.getsignal(each) == usual  # what starts it may have them ignored, as nohup and cron's shells do
    ]
    for each in before:
        signal.signal(each, told)
