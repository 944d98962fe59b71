"""What operators ask of the runs of a queue: which there are, what happened to them; many cancelled, many retried."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Final

from taquba_workflow_sync.errors import InvalidRunIdError, RunNotFoundError
from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.queue.handle import QueueHandle
from taquba_workflow_sync.queue.paging import in_pieces
from taquba_workflow_sync.storage.port.job import JobRow
from taquba_workflow_sync.storage.port.status import Verdict
from taquba_workflow_sync.workflow.endings import Endings
from taquba_workflow_sync.workflow.history import RunEvent, event_of
from taquba_workflow_sync.workflow.selection import selection, selection_of_many
from taquba_workflow_sync.workflow.status import RunPage, RunState, status_of

_REASON_BYTES: Final = 16_384


class RunOperators:
    """The part of a client that looks at many runs, or does something to them."""

    _handle: QueueHandle
    _queue_name: str
    _endings: Endings

    def _find(self, run_id: object) -> JobRow | None:
        return self._handle.find_run(self._queue_name, validation.identifier(run_id, "run_id", InvalidRunIdError))

    def _find_visible(self, run_id: object) -> JobRow:
        row = self._find(run_id)
        if row is None or not row.is_visible:
            raise RunNotFoundError(f"queue {self._queue_name!r} has no run {run_id!r}")
        return row

    def list_runs(
        self,
        state: RunState | None = None,
        *,
        prefix: str | None = None,
        header: tuple[str, str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        failed_with: str | None = None,
        parent: str | None = None,
        newest_first: bool = False,
        limit: int = 100,
        cursor: str | None = None,
    ) -> RunPage:
        """Return a page of the queue's runs in the order of their submission, or the newest first.

        What is given narrows it, all of it together: ``state``; ``prefix``, what the run id begins with; ``header``, a
        name and its value; ``since`` (inclusive) and ``until`` (exclusive), when it was submitted; ``failed_with``, a
        part of the error of a failed run; ``parent``, the run id or job id of the run that spawned it. ``cursor`` is a
        page's ``next_cursor``, and stays good when the row it points at is gone.

        A call looks at 10,000 runs at most: a page may be short, or empty, and have a cursor all the same. Go on until
        it is None.

        Raises:
            TypeError, ValueError, InvalidRunIdError: an argument is wrong.
        """
        which = selection(
            state,
            prefix=prefix,
            header=header,
            since=since,
            until=until,
            failed_with=failed_with,
            parent=parent,
            newest_first=newest_first,
        )
        page = self._handle.page(self._queue_name, which, limit, cursor, with_payload=False)
        return RunPage([status_of(row) for row in page.rows], page.next_cursor)

    def count_runs(self) -> dict[RunState, int]:
        """Return how many runs of the queue are in each state, all six of them.

        From counters, so it costs the same however many there are. A run that has ended counts until its row is swept,
        which may be a while after it is shown no more.
        """
        return {RunState(name): many for name, many in self._handle.tally(self._queue_name)._asdict().items()}

    def history(self, run_id: str) -> list[RunEvent]:
        """Return what happened to the newest run of that name, in order: the first 100 events and the last 1,000.

        Its submit; the start and the end of each attempt, by which process; cancel requests, retries, and how it ended
        each time. What happens at the moment shows as it is stored.

        Raises:
            RunNotFoundError: there is no run of that name (any more).
        """
        return [event_of(row) for row in self._handle.events(self._find_visible(run_id).id)]

    def cancel_many(
        self,
        state: RunState | None = None,
        *,
        prefix: str | None = None,
        header: tuple[str, str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        failed_with: str | None = None,
        parent: str | None = None,
        all: bool = False,
        reason: str | None = None,
    ) -> int:
        """Cancel every run that the filters of :meth:`list_runs` find and that has not ended; return how many.

        As :meth:`cancel` does, up to 500 in each commit: an error in between leaves what was done before. ``all=True``
        in place of filters means every run of the queue. A run submitted while this goes on is left alone. Hooks are
        called by whoever runs them, not here.

        Raises:
            ValueError: there is neither a filter nor ``all=True``, or both; nothing was written.
            TypeError, InvalidRunIdError: an argument is wrong; nothing was written.
        """
        filters = {
            "state": state, "prefix": prefix, "header": header, "since": since, "until": until,
            "failed_with": failed_with, "parent": parent,
        }  # fmt: skip
        which, checked = selection_of_many(all, filters), checked_reason(reason)
        self._endings.register()
        # From the newest to the oldest: what is submitted meanwhile is not met, however fast it comes.
        active = replace(which, is_active=True, newest_first=True)
        return in_pieces(lambda cursor: self._handle.cancel_some(self._queue_name, active, cursor, checked))

    def retry_many(
        self,
        state: RunState | None = None,
        *,
        prefix: str | None = None,
        header: tuple[str, str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        failed_with: str | None = None,
        parent: str | None = None,
        all: bool = False,
    ) -> int:
        """Retry every failed run that the filters of :meth:`list_runs` find; return how many.

        As :meth:`retry` does, up to 500 in each commit: an error in between leaves what was done before. ``all=True``
        in place of filters means every failed run of the queue. Of several runs of one name only the newest is retried.

        Raises:
            ValueError: there is neither a filter nor ``all=True``, or both; nothing was written.
            TypeError, InvalidRunIdError: an argument is wrong; nothing was written.
        """
        filters = {
            "state": state, "prefix": prefix, "header": header, "since": since, "until": until,
            "failed_with": failed_with, "parent": parent,
        }  # fmt: skip
        which = selection_of_many(all, filters)
        if which.verdict is Verdict.SUCCEEDED:
            return 0
        failed = replace(which, verdict=Verdict.FAILED)
        return in_pieces(lambda cursor: self._handle.retry_some(self._queue_name, failed, cursor))


def checked_reason(value: object) -> str | None:
    """Return why a run is cancelled, checked; None for None."""
    return None if value is None else validation.text(value, "reason", most=_REASON_BYTES)
