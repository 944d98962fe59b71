"""What there is under limits, key by key."""

from __future__ import annotations

from typing import Final

from taquba_workflow_sync.storage.relational.sql.names import JOB, QUEUE, number

_KEYED: Final = f"{JOB} INDEXED BY taquba_job_keyed WHERE queue = ? AND finished_ms IS NULL AND limit_key"


def _count(state: str) -> str:
    return f"(SELECT count(*) FROM (SELECT 1 FROM {_KEYED} = keys.limit_key AND {state} LIMIT ?) AS found)"


_FOR_SLOT: Final = _count("status = 'pending' AND parked = 1")
_FOR_RATE: Final = _count("status = 'pending' AND parked = 3")
_CLAIMED: Final = _count("status = 'claimed' AND parked = 0")


# what a queue's counters say of it
USAGE_OF_QUEUE = f"SELECT id, {number('claimed')}, {number('parked')} FROM {QUEUE} WHERE name = ? AND limited <> 0"


# The keys that have rows, from one to the next, with how many were parked of those before each, and how many of each
# are claimed. The last is one that was not counted any more, or none.
USAGE_OF_KEYS = f"""WITH RECURSIVE keys (limit_key, place, before) AS (
    SELECT min(limit_key), 1, CAST(0 AS BIGINT) FROM {_KEYED} > ''
    UNION ALL
    SELECT (SELECT min({JOB}.limit_key) FROM {_KEYED} > keys.limit_key), place + 1,
        before + {_FOR_SLOT} + {_FOR_RATE}
    FROM keys WHERE keys.limit_key IS NOT NULL AND place <= ? AND before < ?)
    SELECT CAST(limit_key AS BLOB), before, {_CLAIMED} FROM keys ORDER BY place"""
