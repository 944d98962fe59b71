"""Limits: how much of a queue, or of a key within it, may be claimed at once, in a time, and wait.

A row with a limit key (a *keyed* row) is in one of these states; all of it is told by the row itself, so that what
holds a key's slots cannot disagree with the rows:

=====================  ====================================  =============================  =======================
state                  row                                   slot                           counts for a rate
=====================  ====================================  =============================  =======================
in line                pending, ``Parked.NO``                has it                         as one in line
parked                 pending, ``Parked.FOR_SLOT``          none                           no
parked with its slot   pending, ``Parked.FOR_RATE``          keeps it (``HoldFor.RUN``)     no
claimed                claimed                               has it                         as a claim
between steps          scheduled, ``Parked.NO``              none                           no
between, keeping       scheduled, ``Parked.FOR_RATE``        keeps it (``HoldFor.RUN``)     no
=====================  ====================================  =============================  =======================

*Entering the line* (enqueue, promote, signal, wake, advance, nack, put_back, reap, requeue, retry) is one rule for
all: the row is parked; then the key's parked rows are let in, the first by (rank, place) first, while a slot is free
and the rate has room; then, while a parked row goes before one of its key that is in line, the two change places. A
run that keeps its slot, and has been claimed, is not put out of line so. A release goes back in line with its slot,
its claim forgotten by the rate; over a limit that was lowered meanwhile it is parked.

*Leaving line and claim* (every other end of a claim, a cancel, a quarantine) frees the slot, and the same commit lets
in the key's next. With ``HoldFor.RUN`` a run that goes on keeps its slot, unless the key is over its limit.

A claim looks at no key: what is in line may be claimed. It is noted for the key's rate, and for the queue's.

*Time* lets in what a rate has kept out: each such key has a due time, when enough of its claims are older than the
window. A claim's transaction lets in what is due, as it promotes; ``Reads.next_work`` tells the due time.

*Changing a limit* takes commits of at most 500 rows: the first one notes the limit, which what enters the line obeys
from then on; each of the others sees to some keys, in their order, and notes how far it came. Whoever dies between
two of them leaves that note, and the next claim of any process goes on there. What is in line above the limit is
parked, the last first; claims that run are left alone.

A failure at any point leaves what was committed, which is one of the states above; nothing else is stored of a slot.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple, Protocol

from taquba_workflow_sync.errors import QueueFullError

#: The most claims that a rate may allow in its window.
MOST_CLAIMS: Final = 10_000


class Parked(enum.IntEnum):
    """Why a row that is not claimed stands in no line; for one that waits for its time, whether it keeps a slot."""

    NO = 0
    FOR_SLOT = 1
    BY_GROUP = 2
    FOR_RATE = 3


class HoldFor(enum.StrEnum):
    """How long a slot is held: for a step, from entering the line to the end of the claim; or until the run ends."""

    STEP = "step"
    RUN = "run"


class Rate(NamedTuple):
    """At most ``most`` claims in any window of ``window_ms``."""

    most: int
    window_ms: int


class Limit(NamedTuple):
    """One limit of a queue. ``pattern`` None: of the queue itself; ending in ``*``: of each key that begins so."""

    pattern: str | None
    concurrency: int | None = None
    rate: Rate | None = None
    hold: HoldFor = HoldFor.STEP
    max_waiting: int | None = None


class Limits(Protocol):
    """The limits and the pause of queues, over all processes."""

    def set_limit(self, queue: str, limit: Limit) -> None:
        """Put a limit in the place of that of the same pattern; what enters the line from this commit on obeys it.

        What is in line or parked already is seen to by :meth:`settle_limits`, which must be called until it is done.
        """
        ...

    def clear_limit(self, queue: str, pattern: str | None) -> None:
        """Remove a limit, if there is one; what it has parked is seen to by :meth:`settle_limits`."""
        ...

    def settle_limits(self, queue: str) -> bool:
        """Park, or let in, up to 500 rows that a limit set or cleared before asks for; whether there may be more."""
        ...

    def limits(self, queue: str) -> list[Limit]:
        """Return a queue's limits: its own, then by pattern."""
        ...

    def pause(self, queue: str, *, is_paused: bool) -> None:
        """Have nothing new be claimed from a queue, by anybody, or have it claimed again. A repeat is a no-op."""
        ...

    def is_paused(self, queue: str) -> bool:
        """Whether a queue is paused."""
        ...


def matches(pattern: str, key: str) -> bool:
    """Return whether a limit of that pattern is a key's, if no better one is: exact, or the longer pattern."""
    return key.startswith(pattern[:-1]) if pattern.endswith("*") else key == pattern


def check_room(queue: str, key: str | None, waiting: int, max_waiting: int | None) -> None:
    """Refuse a new row where ``waiting`` rows wait already.

    Raises:
        QueueFullError: they are as many as may wait.
    """
    if max_waiting is not None and waiting >= max_waiting:
        whose = f"queue {queue!r}" if key is None else f"limit key {key!r} of queue {queue!r}"
        raise QueueFullError(f"{whose} is full: {waiting} wait, and max_waiting is {max_waiting}; submit again later")


def rank_of(priority: int, aging_ms: int | None, entered_ms: int) -> int:
    """Return the key of a row in line, by which lower goes first: its priority, or with aging a time that this moves.

    1,000 points of priority are worth ``aging_ms`` of waiting.
    """
    return priority if aging_ms is None else entered_ms + priority * aging_ms // 1000


def moved_rank(rank: int, aging_ms: int | None, before: int, priority: int) -> int:
    """Return the rank of a row that entered the line when it did, had it done so with another priority."""
    if aging_ms is None:
        return priority
    return rank_of(priority, aging_ms, rank - rank_of(before, aging_ms, 0))
