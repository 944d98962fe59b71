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
        "fire",
        (),
        (_PENDING, _SCHEDULED),
        "the schedule as it was read; run id not taken",
        "the schedule's watermark moves in the same commit; at most 100 a transaction",
        is_drawn=False,
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
        "put_back",
        (_CLAIMED,),
        (_SCHEDULED, _PENDING),
        "token",
        "attempt not charged, history, place kept; if its effects were refused, that is counted",
        is_drawn=False,
    ),
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
        "memo",
        (_CLAIMED,),
        (_CLAIMED,),
        "token; the memo has no entry of that key, and room",
        "the entry stays as it is: a step's until the step ends well, a run's as long as its row",
        is_drawn=False,
    ),
    _row(
        "progress",
        (_CLAIMED,),
        (_CLAIMED,),
        "token",
        "what the step says of how far it is, shown while the claim holds",
        is_drawn=False,
    ),
    _row(
        "signal",
        (_PENDING, _SCHEDULED, _CLAIMED),
        (_PENDING, _SCHEDULED, _CLAIMED),
        "not ended; its id is not known to the row; the row waits for it, or has room to buffer it",
        "a row that waits for it enters the line, at its place; the id is remembered with the row",
        is_drawn=False,
    ),
    _row(
        "clear_signals",
        (_PENDING, _SCHEDULED, _CLAIMED, _DONE, _DEAD, _CANCELLED),
        (_PENDING, _SCHEDULED, _CLAIMED, _DONE, _DEAD, _CANCELLED),
        "-",
        "buffered signals of a name go, not the received one; at most 500 or 8 MiB a transaction",
        is_drawn=False,
    ),
    _row(
        "wait_again",
        (_DEAD,),
        (_SCHEDULED,),
        "as requeue or retry; it ended while it waited, and what it waited for is not there",
        "as requeue or retry; its timeout begins anew",
        is_drawn=False,
    ),
    _row("wake", (_SCHEDULED,), (_PENDING,), "waits for a time, and for nothing else", "due now, place in line kept"),
    _row(
        "write_group",
        (),
        (_PENDING,),
        "the group is written so far and no further, its run ids are free; token, where a step writes it",
        "held: in no line, listed and counted nowhere until its group is open; at most 1,000 a transaction",
        is_drawn=False,
    ),
    _row(
        "release_members",
        (_PENDING,),
        (_PENDING, _SCHEDULED),
        "held, and its group is open",
        "in line at its place, or scheduled for its own time; at most 500 a transaction",
        is_drawn=False,
    ),
    _row(
        "deliver_group",
        (_SCHEDULED,),
        (_PENDING,),
        "the group that it waits for has ended, or failed where that is enough",
        "in the commit of the member that ended last, or failed first",
        is_drawn=False,
    ),
    _row(
        "drop_member",
        (_PENDING,),
        (),
        "held, and nobody will open its group: its writer is dead, or its run has ended",
        "at most 500 a transaction",
        is_drawn=False,
    ),
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
        "exceed_deadline",
        (_PENDING, _SCHEDULED),
        (_DEAD,),
        "its deadline has passed",
        "the error says so; in the transaction of a claim from its queue, before it promotes, at most 500",
        is_drawn=False,
    ),
    _row(
        "expire",
        (_PENDING, _SCHEDULED),
        (_CANCELLED,),
        "it had to start by now, and has not",
        "as exceed_deadline",
        is_drawn=False,
    ),
    _row(
        "request_stop",
        (_CLAIMED,),
        (_CLAIMED,),
        "its deadline has passed",
        "flag set as by request_cancel, but its step ends as a dead letter; as exceed_deadline",
        is_drawn=False,
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
        "older than the retention frozen on the row, or an operator has it removed",
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
