"""``worker``: runs the steps of a target's queues."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click

from taquba_workflow_sync.cli.exit_codes import DONE, NEEDS_HUMAN
from taquba_workflow_sync.cli.logs import log_options, log_to_stderr
from taquba_workflow_sync.cli.options import DURATION, queue_option
from taquba_workflow_sync.cli.outcomes import live_line
from taquba_workflow_sync.cli.output import Output
from taquba_workflow_sync.cli.processes import ANSWER, GIVEN_STORE, SUPERVISOR, Reports, supervise
from taquba_workflow_sync.cli.reload import Watch
from taquba_workflow_sync.cli.serving import work_on, work_until_idle
from taquba_workflow_sync.cli.stopping import Stop
from taquba_workflow_sync.cli.store import given_store, is_url
from taquba_workflow_sync.cli.targets import work_of
from taquba_workflow_sync.workflow.status import RunCounts

#: Of the counts of several processes: what each did is added up, what is left is what the last to end saw.
_DONE_BY_EACH: Final = ("succeeded", "failed", "cancelled", "steps")
_LEFT: Final = ("scheduled", "elsewhere", "dead")


@click.command()
@click.argument("target", metavar="TARGET")
@click.option("--threads", type=click.IntRange(1, 1000), help="Steps at once, of each process; default: the target's.")
@click.option("--processes", type=click.IntRange(1, 256), default=1, show_default=True, help="So many processes.")
@click.option("--until-idle", is_flag=True, help="End when nothing is left to do; a line of counts on stdout.")
@click.option("--max-runtime", type=DURATION, help="Begin no step after so long, end with those that run.")
@click.option("--max-runs", type=click.IntRange(1), help="End once so many runs have ended here, in all processes.")
@click.option("--grace", type=DURATION, help="How long a stop waits for steps that run; default: as long as they take.")
@click.option("--reload", is_flag=True, help="Begin anew when a Python file below the working directory changes.")
@click.option("--strict", is_flag=True, help="With --until-idle: exit 3 for older dead letters, too.")
@log_options
@queue_option
def worker(
    target: str,
    threads: int | None,
    processes: int,
    until_idle: bool,
    max_runtime: float | None,
    max_runs: int | None,
    grace: float | None,
    reload: bool,
    strict: bool,
    log_level: str | None,
    log_format: str,
    store: str | None,
    queue_name: str | None,
    as_json: bool,
) -> int:
    """Run the steps of the queues of TARGET until SIGTERM or Ctrl-C.

    The first signal lets the steps that run end, and exits 0; a second one ends at once, with 130. Several workers may
    serve one queue. With --processes each is a fresh interpreter; one that dies is begun again, with growing pauses,
    and all end together. Of a list of Flows, --queue has it serve one. What still runs when the --grace is over is cut
    off, and runs again elsewhere.
    """
    log_to_stderr(log_level, log_format)
    # Taken away, so that no process that a step starts takes it for its own.
    parent, answer = os.environ.pop(SUPERVISOR, None), os.environ.pop(ANSWER, None)
    supervised_store = os.environ.pop(GIVEN_STORE, None)
    store = given_store(store) or supervised_store
    if answer is not None:
        os.set_inheritable(int(answer), False)
    reports = Reports(None if answer is None else int(answer))
    out = Output(as_json=as_json)
    stop = Stop()
    if until_idle and max_runs is not None:
        raise click.UsageError("--max-runs is for a worker that goes on, without --until-idle")
    if until_idle and reload:
        raise click.UsageError("--reload is for a worker that goes on, without --until-idle")
    if processes > 1 or reload:
        given = {
            "--threads": threads, "--grace": None if grace is None else f"{grace:.6f}s", "--log-level": log_level,
            "--log-format": log_format, "--store": None if is_url(store) else store, "--queue": queue_name,
        }  # fmt: skip
        arguments = [target, *(["--until-idle"] if until_idle else []), *(["--strict"] if strict else [])]
        for name, value in given.items():
            arguments += [] if value is None else [name, str(value)]
        deadline = None if max_runtime is None else time.monotonic() + max_runtime
        changed = Watch(Path.cwd()) if reload else None
        ended = supervise(
            arguments, processes, stop, grace=grace, deadline=deadline, max_runs=max_runs, changed=changed,
            store=store if is_url(store) else None,
        )  # fmt: skip
        if until_idle and ended.counts:
            counts = _together(ended.counts)
            out.record(counts, summary(counts))
        return ended.code
    with stop.by_signals(), work_of(target, store, threads=threads, only=queue_name) as work:
        runtime = work.runtime
        if not until_idle:
            if parent is None:
                out.note(f"working on {work.queue.address}: {', '.join(runtime.queue_names)}; Ctrl-C ends it")
            work_on(
                runtime,
                stop,
                max_runtime=max_runtime,
                max_runs=max_runs,
                grace=grace,
                parent=None if parent is None else int(parent),
                on_tick=lambda: reports.ended_runs(runtime.ended_runs),
            )
            return DONE
        with live_line() as show:
            done = work_until_idle(
                runtime,
                stop,
                max_runtime=max_runtime,
                grace=grace,
                parent=None if parent is None else int(parent),
                on_tick=lambda: show(lambda: f"{runtime.ended_runs} runs have ended here"),
            )
        counts = _fields(done)
        if reports.are_wanted:
            reports.end(counts, is_done=not stop.is_asked)
        else:
            out.record(counts, summary(counts))
        return NEEDS_HUMAN if runtime.dead_letters or (strict and counts["dead"]) else DONE


def _fields(counts: RunCounts) -> dict[str, Any]:
    return {name: getattr(counts, name) for name in (*_DONE_BY_EACH, *_LEFT)}


def _together(each: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the counts of several processes as those of one."""
    return {name: sum(one[name] for one in each) for name in _DONE_BY_EACH} | {name: each[-1][name] for name in _LEFT}


def summary(counts: dict[str, Any]) -> str:
    """Return what was done, in a line."""
    return " ".join(f"{name}={value}" for name, value in counts.items())
