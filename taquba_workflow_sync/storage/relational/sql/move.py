"""A move of the store: what is noted of it, and where its tables are meanwhile.

While a store is copied, and once it was, its tables have other names: a statement of whoever has it open finds none,
and it is looked here why. So nothing is asked in any transaction of a store that is not moved.
"""

from __future__ import annotations

from typing import Final

from taquba_workflow_sync.storage.relational.sql.names import JOB, QUEUE
from taquba_workflow_sync.storage.relational.sql.owner import OWNER

MOVE: Final = "workflow_move"

# ``id``: of the move, the same in both stores. ``other``: the other one's address, without a password.
MAKE_MOVE = f"""CREATE TABLE IF NOT EXISTS {MOVE} (one INTEGER PRIMARY KEY CHECK (one = 1), id TEXT NOT NULL,
    state TEXT NOT NULL, other TEXT NOT NULL)"""


HAS_MOVE = f"SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '{MOVE}'"


FORGET_MOVE = f"DELETE FROM {MOVE}"


NOTE_MOVE = f"INSERT INTO {MOVE} (one, id, state, other) VALUES (1, ?, ?, ?)"


MOVE_STATE = f"UPDATE {MOVE} SET state = ?"


GET_MOVE = f"SELECT id, state, other FROM {MOVE}"


DROP_MOVE = f"DROP TABLE IF EXISTS {MOVE}"


# drain: nothing more is claimed, from queues that are new, too
HOLD_QUEUES = f"UPDATE {QUEUE} SET paused = CASE WHEN paused = 1 THEN 3 ELSE 2 END WHERE paused NOT IN (2, 3)"


LET_QUEUES_GO = f"UPDATE {QUEUE} SET paused = paused - 2 WHERE paused IN (2, 3)"


# drain: who still runs
HELD_CLAIMS = f"""SELECT j.id, j.run_id, q.name, o.host, o.pid FROM {JOB} AS j INDEXED BY taquba_job_claimed
    JOIN {QUEUE} AS q ON q.id = j.queue LEFT JOIN {OWNER} AS o ON o.name = j.owner
    WHERE j.lease_until_ms IS NOT NULL ORDER BY j.owner, j.lease_until_ms LIMIT ?"""
