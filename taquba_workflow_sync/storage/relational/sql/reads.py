"""What only reads."""

from __future__ import annotations

from taquba_workflow_sync.storage.port.job import AttemptRow
from taquba_workflow_sync.storage.port.reads import Counts
from taquba_workflow_sync.storage.port.tally import COUNTERS
from taquba_workflow_sync.storage.relational.rows import OwnedClaim
from taquba_workflow_sync.storage.relational.sql.listing import IS_SHOWN, SHOWN
from taquba_workflow_sync.storage.relational.sql.names import ATTEMPT, JOB, QUEUE, columns

_QUEUE = f"(SELECT id FROM {QUEUE} WHERE name = ?)"


HISTORY = f"""SELECT {columns(AttemptRow, "a.")} FROM {ATTEMPT} AS a JOIN {JOB} AS j ON a.job = j.seq
    WHERE j.id = ? ORDER BY a.ordinal"""


GET = f"SELECT {SHOWN} FROM {JOB} AS j JOIN {QUEUE} AS q ON j.queue = q.id WHERE j.id = ?"


FIND_RUN = (
    f"""SELECT {SHOWN} FROM {JOB} AS j INDEXED BY taquba_job_active_run JOIN {QUEUE} AS q ON j.queue = q.id
        WHERE j.queue = {_QUEUE} AND j.run_id = ? AND j.finished_ms IS NULL {IS_SHOWN}""",
    f"""SELECT {SHOWN} FROM {JOB} AS j INDEXED BY taquba_job_run CROSS JOIN {QUEUE} AS q ON j.queue = q.id
        WHERE j.queue = {_QUEUE} AND j.run_id = ? AND j.finished_ms IS NOT NULL ORDER BY j.seq DESC LIMIT 1""",
)


# which of some jobs go on
GOING_ON = f"SELECT id FROM {JOB} WHERE id IN ({{ids}}) AND finished_ms IS NULL"


COUNTS = f"SELECT name, {columns(Counts)} FROM {QUEUE} ORDER BY name"


# how many runs of a queue stand where
COUNTERS_OF = f"SELECT {', '.join(COUNTERS)} FROM {QUEUE} WHERE name = ?"


IS_PENDING = f"""SELECT 1 FROM {JOB} INDEXED BY taquba_job_pending WHERE status = 'pending' AND parked = 0
    AND queue = {_QUEUE} LIMIT 1"""


NEXT_DUE = f"""SELECT min(due_ms) FROM {JOB} INDEXED BY taquba_job_due WHERE due_ms IS NOT NULL
    AND queue = {_QUEUE} AND due_clock = ?"""


NEXT_RETRY = f"""SELECT min(due_ms) FROM {JOB} INDEXED BY taquba_job_due WHERE due_ms IS NOT NULL AND is_retry = 1
    AND queue = {_QUEUE} AND due_clock = ?"""


NEXT_BARE_EXPIRY = f"""SELECT min(lease_until_ms) FROM {JOB} INDEXED BY taquba_job_claimed
    WHERE owner = '' AND lease_until_ms IS NOT NULL AND queue = {_QUEUE}"""


RUNNING_HERE = f"""SELECT {columns(OwnedClaim)} FROM {JOB} INDEXED BY taquba_job_claimed
    WHERE owner = ? AND lease_until_ms IS NOT NULL"""


RUNNING_ELSEWHERE = f"""SELECT {columns(OwnedClaim)} FROM {JOB} INDEXED BY taquba_job_claimed
    WHERE owner > '' AND lease_until_ms IS NOT NULL AND owner <> ?"""
