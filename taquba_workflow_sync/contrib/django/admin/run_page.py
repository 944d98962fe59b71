"""All that the page of one run shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from taquba_workflow_sync.contrib.django.admin.places import Place
from taquba_workflow_sync.errors import RunNotFoundError, StorageError
from taquba_workflow_sync.queue.readable import form_of, shown
from taquba_workflow_sync.queue.records import JobRecord
from taquba_workflow_sync.workflow.history import RunEvent
from taquba_workflow_sync.workflow.status import RunStatus

#: Of an input or a result, so many characters are shown; of what is no text, a fourth of it as bytes.
_SHOWN: Final = 16_384


@dataclass(frozen=True, slots=True)
class Happened:
    """One event, with how long after the one before."""

    event: RunEvent
    what: str
    after: str
    is_bad: bool


@dataclass(frozen=True, slots=True)
class RunPage:
    """A run with its job, its timeline, and what it was given and has returned."""

    place: Place
    run: RunStatus
    job: JobRecord | None
    events: list[Happened]
    payload: str
    result: str | None
    percent: int | None


def page_of_run(place: Place, run_id: str) -> RunPage | None:
    """Return what is shown of a run, or None if it is gone."""
    client = place.client
    run = client.status(run_id)
    if run is None:
        return None
    job = place.queue.get_job(run.job_id)
    try:
        outcome = client.outcome(run_id)
        result = None if outcome is None or outcome.result is None else _readable(outcome.result)
    except StorageError as error:
        result = str(error)
    try:
        history = client.history(run_id)
    except RunNotFoundError:  # its retention ended between two looks
        return None
    return RunPage(
        place=place,
        run=run,
        job=job,
        events=_timeline(history),
        payload="" if job is None else _readable(job.payload),
        result=result,
        percent=_percent(run),
    )


def _readable(data: bytes) -> str:
    """Return bytes for people, cut if they are long."""
    form = form_of(data)
    text = shown(data, form, _SHOWN)
    is_cut = len(data) > _SHOWN // 4 if form == "hex" else len(text) >= _SHOWN
    return f"{text}\n... {len(data)} bytes in all" if is_cut else text


def _percent(run: RunStatus) -> int | None:
    progress = run.progress
    if progress is None or not progress.total:
        return None
    return max(0, min(100, round(100 * progress.done / progress.total)))


def _timeline(events: list[RunEvent]) -> list[Happened]:
    found = []
    before = None
    for event in events:
        what = str(event.kind).replace("_", " ")
        if event.attempt is not None:
            what = f"attempt {event.attempt} {what}"
        if event.outcome is not None:
            what = f"{what}: {event.outcome}"
        after = "" if before is None else _duration((event.at - before).total_seconds())
        found.append(Happened(event, what, after, event.error is not None))
        before = event.at
    return found


def _duration(seconds: float) -> str:
    if seconds < 10:
        return f"+{seconds:.3f} s"
    if seconds < 600:
        return f"+{seconds:.0f} s"
    return f"+{seconds / 60:.0f} min" if seconds < 36_000 else f"+{seconds / 3600:.0f} h"
