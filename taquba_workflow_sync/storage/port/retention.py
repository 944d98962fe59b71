"""How long a finished row stays."""

from __future__ import annotations

# A finished row stays this long, invisible, when nothing is kept: a wait in another process still learns the outcome.
SHORTEST_RETENTION_MS = 60_000


def retention_ms(*, is_run: bool, is_dead: bool, keep_done_ms: int | None, keep_dead_ms: int | None) -> int | None:
    """Return how long a finished row stays; None: until somebody moves it; 0: not at all."""
    if is_run:
        return max(keep_done_ms or 0, SHORTEST_RETENTION_MS)
    if is_dead:
        return keep_dead_ms
    return keep_done_ms or 0
