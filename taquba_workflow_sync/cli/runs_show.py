"""``runs show``: the page an operator reads at night."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, Final

import click

from taquba_workflow_sync.cli.advice import next_steps
from taquba_workflow_sync.cli.exit_codes import NOT_FOUND, Failure
from taquba_workflow_sync.cli.options import queue_option
from taquba_workflow_sync.cli.output import Output, is_plain, plain, style_of, when
from taquba_workflow_sync.cli.payloads import shown
from taquba_workflow_sync.cli.runs_list import progress_text, step_name
from taquba_workflow_sync.cli.runs_wait import event_text
from taquba_workflow_sync.cli.store import client_of
from taquba_workflow_sync.queue.readable import spelled_out
from taquba_workflow_sync.queue.records import JobRecord
from taquba_workflow_sync.workflow.client import WorkflowClient
from taquba_workflow_sync.workflow.history import RunEvent
from taquba_workflow_sync.workflow.status import RunStatus

_EVENTS: Final = 20


@click.command()
@click.argument("run_id", metavar="RUN")
@click.option("--full", is_flag=True, help="Everything: all events, tracebacks, the whole payload.")
@queue_option
def show(run_id: str, full: bool, store: str | None, queue_name: str | None, as_json: bool) -> None:
    """Show all there is to know of RUN.

    Its state, the step it is at, its attempts with their times and errors, headers, payload, who runs it where, how far
    it is, what it waits for, and what to do next.
    """
    out = Output(as_json=as_json)
    with client_of(store, queue_name) as client:
        run = client.status(run_id)
        job = None if run is None else client.queue.get_job(run.job_id)
        if run is None or job is None:
            raise Failure(f"queue {client.queue_name!r} has no run {run_id!r}", NOT_FOUND)
        page = _page(client, run, job)
        out.record(page) if as_json else _print(run, job, page, is_full=full)


def _page(client: WorkflowClient, run: RunStatus, job: JobRecord) -> dict[str, Any]:
    events = client.history(run.run_id)
    outcome = client.outcome(run.run_id)
    return {
        **plain(run),
        "queue": client.queue_name,
        "priority": job.priority,
        "max_attempts": job.max_attempts,
        "run_at": job.run_at,
        "claimed_at": job.claimed_at,
        "lease_expires_at": job.lease_expires_at,
        "payload": job.payload,
        "result": None if outcome is None else outcome.result,
        "worker": _worker(events) if run.finished_at is None else None,
        "signals": client.signals(run.run_id),
        "history": events,
        "next": next_steps(run, job, is_paused=client.queue.stats(client.queue_name).paused),
    }


def _worker(events: list[RunEvent]) -> dict[str, Any] | None:
    """Return who runs its step now."""
    last = next((event for event in reversed(events) if event.kind in ("started", "ended")), None)
    if last is None or last.kind != "started" or last.pid is None:
        return None
    return {"host": last.host, "pid": last.pid}


def _print(run: RunStatus, job: JobRecord, page: dict[str, Any], *, is_full: bool) -> None:
    state = run.state.value
    click.echo(f"{run.run_id}  {state if is_plain(sys.stdout) else click.style(state, fg=style_of(state) or None)}")
    for name, text in _facts(run, job, page):
        if text:
            click.echo(f"  {name:<12} {spelled_out(text)}")
    _part("headers", "\n".join(f"{name}: {value}" for name, value in run.headers.items()))
    _part("payload of the step", shown(job.payload, is_full=is_full))
    if page["result"] is not None:
        _part("result", shown(page["result"], is_full=is_full))
    _part("signals it has not used", "\n".join(f"{each.name} {when(each.sent_at)}" for each in page["signals"]))
    events: list[RunEvent] = page["history"]
    skipped = 0 if is_full else max(len(events) - _EVENTS, 0)
    more = [f"... {skipped} earlier events; --full shows them"] if skipped else []
    _part("what happened", "\n".join([*more, *_events(events[skipped:], is_full=is_full)]))
    _part("what to do next", "\n".join(page["next"]))


def _events(events: list[RunEvent], *, is_full: bool) -> Iterator[str]:
    for event in events:
        yield event_text(event)
        trace = event.traceback
        if is_full and trace:
            yield from (f"    {line}" for line in str(trace).splitlines())


def _facts(run: RunStatus, job: JobRecord, page: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "queue", str(page["queue"])
    yield "job", run.job_id
    yield "step", step_name(run)
    yield "attempts", f"{run.attempts} of {job.max_attempts}"
    yield "submitted", when(run.submitted_at)
    yield "finished", when(run.finished_at)
    yield "error", run.error or ""
    yield "waits for", run.waiting_for or ""
    if run.state == "pending":
        yield "not before", when(job.run_at)
    worker = page["worker"]
    yield (
        "runs in",
        "" if worker is None else f"process {worker['pid']} of {worker['host']}, since {when(job.claimed_at)}",
    )
    yield "lease until", when(job.lease_expires_at)
    yield "progress", progress_text(run)
    yield "overdue", "its step runs for longer than its timeout" if run.overdue else ""
    yield "parent", run.parent or ""
    yield "children", str(run.children or "")
    yield "priority", str(job.priority)


def _part(name: str, text: str) -> None:
    if text:
        click.echo(f"\n{name}")
        for line in text.splitlines():
            click.echo(f"  {spelled_out(line)}")
