"""Who works, and what each holds."""

from __future__ import annotations

from typing import Final

from taquba_workflow_sync.storage.relational.rows import ClaimRow
from taquba_workflow_sync.storage.relational.sql.names import JOB, QUEUE, number
from taquba_workflow_sync.storage.relational.sql.owner import OWNER
from taquba_workflow_sync.storage.relational.sql.settings import SETTINGS

_CLAIMED: Final = f"{JOB} INDEXED BY taquba_job_claimed WHERE lease_until_ms IS NOT NULL AND owner"
_COLUMNS: Final = ", ".join("q.name" if each == "queue_name" else f"j.{each}" for each in ClaimRow._fields)


# of each owner the claim whose lease ends first, then of each the second, and so on; of bare ones, which may be very
# many, no more are numbered than are shown
CLAIMS_IN_TURNS = f"""SELECT {_COLUMNS}, CAST(g.label AS BLOB), {number("g.step_timeout_ms")}
    FROM (SELECT seq FROM (
            SELECT seq, owner, row_number() OVER (PARTITION BY owner ORDER BY lease_until_ms) AS turn
                FROM {_CLAIMED} > ''
            UNION ALL
            SELECT seq, owner, row_number() OVER (ORDER BY lease_until_ms) AS turn FROM (
                SELECT seq, owner, lease_until_ms FROM {_CLAIMED} = '' ORDER BY lease_until_ms LIMIT ?) AS bare
        ) AS ranked ORDER BY turn, owner LIMIT ?) AS shown
    JOIN {JOB} AS j ON j.seq = shown.seq JOIN {QUEUE} AS q ON q.id = j.queue
    LEFT JOIN {SETTINGS} AS g ON g.job = j.seq"""


# the processes of those who have enrolled, of some owners
ENROLLED = f"SELECT o.name, o.host, o.pid FROM json_each(?) AS wanted JOIN {OWNER} AS o ON o.name = wanted.value"
