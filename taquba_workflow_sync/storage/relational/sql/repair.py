"""What looks at whole rows, to tell the invalid ones, and what sets them aside."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from taquba_workflow_sync.storage.port.tally import COUNTERS
from taquba_workflow_sync.storage.relational.belongings import Belonging
from taquba_workflow_sync.storage.relational.columns import COLUMNS
from taquba_workflow_sync.storage.relational.sql.limit import LIMIT
from taquba_workflow_sync.storage.relational.sql.memo import MEMO_SCOPE
from taquba_workflow_sync.storage.relational.sql.names import ATTEMPT, GROUP, JOB, MEMBER, OVERFLOW, QUEUE
from taquba_workflow_sync.storage.relational.sql.signals import SIGNAL
from taquba_workflow_sync.storage.relational.sql.timing import TIMING

#: Of a queue: whether it is paused and limited; how many of its rows are timed and parked, and of its groups at work.
FLAGS: Final = ("paused", "limited", "timed", "parked", "groups")
_ROW: Final = f"SELECT {', '.join(COLUMNS)} FROM {JOB}"


NEWEST_ROW_MS = f"SELECT enqueued_ms FROM {JOB} ORDER BY seq DESC LIMIT 1"


ALL_QUEUES = f"SELECT id FROM {QUEUE}"


READ_QUEUE = f"SELECT name, subscription, {', '.join(COUNTERS)} FROM {QUEUE} WHERE id = ?"


# by status; whether they are runs, were asked to stop, and have succeeded; members of groups that are not open are
# counted nowhere
COUNT_ROWS = f"""SELECT status, run_id IS NOT NULL, cancel_requested IS NOT 0, verdict IS 'succeeded', count(*)
    FROM {JOB} NOT INDEXED WHERE queue = ? AND NOT (parked = 2 AND status = 'pending' AND seq IN
        (SELECT m.job FROM {GROUP} AS g JOIN {MEMBER} AS m ON m.grp = g.id WHERE g.state <> 1)) GROUP BY 1, 2, 3, 4"""


# what of a queue needs more than a look at its line, as numbers
READ_FLAGS = (
    f"SELECT {', '.join(f'CAST({each} AS INTEGER), typeof({each})' for each in FLAGS)} FROM {QUEUE} WHERE id = ?"
)


# what of that can be told by what else is stored: limits, active rows with an end, those in no line, groups at work
RIGHT_FLAGS = f"""SELECT EXISTS (SELECT 1 FROM {LIMIT} WHERE queue = q.id),
    (SELECT count(*) FROM {JOB} AS j NOT INDEXED WHERE j.queue = q.id AND j.finished_ms IS NULL
        AND (j.belongings & {Belonging.TIMING:d} OR EXISTS (SELECT 1 FROM {TIMING} WHERE job = j.seq))),
    (SELECT count(*) FROM {JOB} NOT INDEXED WHERE queue = q.id AND status = 'pending' AND parked NOT IN (0, 2)),
    (SELECT count(*) FROM {GROUP} INDEXED BY taquba_group_work WHERE queue = q.id AND work > 0)
    FROM {QUEUE} AS q WHERE q.id = ?"""


HAS_TIMING = f"SELECT 1 FROM {TIMING} WHERE job = ?"


SET_FLAGS = f"UPDATE {QUEUE} SET {', '.join(f'{each} = ?' for each in FLAGS)} WHERE id = ?"


SET_COUNTS = f"UPDATE {QUEUE} SET {', '.join(f'{each} = ?' for each in COUNTERS)} WHERE id = ?"


FORGET_SUBSCRIPTION = f"UPDATE {QUEUE} SET subscription = NULL WHERE id = ?"


# past every number that the counter has given to a row of one of these tables
LEAST_NEXT_SEQ = f"""SELECT 1 + max({
    ", ".join(
        f"ifnull((SELECT max({key}) FROM {table} WHERE {key} <= most), 0)"
        for table, key in ((JOB, "seq"), (MEMO_SCOPE, "id"), (SIGNAL, "id"), (GROUP, "id"))
    )
}) FROM (SELECT ? AS most)"""


# every row of a queue that a claim, a settlement or a promotion could meet; the last two values of the first are bounds
IN_REACH: Final = (
    f"""{_ROW} INDEXED BY taquba_job_pending WHERE queue = ? AND status = 'pending' AND parked = 0
        ORDER BY rank, place LIMIT ?""",
    f"""{_ROW} INDEXED BY taquba_job_pending WHERE queue = ? AND status = 'pending' AND parked = 0
        AND rank >= '' LIMIT ?""",
    f"""{_ROW} INDEXED BY taquba_job_due WHERE queue = ? AND due_ms IS NOT NULL AND due_clock <= 0
        ORDER BY due_clock, due_ms LIMIT ?""",
    f"""{_ROW} INDEXED BY taquba_job_due WHERE queue = ? AND due_ms IS NOT NULL AND due_clock = 1
        ORDER BY due_ms LIMIT ?""",
    f"{_ROW} INDEXED BY taquba_job_claimed WHERE lease_until_ms IS NOT NULL AND queue = ? LIMIT ?",
    # members that are to enter the line, or to be cancelled
    f"""{_ROW} WHERE seq IN (SELECT m.job FROM {GROUP} AS g INDEXED BY taquba_group_work JOIN {MEMBER} AS m
        ON m.grp = g.id AND m.position >= CASE WHEN g.cancel_requested THEN g.stopped ELSE g.released END
        WHERE g.queue = ? AND g.work > 0 ORDER BY g.id, m.position LIMIT ?)""",
)


DROP_STRANGE_ATTEMPTS = f"DELETE FROM {ATTEMPT} WHERE job = ? AND (typeof(ordinal) <> 'integer' OR ordinal > ?)"


LAST_ORDINAL = f"SELECT max(ordinal) FROM {ATTEMPT} WHERE job = ?"


SET_ORDINAL = f"UPDATE {JOB} SET ordinal = ? WHERE seq = ?"


# a finished row whose status or belongings would keep a sweep from it
DELETE_EXPIRED = f"DELETE FROM {JOB} WHERE seq = ? AND expires_ms IS NOT NULL"


def quarantine(columns: Iterable[str]) -> str:
    """Return the statement that rewrites an invalid row; whatever token it has, since that may be what is invalid."""
    return f"UPDATE {JOB} SET {', '.join(f'{column} = ?' for column in columns)} WHERE seq = ?"


PAST_RETENTION: Final = "past its retention"


# the numbers of the rows that transitions meet, told by an index alone
LINES: Final = (
    ("pending", f"SELECT seq FROM {JOB} INDEXED BY taquba_job_pending WHERE status = 'pending' AND parked = 0 LIMIT ?"),
    ("scheduled", f"SELECT seq FROM {JOB} INDEXED BY taquba_job_due WHERE due_ms IS NOT NULL LIMIT ?"),
    ("claimed", f"SELECT seq FROM {JOB} INDEXED BY taquba_job_claimed WHERE lease_until_ms IS NOT NULL LIMIT ?"),
    (PAST_RETENTION, f"SELECT seq FROM {JOB} INDEXED BY taquba_job_expiry WHERE expires_ms IS NOT NULL LIMIT ?"),
)


# what a row's job is called, by an index alone: the row may not be readable
ID_OF = f"SELECT id FROM {JOB} INDEXED BY sqlite_autoindex_{JOB}_1 WHERE +seq = ?"


# can a row be read, and what belongs to it?
WHOLE_ROW = f"{_ROW} WHERE seq = ?"


WHOLE_HISTORY = f"SELECT * FROM {ATTEMPT} WHERE job = ?"


WHOLE_OVERFLOW = f"SELECT data FROM {OVERFLOW} WHERE key BETWEEN ? AND ?"
