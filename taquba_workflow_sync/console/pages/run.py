"""One run: where it stands, what happened to it, what it was given, what it waits for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from taquba_workflow_sync.console import texts
from taquba_workflow_sync.console.drawing.flow import picture
from taquba_workflow_sync.console.drawing.timeline import timeline
from taquba_workflow_sync.console.drawing.walked import walked
from taquba_workflow_sync.console.pages.queue import graph_of
from taquba_workflow_sync.console.view import Missing, Page, Refused, View
from taquba_workflow_sync.errors import GroupNotFoundError, InvalidRunIdError, RunNotFoundError, StorageError
from taquba_workflow_sync.queue.readable import FORMS, form_of
from taquba_workflow_sync.queue.records import JobRecord
from taquba_workflow_sync.workflow.client import WorkflowClient
from taquba_workflow_sync.workflow.group import GroupStatus
from taquba_workflow_sync.workflow.history import RunEvent
from taquba_workflow_sync.workflow.status import RunStatus

_CHILDREN: Final = 40
_MEMOS: Final = 20
#: In so many queues children, and a parent, are looked for.
_QUEUES: Final = 50
_SIGNALS: Final = 100
#: Of what a signal brings, and of a note, so many characters are shown.
_SHORT: Final = 2_000


@dataclass(frozen=True, slots=True)
class Bytes:
    """What is stored, in the form that is shown."""

    what: str
    title: str
    text: str
    form: str
    size: int
    is_cut: bool


@dataclass(frozen=True, slots=True)
class Child:
    """A run that another one has spawned, and the queue that it is in."""

    queue: str
    run: RunStatus


def find(view: View) -> tuple[WorkflowClient, RunStatus]:
    """Return the run that the request names.

    Raises:
        Missing: it is not there.
    """
    client = view.client()
    run_id = view.request.query.get("id")
    if run_id is None:
        raise Refused("no run is named")
    try:
        run = client.status(run_id)
    except InvalidRunIdError:
        run = None  # no run can be called so
    if run is None:
        raise Missing(f"queue {client.queue_name!r} has no run {run_id!r}")
    return client, run


def page(view: View) -> Page:
    """Return the page of the run that the request names."""
    client, run = find(view)
    job = view.queue.get_job(run.job_id)
    try:
        events = client.history(run.run_id)
        signals = client.signals(run.run_id)
        memos = [] if run.finished_at is not None else client.memo(run.run_id, limit=_MEMOS).items
    except RunNotFoundError:
        raise Missing(f"run {run.run_id!r} is gone: its time was over") from None
    children = _children(view, client, run)
    graph = graph_of(client.graph())
    steps = {} if graph is None else walked(graph, run.label, run.current_step)
    values = {
        "run": run,
        "job": job,
        "name": client.queue_name,
        "events": events,
        "worker": _worker(events) if run.finished_at is None else None,
        "stored": [_bytes(view, what, title, data) for what, title, data in _stored(client, run, job)],
        "signals": [(each, _short(each.payload)) for each in signals[:_SIGNALS]],
        "more_signals": max(len(signals) - _SIGNALS, 0),
        "memos": [(key, _short(value)) for key, value in memos],
        "children": children,
        "group": _group(client, run),
        "parent_queue": _parent_queue(view, client, run),
        "chart": timeline(run, events, [each.run for each in children], view.now, steps),
        "steps": steps,
        "picture": None
        if graph is None
        else picture(graph, current=run.label, mark=_mark(run), done=_behind(run, steps)),
        "percent": _percent(run),
        "forms": FORMS,
        "is_dead": job is not None and job.status == "dead",
    }
    return Page("run.html", run.run_id, values)


def payload_of(view: View) -> tuple[str, bytes]:
    """Return what a run was given or has returned, whole, as the request asks, with a name for the file."""
    client, run = find(view)
    wanted = view.request.query.get("what")
    for what, _, data in _stored(client, run, view.queue.get_job(run.job_id)):
        if what == wanted:
            return f"{what}.bin", data
    raise Missing(f"run {run.run_id!r} has no {wanted!r}")


def _stored(client: WorkflowClient, run: RunStatus, job: JobRecord | None) -> list[tuple[str, str, bytes]]:
    found = [] if job is None else [("payload", "Payload of the step", job.payload)]
    if run.finished_at is not None:
        try:
            outcome = client.outcome(run.run_id)
        except StorageError:
            return found  # it is damaged, which the error of the run says
        if outcome is not None and outcome.result is not None:
            found.insert(0, ("result", "Result", outcome.result))
    return found


def _bytes(view: View, what: str, title: str, data: bytes) -> Bytes:
    wanted = view.request.query.get(f"{what}_as")
    form = wanted if wanted in FORMS else form_of(data)
    text = texts.shown(data, form)
    is_cut = len(text) >= texts.MOST_SHOWN or (form == "hex" and len(data) > texts.MOST_SHOWN // 4)
    return Bytes(what, title, text, form, len(data), is_cut)


def _short(data: bytes) -> str:
    text = texts.shown(data)
    return text if len(text) <= _SHORT else f"{text[:_SHORT]}…"


def _worker(events: list[RunEvent]) -> RunEvent | None:
    """Return the event that says who runs its step now."""
    last = next((event for event in reversed(events) if event.kind in ("started", "ended")), None)
    return last if last is not None and last.kind == "started" and last.pid is not None else None


def _group(client: WorkflowClient, run: RunStatus) -> tuple[str, GroupStatus] | None:
    kind, _, group_id = (run.waiting_for or "").partition(":")
    if kind != "group":
        return None
    try:
        return group_id, client.group(group_id).status()
    except GroupNotFoundError:
        return None


def _children(view: View, client: WorkflowClient, run: RunStatus) -> list[Child]:
    """Return runs that a run has spawned, of its own queue first; most flows spawn into another one."""
    found: list[Child] = []
    for name in _queues(view, client):
        if len(found) >= min(run.children, _CHILDREN):
            break
        part = view.client(name).list_runs(parent=run.job_id, limit=_CHILDREN - len(found)).runs
        found += [Child(name, each) for each in part]
    return found


def _parent_queue(view: View, client: WorkflowClient, run: RunStatus) -> str | None:
    """Return the queue of the run that has spawned one; None: it is gone. A run knows what it is called, no more."""
    if run.parent is None:
        return None
    for name in _queues(view, client):
        parent = view.client(name).status(run.parent)
        if parent is not None and parent.children:
            return name
    return None


def _queues(view: View, client: WorkflowClient) -> list[str]:
    return sorted(view.queue_names(), key=lambda name: (name != client.queue_name, name))[:_QUEUES]


def _mark(run: RunStatus) -> str:
    return "current" if run.finished_at is None else run.state.value


def _behind(run: RunStatus, steps: Mapping[int, str]) -> list[str]:
    return [name for number, name in steps.items() if number < run.current_step and name != run.label]


def _percent(run: RunStatus) -> int | None:
    progress = run.progress
    if progress is None or not progress.total:
        return None
    return max(0, min(100, round(100 * progress.done / progress.total)))
