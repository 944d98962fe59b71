"""What there is under limits, read: the queue from its counters, keys from their rows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from taquba_workflow_sync.storage.port.usage import MOST_COUNTED, MOST_KEYS_SEEN, MOST_OF_KEY, Usage, usage_of
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.connection import Connection
from taquba_workflow_sync.storage.relational.limiting import limit_in, text_of


def limit_usage(connection: Connection, queue: str) -> list[Usage]:
    """Return what there is of a queue and of the keys of its limits, all of one moment."""
    connection.execute("BEGIN")
    try:
        found = connection.execute(sql.USAGE_OF_QUEUE, (queue,)).fetchone()
        if found is None:
            return []
        number, claimed, parked = found
        limits = [limit_in(row) for row in connection.execute(sql.LIMITS, (number,)).fetchall()]
        has_keys = bool(parked) or any(limit.pattern is not None for limit in limits)
        keys = list(_of_keys(connection, number)) if has_keys else []
        return usage_of(Usage(None, max(claimed or 0, 0), max(parked or 0, 0)), limits, keys)
    finally:
        connection.execute("COMMIT")


def _of_keys(connection: Connection, queue: int) -> Iterator[Usage]:
    of_key = (queue, MOST_OF_KEY)
    values = (queue, queue, *of_key, *of_key, MOST_KEYS_SEEN, MOST_COUNTED, *of_key)
    rows = connection.execute(sql.USAGE_OF_KEYS, values).fetchall()
    for (key, before, claimed), (_, after, _) in pairwise(rows):
        yield Usage(text_of(key), claimed, after - before)
