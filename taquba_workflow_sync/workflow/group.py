"""A group of runs, seen by whoever has submitted it or waits for it: how it stands, what came of its members."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final, NoReturn

from taquba_workflow_sync.errors import GroupNotFoundError
from taquba_workflow_sync.outcome import RunOutcome
from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.queue.config import Duration
from taquba_workflow_sync.queue.handle import QueueHandle
from taquba_workflow_sync.storage.port.group import END_OF_GROUP, GroupRow
from taquba_workflow_sync.storage.port.job import JobRow
from taquba_workflow_sync.workflow.status import outcome_of
from taquba_workflow_sync.workflow.waiting import refuse_endless_wait

_LONGEST_WAIT: Final = 1.0


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """How many members a group has, and how they have ended; ``open`` ones have not."""

    total: int
    succeeded: int
    failed: int
    cancelled: int
    open: int


@dataclass(frozen=True, slots=True)
class GroupPage:
    """Outcomes of some members in the order of submission, None for open ones; ``next_cursor`` is None at the end."""

    results: list[RunOutcome | None]
    next_cursor: str | None


class Group:
    """One group, by its id; made by ``submit_group``, ``client.group`` and ``step.group``."""

    def __init__(self, handle: QueueHandle, group_id: str) -> None:
        self._handle = handle
        self._id = group_id

    @property
    def group_id(self) -> str:
        """What the group is called."""
        return self._id

    def __repr__(self) -> str:
        return f"Group({self._id!r})"

    def status(self) -> GroupStatus:
        """Return how the group stands now.

        Raises:
            GroupNotFoundError: there is no group of that id (any more).
        """
        return _status_of(self._row())

    def results(self, *, limit: int = 100, cursor: str | None = None) -> GroupPage:
        """Return a page of outcomes in the order of submission; ``cursor`` is a page's ``next_cursor``.

        Raises:
            GroupNotFoundError: there is no group of that id (any more).
            TypeError, ValueError: an argument is wrong.
        """
        page = self._handle.group_members(self._id, limit, cursor)
        if page is None:
            raise self._missing()
        return GroupPage([None if row is None else _outcome_of(row) for row in page.rows], page.next_cursor)

    def wait(self, timeout: Duration | None = None) -> GroupStatus:
        """Block until no member is open, in whichever processes they end, and return how they have ended.

        Raises:
            TimeoutError: some are open after ``timeout`` seconds; they go on.
            GroupNotFoundError: there is no group of that id (any more).
            RuntimeError: called without a timeout from a step or hook of the members' queue.
        """
        limit = validation.optional_seconds(timeout, "timeout")
        row = self._row()
        if limit is None:
            refuse_endless_wait(self._handle, row.queue)
        until = None if limit is None else time.monotonic() + limit
        while not row.has_ended:
            # Anew each time: whoever told of an end has struck the waiters off, and a member may have been retried.
            with self._handle.waiters.end_of(END_OF_GROUP + self._id) as waiter:
                row = self._row()
                if row.has_ended:
                    break
                left = _LONGEST_WAIT if until is None else until - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"group {self._id!r} has open members after {limit} s; they go on")
                self._handle.waiters.sleep(waiter, min(left, _LONGEST_WAIT))
                self._handle.check_open()
            row = self._row()
        return _status_of(row)

    def cancel(self) -> None:
        """Cancel every open member; durable on return. Those in a step see their tokens set, and end with it.

        Of an ended group it is a no-op. What cannot be done before a crash is done by the workers of its queue.

        Raises:
            GroupNotFoundError: there is no group of that id (any more).
        """
        if not self._handle.group_cancel(self._id):
            raise self._missing()

    def retry_failed(self) -> int:
        """Have every failed member go on at the step that failed, with all its attempts; returns how many.

        The group is open again then; who was woken by its end stays so.

        Raises:
            GroupNotFoundError: there is no group of that id (any more).
            InvalidStateError: it is being cancelled.
        """
        many = self._handle.group_retry(self._id)
        if many is None:
            raise self._missing()
        return many

    def forget(self) -> None:
        """Free the id for another group; the members stay for as long as they are kept.

        Raises:
            GroupNotFoundError: there is no group of that id (any more).
            InvalidStateError: members are open.
        """
        if not self._handle.group_forget(self._id):
            raise self._missing()

    def _row(self) -> GroupRow:
        row = self._handle.group_get(self._id)
        if row is None:
            raise self._missing()
        return row

    def _missing(self) -> GroupNotFoundError:
        return GroupNotFoundError(f"there is no group {self._id!r}: it was forgotten, or is past its retention")

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"a Group belongs to an open store and cannot be pickled; pickle its group_id, {self._id!r}, and ask a"
            " WorkflowClient for it there"
        )


def _status_of(row: GroupRow) -> GroupStatus:
    left = max(row.total - row.succeeded - row.failed - row.cancelled, 0)
    return GroupStatus(row.total, row.succeeded, row.failed, row.cancelled, left)


def _outcome_of(row: JobRow) -> RunOutcome:
    # A member whose stored name was damaged has none any more; it has ended all the same.
    return outcome_of(row if row.run_id is not None else row._replace(run_id=row.id))
