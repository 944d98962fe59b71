"""The frame of a transaction, the queues' counters, and what lives in rows of its own."""

from __future__ import annotations

BEGIN = "BEGIN IMMEDIATE"


COMMIT = "COMMIT"


ROLLBACK = "ROLLBACK"


READ_META = "SELECT value FROM taquba_meta WHERE key = ?"


WRITE_META = "INSERT OR REPLACE INTO taquba_meta (key, value) VALUES (?, ?)"


WRITE_NEXT_SEQ = "UPDATE taquba_meta SET value = ? WHERE key = 'next_seq'"


FIND_QUEUE = "SELECT id, observer FROM taquba_queue WHERE name = ?"


ADD_QUEUE = "INSERT INTO taquba_queue (name) VALUES (?)"


QUEUE_NAME = "SELECT name, observer FROM taquba_queue WHERE id = ?"


ADD_COUNTS = """UPDATE taquba_queue SET pending = pending + ?, scheduled = scheduled + ?, claimed = claimed + ?,
    done = done + ?, dead = dead + ?, cancelled = cancelled + ? WHERE id = ?"""


PUT_OVERFLOW = "INSERT OR REPLACE INTO taquba_part (key, data) VALUES (?, ?)"


GET_OVERFLOW = "SELECT data FROM taquba_part WHERE key = ?"


DROP_OVERFLOW = "DELETE FROM taquba_part WHERE key = ?"


DROP_OVERFLOWS = "DELETE FROM taquba_part WHERE key BETWEEN ? AND ?"


# observe: the lane that is told of a queue's terminated runs
SUBSCRIBE = "UPDATE taquba_queue SET observer = ? WHERE id = ? AND observer IS NOT ?"
