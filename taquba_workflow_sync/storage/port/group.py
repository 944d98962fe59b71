"""Groups: many runs submitted as one, ended as one; and whose children runs are.

A group is being written, then open, then ended (its last member has), then swept with its members. While it is being
written its members are *held*: pending, in no line, listed and counted nowhere. One small commit opens it; held members
enter the line from then on, some a transaction. Who dies while writing leaves a group that the same call goes on with,
or that a sweep removes.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from taquba_workflow_sync.errors import GroupMismatchError
from taquba_workflow_sync.storage.port.job import JobRow, NewJob

#: How many members a group may have, how many one commit writes, and how many one moves.
MOST_MEMBERS: Final = 100_000
MEMBERS_A_COMMIT: Final = 1_000
MEMBERS_A_PIECE: Final = 500


#: What a wait for the end of a group is called, beside the ids of jobs, none of which has a colon.
END_OF_GROUP: Final = "group:"


class OnFailure(enum.StrEnum):
    """What the first failed member does: nothing, or have the rest cancelled and the waiter woken."""

    COLLECT = "collect"
    CANCEL = "cancel"


class NewGroup(NamedTuple):
    """A group to write; ``fingerprint`` is of its members in order, their inputs, its queue and ``on_failure``.

    ``keep_ms``: how long its members are shown once it has ended, or once the step that received it has.
    """

    name: str
    queue: str
    total: int
    fingerprint: bytes
    on_failure: OnFailure
    keep_ms: int | None


class HeldBy(NamedTuple):
    """The claim whose step writes a group, if a step does."""

    job_id: str
    token: str


class Progress(NamedTuple):
    """How far a group is written. ``taken``: a member's name that another run holds; the group is gone then."""

    written: int
    is_open: bool
    taken: str | None = None


class GroupRow(NamedTuple):
    """A group as it is now."""

    name: str
    queue: str
    total: int
    succeeded: int
    failed: int
    cancelled: int
    is_open: bool
    has_ended: bool
    cancel_requested: bool


class MemberPage(NamedTuple):
    """Some members in the order of submission, None where there is no outcome yet; ``next_cursor`` as of any page."""

    rows: list[JobRow | None]
    next_cursor: str | None


class Retried(NamedTuple):
    """How many members a piece put back in line, and the position of the next piece; None: there is none."""

    many: int
    next_position: int | None


class Groups(Protocol):
    """The groups of a store, by their names, which are unique in it. What a group counts moves in the commits in which
    its members end; the last one wakes who waits for it in that same commit."""

    def group_write(
        self, group: NewGroup, position: int, jobs: Sequence[NewJob], writer: HeldBy | None = None
    ) -> Progress:
        """Write members, held, from ``position`` on, where the group is written so far; else only say how far it is.

        Raises:
            ClaimLostError: the writer's claim is not held any more; nothing was written.
            GroupMismatchError: the name is taken by another group; nothing was written.
            QueueFullError: members are bounded, and the whole group would be over what may wait; nothing was written.
        """
        ...

    def group_open(self, name: str, fingerprint: bytes) -> None:
        """Have a group that is wholly written be there for everyone; a repeat changes nothing.

        Raises:
            GroupMismatchError: there is no such group, or it is another, or lacks members; nothing was written.
        """
        ...

    def group_get(self, name: str) -> GroupRow | None:
        """Return an open or ended group, or None."""
        ...

    def group_members(self, name: str, limit: int, cursor: str | None) -> MemberPage | None:
        """Return a page of a group's members, or None if there is no such group.

        Raises:
            ValueError: ``cursor`` is none of this store's.
        """
        ...

    def group_cancel(self, name: str) -> bool | None:
        """Have the group cancelled, and some of its members end; whether more are left. None: there is no such group.

        A member that is claimed meanwhile must be settled as cancelled; claims say so.
        """
        ...

    def group_retry(self, name: str, position: int) -> Retried | None:
        """Put some failed members back in line, looking from ``position`` on; None: there is no such group.

        Raises:
            InvalidStateError: the group is being cancelled; nothing was written.
        """
        ...

    def group_forget(self, name: str) -> bool:
        """Free the name of a group that has ended; whether there was one. Its members stay for their time.

        Raises:
            InvalidStateError: it has not ended; nothing was written.
        """
        ...


def check_same(group: NewGroup, fingerprint: bytes) -> None:
    """Refuse a group whose name is taken by another.

    Raises:
        GroupMismatchError: ``fingerprint``, the stored one, is of another group.
    """
    if fingerprint != group.fingerprint:
        raise GroupMismatchError(
            f"group id {group.name!r} is taken by a group with other members, inputs or order, or of another queue or"
            " on_failure; use another group id, or forget that one once it has ended"
        )
