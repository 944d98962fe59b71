"""The frame of a transaction, the queues' counters, a job's history, and what lives in rows of its own."""

from __future__ import annotations

from taquba_workflow_sync.storage.port.tally import COUNTERS
from taquba_workflow_sync.storage.relational.rows import Attempt, QueueRow
from taquba_workflow_sync.storage.relational.sql.names import ATTEMPT, META, OVERFLOW, QUEUE, columns, insert

BEGIN = "BEGIN IMMEDIATE"


COMMIT = "COMMIT"


ROLLBACK = "ROLLBACK"


# opening: is there anything of a store?
TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'taquba_%'"


READ_META = f"SELECT value FROM {META} WHERE key = ?"


WRITE_META = f"INSERT OR REPLACE INTO {META} (key, value) VALUES (?, ?)"


DROP_META = f"DELETE FROM {META} WHERE key = ?"


WRITE_NEXT_SEQ = f"UPDATE {META} SET value = ? WHERE key = 'next_seq'"


FIND_QUEUE = f"SELECT {columns(QueueRow)} FROM {QUEUE} WHERE name = ?"


ADD_QUEUE = f"INSERT INTO {QUEUE} (name) VALUES (?)"


QUEUE_OF = f"SELECT {columns(QueueRow)} FROM {QUEUE} WHERE id = ?"


ADD_COUNTS = f"UPDATE {QUEUE} SET {', '.join(f'{each} = {each} + ?' for each in COUNTERS)} WHERE id = ?"


# subscribe, unsubscribe: the lane that is told of a queue's terminated runs
SUBSCRIBE = f"UPDATE {QUEUE} SET subscription = ? WHERE id = ? AND subscription IS NOT ?"


PUT_OVERFLOW = f"INSERT OR REPLACE INTO {OVERFLOW} (key, data) VALUES (?, ?)"


GET_OVERFLOW = f"SELECT data FROM {OVERFLOW} WHERE key = ?"


OVERFLOW_BYTES = f"SELECT ifnull(sum(length(data)), 0) FROM {OVERFLOW} WHERE key BETWEEN ? AND ?"


DROP_OVERFLOW = f"DELETE FROM {OVERFLOW} WHERE key = ?"


DROP_OVERFLOWS = f"DELETE FROM {OVERFLOW} WHERE key BETWEEN ? AND ?"


ADD_ATTEMPT = insert(ATTEMPT, Attempt)


DROP_ATTEMPT = f"DELETE FROM {ATTEMPT} WHERE job = ? AND ordinal = ?"


DROP_ATTEMPTS = f"DELETE FROM {ATTEMPT} WHERE job = ?"
