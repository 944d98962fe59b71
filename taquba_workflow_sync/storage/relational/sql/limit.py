"""Limits of queues and keys, the claims that rates count, and what is parked."""

from __future__ import annotations

from typing import Final

from taquba_workflow_sync.storage.relational.sql.names import JOB, META, QUEUE, table

LIMIT: Final = table("limit")
RATE: Final = table("rate")
RATED: Final = table("rated")


SCHEMA_OF_LIMIT: Final = (
    # One limit: the queue's own (pattern '') or that of keys. ``prefix``: of a pattern, what its keys begin with.
    # ``settled_to``: up to which key what was in line before it has been seen to; NULL: all.
    f"""CREATE TABLE IF NOT EXISTS {LIMIT} (
        id INTEGER PRIMARY KEY,
        queue INTEGER NOT NULL REFERENCES {QUEUE} (id),
        pattern TEXT NOT NULL,
        prefix TEXT,
        concurrency INTEGER,
        rate_most INTEGER,
        rate_window_ms INTEGER,
        hold TEXT NOT NULL,
        max_waiting INTEGER,
        is_gone INTEGER NOT NULL DEFAULT 0,
        settled_to TEXT,
        UNIQUE (queue, pattern)
    )""",
    f"""CREATE INDEX IF NOT EXISTS taquba_limit_prefix ON {LIMIT} (queue, length(prefix), prefix)
        WHERE prefix IS NOT NULL""",
    f"""CREATE INDEX IF NOT EXISTS taquba_limit_unsettled ON {LIMIT} (queue) WHERE settled_to IS NOT NULL""",
    # A key (or the queue: '') whose claims are counted. ``refill_ms``: when it has room for what it has parked;
    # ``idle_ms``: when all of it may go.
    f"""CREATE TABLE IF NOT EXISTS {RATE} (
        id INTEGER PRIMARY KEY,
        queue INTEGER NOT NULL REFERENCES {QUEUE} (id),
        limit_key TEXT NOT NULL,
        refill_clock INTEGER NOT NULL DEFAULT 0,
        refill_ms INTEGER,
        idle_ms INTEGER,
        UNIQUE (queue, limit_key)
    )""",
    f"""CREATE INDEX IF NOT EXISTS taquba_rate_refill ON {RATE} (queue, refill_clock, refill_ms)
        WHERE refill_ms IS NOT NULL""",
    f"""CREATE INDEX IF NOT EXISTS taquba_rate_idle ON {RATE} (idle_ms) WHERE idle_ms IS NOT NULL""",
    # Its claims in their order, at most as many as lie in a window and a few. ``boot``: by whose clock ``at_ms`` is, 0
    # the wall's; after another start of the machine ``wall_ms`` counts.
    f"""CREATE TABLE IF NOT EXISTS {RATED} (
        rate INTEGER NOT NULL,
        number INTEGER NOT NULL,
        job INTEGER NOT NULL,
        boot INTEGER NOT NULL,
        at_ms INTEGER NOT NULL,
        wall_ms INTEGER NOT NULL,
        PRIMARY KEY (rate, number)
    ) WITHOUT ROWID""",
    # The rows of each key: those in line, parked, claimed and between steps, each together and in the order of the
    # line. A queue's plain rows are not in it.
    f"""CREATE INDEX IF NOT EXISTS taquba_job_keyed ON {JOB} (queue, limit_key, status, parked, rank, place)
        WHERE limit_key IS NOT NULL AND finished_ms IS NULL""",
)


def _whole(column: str) -> str:
    return f"CASE typeof({column}) WHEN 'integer' THEN {column} END"


_OF_KEY: Final = f"{JOB} INDEXED BY taquba_job_keyed WHERE queue = ? AND limit_key = ? AND finished_ms IS NULL"
# As bytes and whole numbers, whatever a damaged row holds: it must keep nobody from claiming. What is no whole number
# is none: a cast would make a limit of 1 of 1.5.
_LIMIT: Final = f"""CAST(pattern AS BLOB), {_whole("concurrency")}, {_whole("rate_most")},
    {_whole("rate_window_ms")}, hold = 'run', {_whole("max_waiting")}"""
_NUMBERED: Final = "number BETWEEN 0 AND 1 << 53"
#: Of a claim: the window has it; the values are the boot whose clock counts, and for it and the wall clock from when
#: to when. What lies further ahead was noted by a clock that was set back since, or is damaged.
_IN_WINDOW: Final = """CASE WHEN boot = ? THEN CAST(at_ms AS INTEGER) > ? AND CAST(at_ms AS INTEGER) <= ?
    ELSE CAST(wall_ms AS INTEGER) > ? AND CAST(wall_ms AS INTEGER) <= ? END"""


# the limit of exactly that pattern; '' the queue's own
FIND_LIMIT = f"SELECT {_LIMIT} FROM {LIMIT} WHERE queue = ? AND pattern = ? AND is_gone = 0"


# the limit of the longest pattern that a key begins with
FIND_PATTERN = f"""SELECT {_LIMIT} FROM {LIMIT} INDEXED BY taquba_limit_prefix WHERE queue = ? AND prefix IS NOT NULL
    AND is_gone = 0 AND substr(?, 1, length(prefix)) = prefix ORDER BY length(prefix) DESC LIMIT 1"""


LIMITS = f"SELECT {_LIMIT} FROM {LIMIT} WHERE queue = ? AND is_gone = 0 ORDER BY pattern"


HAS_LIMITS = f"SELECT 1 FROM {LIMIT} WHERE queue = ? LIMIT 1"


SET_LIMIT = f"""INSERT OR REPLACE INTO {LIMIT}
    (pattern, concurrency, rate_most, rate_window_ms, hold, max_waiting, queue, prefix, settled_to)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, '')"""


# clear: gone for whoever looks, until what it has parked is seen to
CLEAR_LIMIT = f"""UPDATE {LIMIT} SET is_gone = 1, settled_to = '' WHERE queue = ? AND pattern = ? AND is_gone = 0"""


DROP_GONE = f"DELETE FROM {LIMIT} WHERE id = ? AND is_gone <> 0"


FIRST_UNSETTLED = f"""SELECT id, CAST(pattern AS BLOB), CAST(settled_to AS BLOB) FROM {LIMIT}
    INDEXED BY taquba_limit_unsettled WHERE queue = ? AND settled_to IS NOT NULL LIMIT 1"""


SETTLED_TO = f"UPDATE {LIMIT} SET settled_to = ? WHERE id = ?"


SET_LIMITED = f"UPDATE {QUEUE} SET limited = ? WHERE id = ?"


SET_PAUSED = f"UPDATE {QUEUE} SET paused = ? WHERE id = ?"


ADD_PARKED = f"UPDATE {QUEUE} SET parked = max(parked + ?, 0) WHERE id = ?"


# how many rows a key has of a status and in a state, up to a bound
COUNT_OF_KEY = f"SELECT count(*) FROM (SELECT 1 FROM {_OF_KEY} AND status = ? AND parked = ? LIMIT ?)"


# how many claims a queue has, up to a bound: counted where its counter says that it is full
COUNT_CLAIMED = f"""SELECT count(*) FROM (SELECT 1 FROM {JOB} INDEXED BY taquba_job_claimed
    WHERE lease_until_ms IS NOT NULL AND owner >= '' AND queue = ? LIMIT ?)"""


# max_waiting: how many rows of a key are pending, up to a bound
COUNT_PENDING_OF_KEY = f"SELECT count(*) FROM (SELECT 1 FROM {_OF_KEY} AND status = 'pending' LIMIT ?)"


# un-park: the first of a key's parked rows
FIRST_PARKED = f"""SELECT rank, place, seq FROM {_OF_KEY} AND status = 'pending' AND parked = ?
    ORDER BY rank, place LIMIT ?"""


# park: the last of a key's rows in line; those claimed before are left out where a run keeps its slot
LAST_IN_LINE = f"""SELECT rank, place, seq FROM {_OF_KEY} AND status = 'pending' AND parked = 0 AND ordinal <= ?
    ORDER BY rank DESC, place DESC LIMIT ?"""


HAS_ROWS = f"SELECT 1 FROM {_OF_KEY} LIMIT 1"


# the slots that are kept by rows between their steps
KEPT_BETWEEN = f"SELECT seq FROM {_OF_KEY} AND status = 'scheduled' AND parked = 3 LIMIT ?"


SET_PARKED = f"UPDATE {JOB} SET parked = ? WHERE seq = ? AND finished_ms IS NULL AND status <> 'claimed'"


# settle: the next key that has rows
NEXT_KEY = f"""SELECT CAST(limit_key AS BLOB) FROM {JOB} INDEXED BY taquba_job_keyed WHERE queue = ? AND limit_key > ?
    AND finished_ms IS NULL ORDER BY limit_key LIMIT 1"""


# promote, where keys are limited: what has a key is parked first
PROMOTE_KEYED = f"""UPDATE {JOB} SET status = 'pending', due_ms = NULL,
    parked = CASE WHEN limit_key IS NULL THEN 0 WHEN parked = 3 THEN 3 ELSE 1 END WHERE seq IN (
    SELECT seq FROM {JOB} INDEXED BY taquba_job_due WHERE queue = ? AND due_clock = 0 AND due_ms <= ?
    UNION ALL
    SELECT seq FROM {JOB} INDEXED BY taquba_job_due WHERE queue = ? AND due_clock = 1 AND due_ms <= ?
    LIMIT ?) RETURNING seq, limit_key"""


FIND_RATE = f"""SELECT id, CAST(refill_clock AS INTEGER), CAST(refill_ms AS INTEGER), CAST(idle_ms AS INTEGER)
    FROM {RATE} WHERE queue = ? AND limit_key = ?"""


ADD_RATE = f"INSERT INTO {RATE} (queue, limit_key) VALUES (?, ?)"


SET_REFILL = f"UPDATE {RATE} SET refill_clock = ?, refill_ms = ?, idle_ms = ? WHERE id = ?"


DUE_REFILLS = f"""SELECT id, CAST(limit_key AS BLOB) FROM {RATE} INDEXED BY taquba_rate_refill
    WHERE refill_ms IS NOT NULL AND queue = ? AND refill_clock = ? AND refill_ms <= ? LIMIT ?"""


NEXT_REFILL = f"""SELECT min(refill_ms) FROM {RATE} INDEXED BY taquba_rate_refill
    WHERE refill_ms IS NOT NULL AND queue = ? AND refill_clock = ?"""


# the boot clock started anew: look what has room at once
LEAVE_BOOT_REFILLS = f"""UPDATE {RATE} INDEXED BY taquba_rate_refill SET refill_clock = 0, refill_ms = 0
    WHERE refill_ms IS NOT NULL AND refill_clock = 1 AND queue IN (SELECT id FROM {QUEUE})"""


ADD_RATED = f"""INSERT INTO {RATED} (rate, number, job, boot, at_ms, wall_ms)
    SELECT ?, 1 + ifnull(max(number), 0), ?, ?, ?, ? FROM {RATED} WHERE rate = ? AND {_NUMBERED}"""


# the claims of a window, the oldest first
IN_WINDOW = f"""SELECT CAST(boot AS INTEGER), CAST(at_ms AS INTEGER), CAST(wall_ms AS INTEGER) FROM {RATED}
    WHERE rate = ? AND {_IN_WINDOW} ORDER BY number LIMIT 1 OFFSET ?"""


COUNT_IN_WINDOW = f"SELECT count(*) FROM {RATED} WHERE rate = ? AND {_IN_WINDOW}"


# of the oldest claims, those that no window has any more
DROP_OLD_RATED = f"""DELETE FROM {RATED} WHERE rate = ? AND number IN (SELECT number FROM (
    SELECT number, boot, at_ms, wall_ms FROM {RATED} WHERE rate = ? ORDER BY number LIMIT ?) WHERE NOT {_IN_WINDOW})"""


DROP_SOME_RATED = f"""DELETE FROM {RATED} WHERE rate = ? AND number IN (
    SELECT number FROM {RATED} WHERE rate = ? ORDER BY number LIMIT ?)"""


DROP_RATED = f"DELETE FROM {RATED} WHERE rate = ? AND number = ?"


# release: the claim of a job that never began
LAST_RATED_OF = f"SELECT max(number) FROM {RATED} WHERE rate = ? AND job = ? AND {_NUMBERED}"


IDLE_RATES = f"""SELECT id, CAST(queue AS INTEGER), CAST(limit_key AS BLOB) FROM {RATE} INDEXED BY taquba_rate_idle
    WHERE idle_ms IS NOT NULL AND idle_ms <= ? LIMIT 1"""


DROP_RATE = f"DELETE FROM {RATE} WHERE id = ?"


# advance: a place at the back, where priorities age
SET_RANK = f"UPDATE {JOB} SET rank = ? WHERE seq = ?"


# the clock by which priorities age: never back
LINE_CLOCK = f"SELECT value FROM {META} WHERE key = 'line_clock'"
