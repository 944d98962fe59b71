"""The groups of an open store, as the floors above may use them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from taquba_workflow_sync.queue.paging import page_of
from taquba_workflow_sync.storage.port.group import GroupRow, HeldBy, MemberPage, NewGroup, Progress
from taquba_workflow_sync.storage.port.job import NewJob
from taquba_workflow_sync.storage.port.store import Store


class GroupHandle:
    """The part of a handle that writes groups and reads them."""

    @property
    @abstractmethod
    def store(self) -> Store:
        """The open store."""

    def group_write(self, group: NewGroup, position: int, members: Sequence[NewJob], writer: HeldBy | None) -> Progress:
        """Write some members of a group, held; see :class:`Groups`."""
        return self.store.group_write(group, position, members, writer)

    def group_open(self, name: str, fingerprint: bytes) -> None:
        """Have a written group be there for everyone."""
        self.store.group_open(name, fingerprint)

    def group_get(self, name: str) -> GroupRow | None:
        """Return a group, or None."""
        return self.store.group_get(name)

    def group_members(self, name: str, limit: object, cursor: object) -> MemberPage | None:
        """Return a page of a group's members, its arguments checked; None: there is no such group."""
        return self.store.group_members(name, *page_of(limit, cursor))

    def group_cancel(self, name: str) -> bool:
        """Cancel a group, in bounded commits; whether there is one."""
        while True:
            more = self.store.group_cancel(name)
            if not more:
                return more is not None

    def group_retry(self, name: str) -> int | None:
        """Put the failed members of a group back in line, in bounded commits; returns how many. None: no such group."""
        many, position = 0, 0
        while (retried := self.store.group_retry(name, position)) is not None:
            many += retried.many
            if retried.next_position is None:
                return many
            position = retried.next_position
        return None

    def group_forget(self, name: str) -> bool:
        """Free the name of a group that has ended; whether there was one."""
        return self.store.group_forget(name)

    def sweep(self) -> int:
        """Remove a piece of what nobody sees any more."""
        return self.store.sweep()
