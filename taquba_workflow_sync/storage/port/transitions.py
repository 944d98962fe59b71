"""The transition table as data: the docs, the model in the tests and the conformance suite read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from taquba_workflow_sync.storage.port.status import JobStatus

_PENDING = JobStatus.PENDING


_SCHEDULED = JobStatus.SCHEDULED


_CLAIMED = JobStatus.CLAIMED


_DONE = JobStatus.DONE


_DEAD = JobStatus.DEAD


_CANCELLED = JobStatus.CANCELLED


@dataclass(frozen=True, slots=True)
class Transition:
    """One way a job moves. No source: the job is new. ``may_vanish``: the row may be gone afterwards.

    ``is_drawn``: it belongs into a picture of a job's life; repairs and the end of a hook do not.
    """

    name: str
    sources: frozenset[JobStatus]
    targets: frozenset[JobStatus]
    guard: str
    also: str
    may_vanish: bool = False
    is_drawn: bool = True


def _row(
    name: str,
    sources: tuple[JobStatus, ...],
    targets: tuple[JobStatus, ...],
    guard: str,
    also: str,
    *,
    may_vanish: bool = False,
    is_drawn: bool = True,
) -> Transition:
    return Transition(name, frozenset(sources), frozenset(targets), guard, also, may_vanish, is_drawn)


TRANSITIONS: Final = (
    _row(
        "enqueue",
        (),
        (_PENDING, _SCHEDULED),
        "id unused, dedup key free, run id not active in this queue",
        "retention and limits frozen on the row",
    ),
    _row(
        "claim",
        (_PENDING,),
        (_CLAIMED,),
        "first by priority, then place in line",
        "attempt counted, new token and lease, dedup key released",
    ),
    _row("promote", (_SCHEDULED,), (_PENDING,), "due", "place in line kept; at most 500 a transaction"),
    _row(
        "ack",
        (_CLAIMED,),
        (_DONE,),
        "token",
        "verdict, result or error, history; a bare job that nothing is kept of is removed",
        may_vanish=True,
    ),
    _row(
        "advance",
        (_CLAIMED,),
        (_PENDING, _SCHEDULED),
        "token; refused when a cancellation was requested",
        "step + 1, new payload, attempts 0, place in line, history",
    ),
    _row(
        "hold",
        (_CLAIMED,),
        (_CLAIMED,),
        "token; refused when a cancellation was requested; nothing waits that goes first",
        "step + 1, new payload, attempts 1, new token, the lease goes on, history",
    ),
    _row("nack", (_CLAIMED,), (_SCHEDULED, _PENDING), "token; attempts are left", "last error, history, place kept"),
    _row(
        "dead_letter",
        (_CLAIMED,),
        (_DEAD,),
        "token",
        "last error, history; also where a nack has no attempts left",
        may_vanish=True,
    ),
    _row("settle_cancelled", (_CLAIMED,), (_CANCELLED,), "token", "reason or none, history", may_vanish=True),
    _row("release", (_CLAIMED,), (_PENDING,), "token", "attempt not charged, place kept"),
    _row("renew", (_CLAIMED,), (_CLAIMED,), "token", "lease moved"),
    _row(
        "cancel",
        (_PENDING, _SCHEDULED),
        (_CANCELLED,),
        "waiting",
        "a bare job is removed unless done jobs are kept",
        may_vanish=True,
    ),
    _row(
        "request_cancel",
        (_CLAIMED,),
        (_CLAIMED, _CANCELLED),
        "claimed",
        "flag set; cancelled at once if its owner is dead",
        may_vanish=True,
    ),
    _row(
        "reap",
        (_CLAIMED,),
        (_CANCELLED, _DEAD, _PENDING),
        "the claim is dead and its step does not run in this process",
        "cancelled if that was requested, dead if out of attempts; history, place kept",
        may_vanish=True,
    ),
    _row(
        "requeue",
        (_DEAD,),
        (_PENDING,),
        "its run is not active again",
        "attempts 0, error and cancel flag cleared, history kept, back of its priority",
    ),
    _row(
        "retry",
        (_DEAD, _DONE),
        (_PENDING,),
        "a run that failed and is not active again",
        "as requeue, at the step that failed",
    ),
    _row(
        "sweep",
        (_DONE, _DEAD, _CANCELLED),
        (),
        "older than the retention frozen on the row",
        "parts and history go too; at most 500 a transaction",
        may_vanish=True,
    ),
    _row(
        "quarantine",
        (_PENDING, _SCHEDULED, _CLAIMED),
        (_DEAD,),
        "the stored row is invalid: no other transition could be stored for it",
        "what is sound of it is kept, the error says what is not",
        is_drawn=False,
    ),
    _row(
        "drop",
        (_PENDING, _SCHEDULED),
        (),
        "a notification whose hook was unregistered",
        "at most 500 a transaction",
        is_drawn=False,
    ),
)
