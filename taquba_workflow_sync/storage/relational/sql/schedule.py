"""The schedules of queues."""

from __future__ import annotations

from typing import Final

from taquba_workflow_sync.storage.relational.rows import KeptSchedule
from taquba_workflow_sync.storage.relational.sql.names import JOB, QUEUE, columns, table

SCHEDULE: Final = table("schedule")
SCHEDULE_SPEC: Final = table("schedule_spec")

_QUEUE: Final = f"(SELECT id FROM {QUEUE} WHERE name = ?)"


SCHEMA_OF_SCHEDULE: Final = (
    # What changes with every firing; ``revision`` is the store's next number at each definition, pause and resumption.
    f"""CREATE TABLE IF NOT EXISTS {SCHEDULE} (
        id INTEGER PRIMARY KEY,
        queue INTEGER NOT NULL REFERENCES {QUEUE} (id),
        name TEXT NOT NULL,
        kind INTEGER NOT NULL,
        revision INTEGER NOT NULL,
        paused INTEGER NOT NULL DEFAULT 0,
        defined_ms INTEGER NOT NULL,
        watermark_ms INTEGER NOT NULL,
        next_ms INTEGER,
        last_run_id TEXT,
        last_job TEXT,
        UNIQUE (queue, name)
    )""",
    # What does not: a firing must not rewrite the input of its runs.
    f"""CREATE TABLE IF NOT EXISTS {SCHEDULE_SPEC} (
        id INTEGER PRIMARY KEY,
        definition TEXT NOT NULL,
        payload BLOB NOT NULL,
        definition_crc INTEGER NOT NULL,
        payload_crc INTEGER NOT NULL
    )""",
    f"""CREATE INDEX IF NOT EXISTS taquba_schedule_due ON {SCHEDULE} (queue, kind, next_ms, id)
        WHERE paused = 0 AND next_ms IS NOT NULL""",
    f"""CREATE INDEX IF NOT EXISTS taquba_schedule_ahead ON {SCHEDULE} (queue, kind, watermark_ms)
        WHERE paused = 0 AND next_ms IS NOT NULL""",
)


# define, drop, move, fire: the schedule as it stands; numbers, whatever a damaged row holds
FIND_SCHEDULE = f"""SELECT {columns(KeptSchedule)} FROM {SCHEDULE} WHERE queue = ? AND name = ?"""


# define_schedule: a new one
ADD_SCHEDULE = f"""INSERT INTO {SCHEDULE} (id, queue, name, kind, revision, defined_ms, watermark_ms, next_ms)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""


# define_schedule: another definition in place of the one that is there
REDEFINE_SCHEDULE = f"""UPDATE {SCHEDULE} SET kind = ?, revision = ?, defined_ms = ?, watermark_ms = ?, next_ms = ?
    WHERE id = ?"""


PUT_SCHEDULE_SPEC = f"""INSERT OR REPLACE INTO {SCHEDULE_SPEC} (id, definition, payload, definition_crc, payload_crc)
    VALUES (?, ?, ?, ?, ?)"""


# drop_schedule
DROP_SCHEDULE = f"DELETE FROM {SCHEDULE} WHERE id = ?"


DROP_SCHEDULE_SPEC = f"DELETE FROM {SCHEDULE_SPEC} WHERE id = ?"


# move_schedule
MOVE_SCHEDULE = f"UPDATE {SCHEDULE} SET paused = ?, revision = ?, watermark_ms = ?, next_ms = ? WHERE id = ?"


# fire: is the last run active?
IS_LAST_RUN_ACTIVE = f"SELECT 1 FROM {JOB} WHERE id = ? AND finished_ms IS NULL"


# fire
MARK_SCHEDULE = f"UPDATE {SCHEDULE} SET watermark_ms = ?, next_ms = ? WHERE id = ?"


LAST_RUN_OF_SCHEDULE = f"UPDATE {SCHEDULE} SET last_run_id = ?, last_job = ? WHERE id = ?"


_SHOWN = """k.name, k.kind, k.revision, k.watermark_ms, k.next_ms, k.defined_ms, k.paused, k.last_run_id,
    p.definition, p.payload, p.definition_crc, p.payload_crc"""


SHOW_SCHEDULE = f"""SELECT {_SHOWN} FROM {SCHEDULE} AS k LEFT JOIN {SCHEDULE_SPEC} AS p ON p.id = k.id
    WHERE k.queue = {_QUEUE} AND k.name = ?"""


SHOW_SCHEDULES = f"""SELECT {_SHOWN} FROM {SCHEDULE} AS k LEFT JOIN {SCHEDULE_SPEC} AS p ON p.id = k.id
    WHERE k.queue = {_QUEUE} AND k.name > ? ORDER BY k.name LIMIT ?"""


# what a check looks through
ALL_SCHEDULES = f"SELECT {_SHOWN} FROM {SCHEDULE} AS k LEFT JOIN {SCHEDULE_SPEC} AS p ON p.id = k.id"


_DUE = f"FROM {SCHEDULE} INDEXED BY taquba_schedule_due WHERE paused = 0 AND next_ms IS NOT NULL"


_AHEAD = f"FROM {SCHEDULE} INDEXED BY taquba_schedule_ahead WHERE paused = 0 AND next_ms IS NOT NULL"


_OF_KIND = f"queue = {_QUEUE} AND kind = ?"


# when the first and, of those that are not due, the next is to fire; how far ahead any has been fired
NEXT_FIRING = (
    f"SELECT next_ms {_DUE} AND {_OF_KIND} ORDER BY next_ms LIMIT 1",
    f"SELECT next_ms {_DUE} AND {_OF_KIND} AND next_ms > ? ORDER BY next_ms LIMIT 1",
    f"SELECT watermark_ms {_AHEAD} AND {_OF_KIND} ORDER BY watermark_ms DESC LIMIT 1",
)


DUE_SCHEDULES = f"""SELECT next_ms, id, name {_DUE} AND {_OF_KIND} AND next_ms <= ? AND (next_ms, id) > (?, ?)
    ORDER BY next_ms, id LIMIT ?"""


SCHEDULES_AHEAD = f"""SELECT next_ms, id, name {_AHEAD} AND {_OF_KIND} AND watermark_ms > ? LIMIT ?"""
