"""What queues must count, told by their rows; and what may stand beside that."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any, Final

from taquba_workflow_sync.storage.port.notification import Subscription
from taquba_workflow_sync.storage.port.status import JobStatus
from taquba_workflow_sync.storage.port.tally import COUNTERS, special_count_of
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.columns import COLUMNS
from taquba_workflow_sync.storage.relational.connection import Connection
from taquba_workflow_sync.storage.relational.limiting import CLOSED

_COUNTED_EVER: Final = (JobStatus.DONE, JobStatus.CANCELLED)


def right_counts(rows: Iterable[tuple[Any, int, int, int, int]], counts: Sequence[object]) -> list[int]:
    """Return what a queue's counters must be, from its rows (see ``COUNT_ROWS``) and what the counters are."""
    there: Counter[object] = Counter()
    for status, is_run, is_cancelling, has_succeeded, many in rows:
        there[status] += many
        there[
            special_count_of(
                status,
                is_run=bool(is_run),
                is_cancelling=bool(is_cancelling),
                has_succeeded=bool(has_succeeded),
            )
        ] += many
    right: list[int] = []
    for name, count in zip(COUNTERS, counts, strict=True):
        least = there[name]
        is_kept = name in _COUNTED_EVER and isinstance(count, int) and count < 2**62
        right.append(max(count, least) if is_kept and isinstance(count, int) else least)
    return right


def is_subscription(text: object) -> bool:
    """Whether a stored text says who is told of terminated runs."""
    try:
        subscription = json.loads(text)  # type: ignore[arg-type]  # whatever it is, it fails or it fits
    except (TypeError, ValueError, RecursionError):
        return False
    return (
        isinstance(subscription, dict)
        and subscription.keys() == {each.name for each in fields(Subscription)}
        and type(subscription["lane"]) is str
        and COLUMNS["max_attempts"].holds(subscription["max_attempts"])
        and COLUMNS["keep_dead_ms"].holds(subscription["keep_dead_ms"])
    )


def flags_of(connection: Connection, queue: int) -> tuple[dict[str, Any], dict[str, int]]:
    """Return what a queue has of pauses, limits and counts of those, and what it must be.

    A pause is told by nothing else; one that cannot be read is none: damage must keep nothing from running.
    """
    read = connection.execute(sql.READ_FLAGS, (queue,)).fetchone()
    held = {
        name: value if kind == "integer" else f"damaged ({kind})"
        for name, value, kind in zip(sql.FLAGS, read[::2], read[1::2], strict=True)
    }
    right = dict(zip(sql.FLAGS[1:], connection.execute(sql.RIGHT_FLAGS, (queue,)).fetchone(), strict=True))
    return held, {"paused": held["paused"] if held["paused"] in CLOSED else 0, **right}
