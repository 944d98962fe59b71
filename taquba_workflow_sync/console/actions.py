"""What can be done in the console: what it is called, what it asks for, what it does to each thing that is meant."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from taquba_workflow_sync.console.dead_letters import dead_letters
from taquba_workflow_sync.console.filters import filters_of
from taquba_workflow_sync.console.messages import Fields
from taquba_workflow_sync.console.view import Refused, View
from taquba_workflow_sync.errors import TaqubaError
from taquba_workflow_sync.workflow.client import WorkflowClient

#: What one form may name.
MOST_NAMED: Final = 1_000
#: For how long, and to how many, one form does something to all dead letters of a queue.
_LONGEST: Final = 10.0
_MOST_AT_ONCE: Final = 10_000
_PAGE: Final = 1_000
#: What stands in a form for the limit of a queue itself, which has no key; none may be called so.
_QUEUES_OWN: Final = "**"


@dataclass(frozen=True, slots=True)
class Field:
    """What is asked for before it is done. ``choices`` None: a text."""

    name: str
    label: str
    choices: tuple[tuple[str, str], ...] | None = None
    is_required: bool = False


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do.

    ``each`` does it to what the name means and returns what was done, in a few words; ``all`` does it to all of the
    queue, or all that the filters find, and returns how many there were. ``tells`` says what it leads to.
    """

    title: str
    tells: str
    back: str
    each: Callable[[View, Fields, str], str] | None = None
    all: Callable[[View, Fields], str] | None = None
    fields: tuple[Field, ...] = ()
    is_grave: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one thing."""

    name: str
    said: str
    is_good: bool


def do(view: View, form: Fields) -> tuple[Action, list[Done]]:
    """Do what a form asks for, to everything that it names; what is refused of it is told, the rest is done.

    Raises:
        Refused: it asks for nothing that there is.
    """
    action, names = meant(form)
    if action.all is not None and form.get("all") is not None:
        return action, [_tried(_queue(form), partial(action.all, view, form))]
    assert action.each is not None
    return action, [_tried(name, partial(action.each, view, form, name)) for name in names]


def meant(form: Fields) -> tuple[Action, list[str]]:
    """Return what is to be done, and to what; no names: to all. The queue is named, too.

    Raises:
        Refused: there is no such action, or nothing is named.
    """
    action = ACTIONS.get(form.get("do") or "")
    if action is None:
        raise Refused("no action is named")
    names = form.all("id")
    if form.get("all") is not None:
        if action.all is None or names:
            raise Refused("this is done to what is named, one by one")
    elif action.each is None or not names:
        raise Refused("nothing is ticked; go back, and choose what is meant")
    if form.get("queue") is None:
        raise Refused("no queue is named")
    if len(names) > MOST_NAMED:
        raise Refused(f"{len(names)} are named; at most {MOST_NAMED} can be at once")
    return action, names


def _tried(name: str, call: Callable[[], str]) -> Done:
    try:
        return Done(name, call(), True)
    except (TaqubaError, ValueError, TypeError) as error:
        return Done(name, str(error), False)


def _queue(form: Fields) -> str:
    name = form.get("queue")
    assert name is not None  # it was looked for before
    return name


def _client(view: View, form: Fields) -> WorkflowClient:
    return view.client(_queue(form))


def _reason(form: Fields) -> str:
    return form.get("reason") or "cancelled in the console"


def _cancel(view: View, form: Fields, run_id: str) -> str:
    if not _client(view, form).cancel(run_id, reason=_reason(form)):
        raise ValueError("it has ended, or is gone: there is nothing to cancel")
    return "cancelled, or asked to stop where a step of it runs"


def _cancel_all(view: View, form: Fields) -> str:
    filters = filters_of(form).arguments
    return f"{_client(view, form).cancel_many(**filters, all=not filters, reason=_reason(form))} cancelled"


def _retry(view: View, form: Fields, run_id: str) -> str:
    _client(view, form).retry(run_id, memo=form.get("memo") or "keep")
    return "goes on at the step that failed"


def _retry_all(view: View, form: Fields) -> str:
    filters = filters_of(form).arguments
    return f"{_client(view, form).retry_many(**filters, all=not filters)} go on at the step that failed"


def _wake(view: View, form: Fields, run_id: str) -> str:
    if not _client(view, form).wake(run_id):
        raise ValueError("it does not wait for a time")
    return "is in line"


def _signal(view: View, form: Fields, run_id: str) -> str:
    name = form.get("signal")
    if name is None:
        raise ValueError("a signal needs a name")
    outcome = _client(view, form).signal(run_id, name, (form.get("payload") or "").encode("utf-8", "surrogateescape"))
    return {"delivered": "the run goes on", "buffered": "kept until the run asks for it"}.get(
        outcome.value, outcome.value
    )


def _requeue(view: View, form: Fields, job_id: str) -> str:
    view.queue.requeue_dead_job(job_id)
    return "is in line again, with all its attempts"


def _drop(view: View, form: Fields, job_id: str) -> str:
    view.queue.drop_dead_job(job_id)
    return "is removed"


def _of_dead(each: Callable[[View, Fields, str], str], what: str) -> Callable[[View, Fields], str]:
    """Return what does the same to all dead letters of a queue; those of which somebody was faster are left alone.

    Each is a commit of its own, so very many take longer than a server waits for an answer: it ends in time, and says
    how many are left.
    """

    def all_of(view: View, form: Fields) -> str:
        name = _queue(form)
        until = time.monotonic() + _LONGEST
        # Known before the first of them is touched: one that dies again meanwhile is not met again.
        found, is_whole = _some(view, name)
        done: list[Done] = []
        for job_id in found:
            if time.monotonic() >= until:
                is_whole = False
                break
            done.append(_tried(job_id, partial(each, view, form, job_id)))
        refused = [one for one in done if not one.is_good]
        more = f"; {len(refused)} refused, the first: {refused[0].said}" if refused else ""
        left = "" if is_whole else f"; {view.queue.stats(name).dead} are left: do it again"
        return f"{len(done) - len(refused)} {what}{more}{left}"

    return all_of


def _some(view: View, name: str) -> tuple[list[str], bool]:
    """Return the ids of dead letters of a queue, and whether these are all."""
    found: list[str] = []
    cursor: str | None = None
    while len(found) < _MOST_AT_ONCE:
        part = dead_letters(view, name, _PAGE, cursor)
        found += [job.id for job in part.jobs]
        cursor = part.next_cursor
        if cursor is None:
            return found, True
    return found, False


def _pause(view: View, form: Fields) -> str:
    _client(view, form).pause()
    return "is paused: nothing new is claimed from it; steps that run go on"


def _resume(view: View, form: Fields) -> str:
    _client(view, form).resume()
    return "goes on"


def _pause_schedule(view: View, form: Fields, name: str) -> str:
    _client(view, form).pause_schedule(name)
    return "is paused"


def _resume_schedule(view: View, form: Fields, name: str) -> str:
    _client(view, form).resume_schedule(name)
    return "goes on"


def _trigger(view: View, form: Fields, name: str) -> str:
    return f"run {_client(view, form).trigger(name)} is submitted"


def _unschedule(view: View, form: Fields, name: str) -> str:
    _client(view, form).unschedule(name)
    return "is removed; runs that it has submitted go on"


def _clear_limit(view: View, form: Fields, key: str) -> str:
    _client(view, form).clear_limit(None if key == _QUEUES_OWN else key)
    return "is removed; what it held back is in line"


_REASON: Final = Field("reason", "Reason, kept in the run's history")
_MEMO: Final = Field(
    "memo",
    "What the step has noted of its calls",
    (("keep", "keep: calls that were paid for are not repeated"), ("clear", "clear: begin the step from nothing")),
)

ACTIONS: Final[Mapping[str, Action]] = {
    "cancel": Action(
        "Cancel",
        "A run that waits ends at once. A run whose step is running is asked to stop; it ends when the step returns.",
        "runs", _cancel, _cancel_all, (_REASON,), True,
    ),
    "retry": Action(
        "Retry",
        "A failed run goes on at the step that failed, with all its attempts; steps before it do not run again.",
        "runs", _retry, _retry_all, (_MEMO,),
    ),
    "wake": Action("Wake", "A run that waits for a time or a backoff is in line now.", "runs", _wake),
    "signal": Action(
        "Send a signal",
        "A run that waits for a signal of that name goes on; otherwise it is kept until the run asks for it.",
        "runs", _signal, None, (Field("signal", "Name", None, True), Field("payload", "Payload, as text")),
    ),
    "requeue": Action(
        "Retry",
        "A dead letter is in line again, with all its attempts; a run goes on at the step that failed.",
        "dead", _requeue, _of_dead(_requeue, "in line again"),
    ),
    "drop": Action(
        "Remove for good",
        "A dead letter goes with its payload and its history. Nobody is told, and it cannot be undone.",
        "dead", _drop, _of_dead(_drop, "removed"), (), True,
    ),
    "pause": Action(
        "Pause the queue",
        "Nothing new is claimed from it, in any process. Steps that run end; submits are taken.",
        "queue", None, _pause,
    ),
    "resume": Action("Resume the queue", "What waits is claimed again.", "queue", None, _resume),
    "pause-schedule": Action("Pause the schedule", "It does not fire until it goes on.", "schedules", _pause_schedule),
    "resume-schedule": Action(
        "Resume the schedule", "It fires again from now on; times that have passed are left out.", "schedules",
        _resume_schedule,
    ),
    "trigger": Action("Run now", "A run is submitted, as if its time had come.", "schedules", _trigger),
    "unschedule": Action(
        "Remove the schedule",
        "It fires no more. Runs that it has submitted go on.",
        "schedules", _unschedule, None, (), True,
    ),
    "clear-limit": Action(
        "Remove the limit", "What it holds back is in line at once.", "limits", _clear_limit, None, (), True
    ),
}  # fmt: skip
