"""Schedules: what is to be submitted again and again, and up to when that was seen to.

A store keeps a schedule's definition as text it does not read, and its times as they were computed above. A firing is
computed outside of any transaction, from what was read (:class:`Seen`), and is stored only if that still holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Final, NamedTuple, Protocol

from taquba_workflow_sync.storage.port.job import NewJob

#: How many runs one commit may fire.
MOST_FIRED: Final = 100
#: How many bytes their inputs may have together, where that is more than one.
MOST_BYTES: Final = 8 * 2**20
#: A watermark further than this ahead of the clock is a mistake of the clock's.
FAR_AHEAD_MS: Final = 86_400_000


class ScheduleKind(IntEnum):
    """What a process needs to tell a schedule's next time: nothing, or whatever parses cron expressions."""

    EVERY = 0
    CRON = 1


class Seen(NamedTuple):
    """A schedule as it was read: the number of its definition, pause or resumption, and up to when it was fired."""

    revision: int
    watermark_ms: int


class Mark(NamedTuple):
    """Up to when a schedule is seen to, and when it is to fire next; None: never, as it stands."""

    watermark_ms: int
    next_ms: int | None


class NewSchedule(NamedTuple):
    """A schedule as it is defined. ``definition`` is text; ``payload`` is what each of its runs is submitted with."""

    queue: str
    name: str
    kind: ScheduleKind
    definition: str
    payload: bytes
    defined_ms: int
    mark: Mark


class ScheduleRow(NamedTuple):
    """A stored schedule. ``damage`` says what of it cannot be read; such a part is empty here."""

    name: str
    kind: ScheduleKind
    seen: Seen
    next_ms: int | None
    defined_ms: int
    is_paused: bool
    last_run_id: str | None
    definition: str
    payload: bytes
    damage: str | None = None


class ScheduleView(NamedTuple):
    """Some schedules of a queue by name, and the store's time when they were read."""

    rows: list[ScheduleRow]
    now_ms: int


class DueSchedule(NamedTuple):
    """A schedule that is to be looked at, and where it stands among those."""

    next_ms: int
    number: int
    name: str


class NextFiring(NamedTuple):
    """Whether any schedule is to be looked at now, and in how long the next one is; None: none is, as things stand."""

    is_due: bool
    in_ms: int | None


class Fired(NamedTuple):
    """What became of the runs of one commit, by their names."""

    #: Submitted, or there already with the same input.
    runs: list[str]
    #: Passed over, since the last run was active.
    skipped: list[str]
    #: Passed over, since a run with another input has the name.
    taken: list[str]


class Schedules(Protocol):
    """The schedules of queues."""

    def define_schedule(self, schedule: NewSchedule, expected: int | None) -> bool:
        """Store a schedule in place of the one whose revision is ``expected``, None: of none; False: another is there.

        A pause, and which run was the last, stay as they are.
        """
        ...

    def drop_schedule(self, queue: str, name: str) -> bool:
        """Remove a schedule; whether there was one. Its runs stay."""
        ...

    def move_schedule(self, queue: str, name: str, seen: Seen, mark: Mark, *, is_paused: bool) -> bool:
        """Pause a schedule, or let it go on from ``mark``; False, and nothing written, if it is not as ``seen``."""
        ...

    def fire(
        self, queue: str, name: str, seen: Seen, jobs: Sequence[NewJob], mark: Mark | None, *, skips_active: bool
    ) -> Fired | None:
        """Submit runs of a schedule and move its mark (None: leave it), in one commit; None if it is not as ``seen``.

        - -> pending / scheduled for each run whose name is free. ``skips_active``: not while the schedule's last run is
        active. A name that a run with another input has is passed over.
        """
        ...

    def find_schedules(self, queue: str, *, name: str | None = None, after: str = "", limit: int = 1) -> ScheduleView:
        """Return the schedule of that name, or up to ``limit`` of those whose names come after ``after``."""
        ...

    def next_firing(self, queue: str, kind: ScheduleKind) -> NextFiring | None:
        """Return what to wait for of the schedules of a kind that are not paused; None: there is none of the kind."""
        ...

    def due_schedules(self, queue: str, kind: ScheduleKind, after: DueSchedule | None, limit: int) -> list[DueSchedule]:
        """Return schedules that are due, the longest first, after ``after``; then those far ahead of the clock."""
        ...
