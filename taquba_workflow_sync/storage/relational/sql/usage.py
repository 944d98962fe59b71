"""What there is under limits, key by key."""

from __future__ import annotations

from typing import Final

from taquba_workflow_sync.storage.relational.sql.names import JOB, QUEUE, number

_KEYED: Final = f"{JOB} INDEXED BY taquba_job_keyed WHERE queue = ? AND finished_ms IS NULL AND limit_key"
_PARKED: Final = f"SELECT 1 FROM {_KEYED} = keys.limit_key AND status = 'pending' AND parked IN (1, 3) LIMIT ?"
_CLAIMED: Final = f"SELECT 1 FROM {_KEYED} = keys.limit_key AND status = 'claimed' LIMIT ?"


# what a queue's counters say of it
USAGE_OF_QUEUE = f"SELECT id, {number('claimed')}, {number('parked')} FROM {QUEUE} WHERE name = ? AND limited <> 0"


# The keys that have rows, from one to the next, with how many were parked of those before each, and how many of each
# are claimed. The last is one that was not counted any more, or none.
USAGE_OF_KEYS = f"""WITH RECURSIVE keys (limit_key, place, before) AS (
    SELECT min(limit_key), 1, CAST(0 AS BIGINT) FROM {_KEYED} > ''
    UNION ALL
    SELECT (SELECT min({JOB}.limit_key) FROM {_KEYED} > keys.limit_key), place + 1,
        before + (SELECT count(*) FROM ({_PARKED}) AS found)
    FROM keys WHERE keys.limit_key IS NOT NULL AND place <= ? AND before < ?)
    SELECT CAST(limit_key AS BLOB), before, (SELECT count(*) FROM ({_CLAIMED}) AS found) FROM keys ORDER BY place"""
