"""How commits are heard of, in this process and in others; and who commits for everyone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from taquba_workflow_sync.wakeup import WakeUp

#: Called after a commit of this process with the queues that got work, and the jobs whose runs ended; must not block.
CommitListener = Callable[[frozenset[str], frozenset[str]], None]


class Changes(NamedTuple):
    """What a wait saw: ``version`` is what to wait from next time, and means nothing else."""

    version: object
    are_new: bool


class Leader(Protocol):
    """The right to commit for every caller of this process."""

    def flush(self) -> None:
        """Commit what callers wait for, if anything; they get the errors, not this thread."""
        ...

    def here(self) -> AbstractContextManager[None]:
        """Let the calling thread, one of ours, commit what it writes itself, together with what callers wait for."""
        ...


class ChangeSource(Protocol):
    """Tells that something was committed, and lets one thread do it for all."""

    def wait_for_changes(self, since: object, timeout: float, wakeup: WakeUp) -> Changes:
        """Return once any process has committed after ``since``, or the store's clock was set, or ``wakeup`` came.

        At once if ``since`` is None; else after ``timeout`` seconds at the latest. Changes may be told that are none.
        """
        ...

    def on_commit(self, listener: CommitListener) -> AbstractContextManager[None]:
        """Have ``listener`` called after each commit of this process that put work in line or ended a run."""
        ...

    def lead(self, on_waiting: Callable[[], None]) -> AbstractContextManager[Leader | None]:
        """Make the calling thread, one of ours, the one that commits for everyone while the block runs.

        ``on_waiting`` is called, by whoever waits, when a caller needs :meth:`Leader.flush`. None if another leads.
        """
        ...
