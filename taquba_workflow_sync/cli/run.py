"""``run``: submits a run, works until nothing is left to do, and exits by that run. What cron calls."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any, Final

import click

from taquba_workflow_sync.cli.exit_codes import BUSY, DONE, NEEDS_HUMAN
from taquba_workflow_sync.cli.logs import log_options, log_to_stderr
from taquba_workflow_sync.cli.options import DURATION, queue_option
from taquba_workflow_sync.cli.outcomes import code_of, live
from taquba_workflow_sync.cli.output import Output
from taquba_workflow_sync.cli.serving import work_until_idle
from taquba_workflow_sync.cli.stopping import Stop
from taquba_workflow_sync.cli.submit import fields_of, spec_options
from taquba_workflow_sync.cli.targets import work_of
from taquba_workflow_sync.errors import RunNotFoundError, TaqubaError
from taquba_workflow_sync.outcome import RunOutcome
from taquba_workflow_sync.queue.readable import spelled_out
from taquba_workflow_sync.workflow.client import RunHandle
from taquba_workflow_sync.workflow.status import RunCounts, RunStatus

#: How often it looks whether its run has ended, while there is other work: an end is stored for a minute at least.
_LOOK: Final = 5.0


@click.command()
@click.argument("target", metavar="TARGET")
@spec_options
@click.option("--max-runtime", type=DURATION, help="Begin no step after so long; the next call goes on.")
@click.option("--threads", type=click.IntRange(1, 1000), help="Steps at once; default: the target's.")
@click.option("--grace", type=DURATION, help="How long a stop waits for steps that run; default: as long as they take.")
@click.option("--quiet", "-q", is_flag=True, help="Say nothing unless a human is needed.")
@click.option("--strict", is_flag=True, help="Exit 3 if the queue has dead letters at all.")
@log_options
@queue_option
def run(
    target: str,
    given: str | None,
    max_runtime: float | None,
    threads: int | None,
    grace: float | None,
    quiet: bool,
    strict: bool,
    log_level: str | None,
    log_format: str,
    store: str | None,
    queue_name: str | None,
    as_json: bool,
    **fields: Any,
) -> int:
    """Submit a run, work until nothing is left to do, and exit by that run.

    Made for cron: `taquba-workflow run app:nightly --run-id 'nightly-{date}' --max-runtime 50m`. A repeat with the same
    id goes on with the same run, and after its end exits by it; two at once both work. Exit codes: 0 it has succeeded,
    3 it has failed or was cancelled, 75 it has not ended: it runs in another process, waits, or its time was over.
    """
    log_to_stderr(log_level, log_format, default="error" if quiet else "warning")
    out = Output(as_json=as_json, is_quiet=quiet)
    stop = Stop()
    began = time.monotonic()
    with stop.by_signals(), work_of(target, store, threads=threads) as work:
        handle = work.client(queue_name).submit(work.spec(given, fields_of(**fields), queue_name))
        ended = _End(handle)
        with live() as show:

            def on_tick() -> None:
                ended.look()
                show(handle.status)

            counts = work_until_idle(work.runtime, stop, max_runtime=max_runtime, grace=grace, on_tick=on_tick)
        outcome = ended.outcome()
        code = _code(outcome, is_stopped=stop.is_asked)
        if work.runtime.dead_letters or (strict and counts.dead):
            code = NEEDS_HUMAN
        if not quiet or code == NEEDS_HUMAN:
            text = _summary(handle.run_id, outcome, handle.status(), counts, time.monotonic() - began)
            out.record(handle.status() if outcome is None else outcome, text)
        return code


class _End:
    """How a run ended, which the store may forget while there is other work."""

    def __init__(self, handle: RunHandle) -> None:
        self._handle = handle
        self._seen: RunOutcome | None = None
        self._next = time.monotonic() + _LOOK

    def look(self) -> None:
        """Remember the end, if it is there; looked for now and then."""
        if self._seen is None and time.monotonic() >= self._next:
            self._next = time.monotonic() + _LOOK
            with suppress(TaqubaError):  # the work is what fails by a store that fails
                self._seen = _outcome(self._handle)

    def outcome(self) -> RunOutcome | None:
        """Return the end; None: it has not ended.

        Raises:
            RunNotFoundError: it has ended, and how is stored no longer.
        """
        try:
            return _outcome(self._handle)
        except RunNotFoundError:
            if self._seen is None:
                raise
            return self._seen


def _outcome(handle: RunHandle) -> RunOutcome | None:
    try:
        return handle.wait(timeout=0)  # which finds one that shows no longer, too
    except TimeoutError:
        return None


def _code(outcome: RunOutcome | None, *, is_stopped: bool) -> int:
    if outcome is not None:
        return code_of(outcome)
    return DONE if is_stopped else BUSY


def _summary(
    run_id: str, outcome: RunOutcome | None, status: RunStatus | None, counts: RunCounts, seconds: float
) -> str:
    did = f"{counts.steps} step{'s' * (counts.steps != 1)} in {seconds:.1f} s"
    if outcome is not None:
        error = f": {spelled_out(outcome.error)}" if outcome.error else ""
        how = f"{outcome.status.value} at step {outcome.final_step}{error}"
    elif status is None:
        how = "is kept no longer"  # it ended between the two looks
    elif status.waiting_for is not None:
        how = f"has not ended: it waits for {status.waiting_for}"
    elif counts.elsewhere:
        how = "has not ended: another process runs it"
    else:
        how = f"has not ended: it is {status.state.value} at step {status.current_step}"
    dead = f"; {counts.dead} dead letters in the queue" if counts.dead else ""
    return f"{run_id} {how} ({did}{dead})".replace("\n", " ")
