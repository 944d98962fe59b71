"""The part of a store that keeps groups."""

from __future__ import annotations

from collections.abc import Sequence

from taquba_workflow_sync.storage.port.group import GroupRow, HeldBy, MemberPage, NewGroup, Progress, Retried
from taquba_workflow_sync.storage.port.job import NewJob
from taquba_workflow_sync.storage.relational import members
from taquba_workflow_sync.storage.relational.reading import group as read_group
from taquba_workflow_sync.storage.relational.reading_access import Reading
from taquba_workflow_sync.storage.relational.reads import Now
from taquba_workflow_sync.storage.relational.transitions.group import (
    cancel_group,
    check_opening,
    forget,
    open_group,
    write_members,
)
from taquba_workflow_sync.storage.relational.transitions.requeue import retry_members


class GroupMethods:
    """Implements :class:`~taquba_workflow_sync.storage.port.group.Groups`."""

    _access: Reading
    _now: Now

    def group_write(
        self, group: NewGroup, position: int, jobs: Sequence[NewJob], writer: HeldBy | None = None
    ) -> Progress:
        """Write some members of a group, held."""
        return self._access.write(lambda tx: write_members(tx, group, position, jobs, writer))

    def group_open(self, name: str, fingerprint: bytes) -> None:
        """Open a group."""
        self._access.write(lambda tx: open_group(tx, check_opening(tx, name, fingerprint)))

    def group_get(self, name: str) -> GroupRow | None:
        """Return a group."""
        return self._access.read(read_group.get, name)

    def group_members(self, name: str, limit: int, cursor: str | None) -> MemberPage | None:
        """Return a page of a group's members."""
        return self._access.read(members.page, self._now, name, limit, cursor)

    def group_cancel(self, name: str) -> bool | None:
        """Cancel a group, a piece at a time."""
        return self._access.write(lambda tx: cancel_group(tx, name))

    def group_retry(self, name: str, position: int) -> Retried | None:
        """Put failed members back in line, a piece at a time."""
        return self._access.write(lambda tx: retry_members(tx, name, position))

    def group_forget(self, name: str) -> bool:
        """Free the name of a group."""
        return self._access.write(lambda tx: forget(tx, name))
