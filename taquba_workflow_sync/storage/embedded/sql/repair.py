"""What looks at whole rows, to tell the invalid ones, and what sets them aside."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from taquba_workflow_sync.storage.embedded.columns import COLUMNS
from taquba_workflow_sync.storage.embedded.sql.names import ATTEMPT, JOB, OVERFLOW, QUEUE
from taquba_workflow_sync.storage.port.reads import Counts

_ROW: Final = f"SELECT {', '.join(COLUMNS)} FROM {JOB}"


ALL_QUEUES = f"SELECT id FROM {QUEUE}"


READ_QUEUE = f"SELECT name, subscription, {', '.join(Counts._fields)} FROM {QUEUE} WHERE id = ?"


COUNT_ROWS = f"SELECT status, count(*) FROM {JOB} NOT INDEXED WHERE queue = ? GROUP BY status"


SET_COUNTS = f"UPDATE {QUEUE} SET {', '.join(f'{each} = ?' for each in Counts._fields)} WHERE id = ?"


FORGET_SUBSCRIPTION = f"UPDATE {QUEUE} SET subscription = NULL WHERE id = ?"


LEAST_NEXT_SEQ = f"SELECT ifnull(max(seq), 0) + 1 FROM {JOB} WHERE seq <= ?"


# every row of a queue that a claim, a settlement or a promotion could meet; the last two values of the first are bounds
IN_REACH: Final = (
    f"""{_ROW} INDEXED BY taquba_job_pending WHERE queue = ? AND status = 'pending' ORDER BY priority, place LIMIT ?""",
    f"""{_ROW} INDEXED BY taquba_job_pending WHERE queue = ? AND status = 'pending' AND priority >= '' LIMIT ?""",
    f"""{_ROW} INDEXED BY taquba_job_due WHERE queue = ? AND due_ms IS NOT NULL AND due_clock <= 0
        ORDER BY due_clock, due_ms LIMIT ?""",
    f"""{_ROW} INDEXED BY taquba_job_due WHERE queue = ? AND due_ms IS NOT NULL AND due_clock = 1
        ORDER BY due_ms LIMIT ?""",
    f"{_ROW} INDEXED BY taquba_job_claimed WHERE lease_until_ms IS NOT NULL AND queue = ? LIMIT ?",
)


DROP_STRANGE_ATTEMPTS = f"DELETE FROM {ATTEMPT} WHERE job = ? AND (typeof(ordinal) <> 'integer' OR ordinal > ?)"


LAST_ORDINAL = f"SELECT max(ordinal) FROM {ATTEMPT} WHERE job = ?"


SET_ORDINAL = f"UPDATE {JOB} SET ordinal = ? WHERE seq = ?"


# a finished row whose status or overflow would keep a sweep from it
DELETE_EXPIRED = f"DELETE FROM {JOB} WHERE seq = ? AND expires_ms IS NOT NULL"


def quarantine(columns: Iterable[str]) -> str:
    """Return the statement that rewrites an invalid row; whatever token it has, since that may be what is invalid."""
    return f"UPDATE {JOB} SET {', '.join(f'{column} = ?' for column in columns)} WHERE seq = ?"


PAST_RETENTION: Final = "past its retention"


# the numbers of the rows that transitions meet, told by an index alone
LINES: Final = (
    ("pending", f"SELECT seq FROM {JOB} INDEXED BY taquba_job_pending WHERE status = 'pending' LIMIT ?"),
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
