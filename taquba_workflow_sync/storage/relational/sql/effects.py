"""How often the effects of a step were refused, in a row; what effects write is in the tables of what they write."""

from __future__ import annotations

from typing import Final

from taquba_workflow_sync.storage.relational.belongings import Belonging
from taquba_workflow_sync.storage.relational.sql.names import JOB, table

REFUSAL: Final = table("refusal")


SCHEMA_OF_EFFECTS: Final = (
    f"""CREATE TABLE IF NOT EXISTS {REFUSAL} (
        job INTEGER PRIMARY KEY REFERENCES {JOB} (seq),
        refusals INTEGER NOT NULL
    )""",
)


# a number, whatever a damaged row holds
REFUSALS_OF = f"SELECT ifnull(CAST(refusals AS INTEGER), 0) FROM {REFUSAL} WHERE job = ?"


COUNT_REFUSAL = f"INSERT OR REPLACE INTO {REFUSAL} (job, refusals) VALUES (?, ?)"


DROP_REFUSALS = f"DELETE FROM {REFUSAL} WHERE job = ?"


# nack: what is refused next is the first in a row again
FORGET_REFUSALS = f"UPDATE {JOB} SET belongings = belongings & ~{int(Belonging.REFUSED)} WHERE seq = ?"
