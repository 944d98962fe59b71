"""Who runs what, and whose claims may be taken over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Abandoned:
    """Whose claims may be taken over: owners known to be dead, and single claims watched for long enough.

    ``tokens`` says of each such claim how long its lease was when it was watched: one renewed since then is alive.
    """

    owners: frozenset[str] = frozenset()
    tokens: Mapping[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.owners or self.tokens)


NOTHING_ABANDONED = Abandoned()


class RunningClaim(NamedTuple):
    """One claim of a live owner, as the store has it."""

    job_id: str
    token: str
    owner: str
    cancel_requested: bool
    lease_until_ms: int
    lease_ms: int
