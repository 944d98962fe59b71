"""Who runs what, and whose claims may be taken over."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple, Protocol

# How many lease durations an overdue claim is watched before it counts as abandoned: its owner's process lives
# (stopped, swapping, or one call holds its GIL), or nothing is known of it.
LEASES_WHILE_ALIVE: Final = 10
LEASES_WHILE_UNKNOWN: Final = 1


class Abandoned(Protocol):
    """Evidence of one store that some claims may be taken over; true if there are any. Nobody else looks inside."""

    def __bool__(self) -> bool: ...


class RunningClaim(NamedTuple):
    """One claim that a worker loop holds, as the store has it; ``is_late``: asked to stop, for its deadline alone."""

    job_id: str
    token: str
    cancel_requested: bool
    is_late: bool = False


class Presence(Protocol):
    """Tells the living from the dead."""

    def running(self) -> list[RunningClaim]:
        """Return the claims that worker loops hold through this handle."""
        ...

    def abandoned_claims(self, *, suspect: str | None = None, own: Collection[str] = ()) -> Abandoned:
        """Look which claims may be taken over now; takes time, and is never called inside a transaction.

        ``suspect``: the owner that the caller is about to judge, looked at with more patience. ``own``: tokens of this
        handle's claims whose steps have ended and whose ends could not be stored: they count as abandoned, too.
        """
        ...

    def suspected_claims(self) -> list[str]:
        """Return the jobs that others hold who are dead, or may be, which will be known within seconds.

        Empty where the dead are known to be at once.
        """
        ...

    def beat(self, patience: float) -> bool | None:
        """Ask what keeps the store whether it is there; whether it has answered within ``patience`` seconds.

        None: nothing is between this process and its store that could be cut.
        """
        ...


def may_be_taken_over(*, owner_lives: bool | None, unrenewed_s: float, lease_s: float) -> bool:
    """Return whether a claim is abandoned: its owner is dead, or it stayed overdue for long enough.

    ``owner_lives`` None: unknown. ``unrenewed_s``: for how long this process has *watched* it overdue and unrenewed, by
    its own monotonic clock.
    """
    if owner_lives is False:
        return True
    return unrenewed_s >= (LEASES_WHILE_ALIVE if owner_lives else LEASES_WHILE_UNKNOWN) * lease_s
