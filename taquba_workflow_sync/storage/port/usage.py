"""What there is under the limits of a queue: how much of each key is claimed, and how much is parked for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, Protocol

from taquba_workflow_sync.storage.port.limit import Limit

#: The most keys that are told of.
MOST_KEYS: Final = 1_000
#: The most keys that one look passes by, and the most parked rows that it counts: of one key, and of all.
MOST_KEYS_SEEN: Final = 10_000
MOST_OF_KEY: Final = 10_000
MOST_COUNTED: Final = 100_000


class Usage(NamedTuple):
    """How many rows of a key are claimed and how many parked; ``key`` None: of the queue, with keys and without."""

    key: str | None
    claimed: int
    parked: int


class Usages(Protocol):
    """What there is under limits."""

    def limit_usage(self, queue: str) -> list[Usage]:
        """Return what there is of a queue, from its counters, then of the keys of its limits; nothing without limits.

        The keys, as :func:`usage_of` has them, are counted in their order, from the rows, until 10,000 were passed by
        or 100,000 parked rows counted; those after that are left out. Of one key no more than 10,000 are counted.
        """
        ...


def usage_of(own: Usage, limits: Sequence[Limit], keys: Iterable[Usage]) -> list[Usage]:
    """Return what is told of a queue: itself, then the keys that have something parked, or claimed under a limit, and
    those with a limit of their own. The most parked go first, then the most claimed; at most 1,000."""
    if not limits:
        return []
    patterns = [limit.pattern for limit in limits if limit.pattern is not None]
    exact = {pattern for pattern in patterns if not pattern.endswith("*")}
    prefixes = tuple(pattern[:-1] for pattern in patterns if pattern.endswith("*"))
    shown = {key: Usage(key, 0, 0) for key in exact}
    for each in keys:
        key = each.key or ""
        if each.parked or key in exact or (each.claimed and key.startswith(prefixes)):
            shown[key] = each
    ranked = sorted(shown.values(), key=lambda each: (-each.parked, -each.claimed, each.key or ""))
    return [own, *ranked[:MOST_KEYS]]
