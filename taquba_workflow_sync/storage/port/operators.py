"""What operators do to many runs at once, in pieces; and how many there are."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple, Protocol

from taquba_workflow_sync.storage.port.claim import NOTHING_RUNS
from taquba_workflow_sync.storage.port.presence import Abandoned
from taquba_workflow_sync.storage.port.reads import Filter
from taquba_workflow_sync.storage.port.tally import Tally

#: The most rows that one commit changes.
MOST_ROWS: Final = 500
#: The most rows that one call looks at to find those that a filter lets through.
MOST_EXAMINED: Final = 10_000


class Piece(NamedTuple):
    """What one commit did: to how many runs; the tokens of claims that were asked to stop; where to go on."""

    changed: int
    tokens: list[str]
    next_cursor: str | None


class Operators(Protocol):
    """Counting, cancelling, retrying and removing. A filter is looked at again in the commit that changes a run."""

    def tally(self, queue: str) -> Tally:
        """Return how many runs of a queue stand where; one that has ended counts until it is swept."""
        ...

    def cancel_some(
        self,
        queue: str,
        which: Filter,
        cursor: str | None,
        *,
        reason: str | None = None,
        abandoned: Abandoned | None = None,
        never_reap: Collection[str] = NOTHING_RUNS,
    ) -> Piece:
        """As ``cancel``, for at most 500 of the runs that ``which`` lets through; their notifications stay in line.

        Raises:
            ValueError: ``cursor`` is none of this store's.
        """
        ...

    def remove(self, job_id: str) -> None:
        """dead -> gone.

        Raises:
            JobNotFoundError: there is no such job.
            InvalidStateError: it is not dead, or a member of a group, which is removed with its group.
        """
        ...

    def remove_some(self, queue: str, which: Filter, cursor: str | None) -> Piece:
        """done / dead / cancelled -> gone, for at most 500 of the rows that ``which`` lets through.

        Members of groups are passed over: they go with their group.

        Raises:
            ValueError: ``cursor`` is none of this store's.
        """
        ...

    def retry_some(self, queue: str, which: Filter, cursor: str | None) -> Piece:
        """As ``requeue(failed_run=True)``, for at most 500 of them; one with a newer run of its name is passed over.

        Raises:
            ValueError: ``cursor`` is none of this store's.
        """
        ...
