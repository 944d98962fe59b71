"""What is counted for those who watch."""

from __future__ import annotations

from typing import Final

from taquba_workflow_sync.storage.port.event import EventKind
from taquba_workflow_sync.storage.relational.sql.names import ATTEMPT, JOB, QUEUE, number, table

METER: Final = table("meter")


SCHEMA_OF_METER: Final = (
    # ``minute`` 0: the series as it stands; else what was added to it in that minute after the epoch. Queues and labels
    # are bytes, which any text can be.
    f"""CREATE TABLE IF NOT EXISTS {METER} (
        minute INTEGER NOT NULL,
        queue BLOB NOT NULL,
        label BLOB NOT NULL,
        meter TEXT NOT NULL,
        name TEXT NOT NULL,
        value INTEGER NOT NULL,
        PRIMARY KEY (minute, queue, label, meter, name)
    ) WITHOUT ROWID""",
)


# meter: what is no number any more begins anew
ADD_TO_METER = f"""INSERT INTO {METER} (minute, queue, label, meter, name, value) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET value = ifnull({number("value")}, 0) + excluded.value"""


HAS_LABEL = f"SELECT 1 FROM {METER} WHERE minute = 0 AND queue = ? AND label = ? LIMIT 1"


COUNT_LABELS = f"SELECT count(DISTINCT label) FROM {METER} WHERE minute = 0 AND queue = ? AND label NOT IN (x'', ?)"


DROP_MINUTES = f"DELETE FROM {METER} WHERE minute > 0 AND minute < ?"


METERS = f"SELECT queue, label, meter, name, value FROM {METER} WHERE minute = 0"


RECENT_MINUTES = f"""SELECT minute, queue, label, meter, name, value FROM {METER} WHERE minute > ?
    ORDER BY minute, queue, label, meter, name"""


WAITING_QUEUES = f"SELECT id, name FROM {QUEUE} WHERE pending > 0"


_LINE: Final = f"{JOB} INDEXED BY taquba_job_pending WHERE queue = ? AND status = 'pending' AND parked = 0"
# what stands first in line, of each rank: the place in line ascends with the time that it was entered
RANKS = f"""WITH RECURSIVE ranks (rank, number) AS (
    SELECT min(rank), 1 FROM {_LINE}
    UNION ALL
    SELECT (SELECT min(rank) FROM {_LINE} AND {JOB}.rank > ranks.rank), number + 1 FROM ranks
        WHERE ranks.rank IS NOT NULL AND number < ?)
    SELECT rank FROM ranks WHERE rank IS NOT NULL"""


# since when such a row could be claimed: put in, due, after its last attempt, retried; NULL what is no number
READY_SINCE = f"""SELECT belongings, {number("enqueued_ms")}, {number("run_at_ms")},
    (SELECT {number("ended_ms")} FROM {ATTEMPT} WHERE job = {JOB}.seq AND ordinal = {JOB}.ordinal),
    (SELECT max(at_ms) FROM {table("event")} WHERE job = {JOB}.seq AND kind = '{EventKind.RETRIED.value}')
    FROM {_LINE} AND rank = ? ORDER BY place LIMIT ?"""
