"""What steps were given beside their attempts and priority, which every row has."""

from __future__ import annotations

from typing import Final

from taquba_workflow_sync.storage.relational.sql.names import JOB, number, table

SETTINGS: Final = table("settings")


SCHEMA_OF_SETTINGS: Final = (
    # The current step's, then what the run has for each step that says nothing else.
    f"""CREATE TABLE IF NOT EXISTS {SETTINGS} (
        job INTEGER PRIMARY KEY REFERENCES {JOB} (seq),
        label BLOB,
        backoff_base_ms INTEGER,
        backoff_most_ms INTEGER,
        step_timeout_ms INTEGER,
        run_max_attempts INTEGER NOT NULL,
        run_priority INTEGER NOT NULL,
        run_backoff_base_ms INTEGER,
        run_backoff_most_ms INTEGER,
        run_step_timeout_ms INTEGER
    )""",
)


# enqueue, advance: what a step was given
PUT_SETTINGS = f"INSERT OR REPLACE INTO {SETTINGS} VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


DROP_SETTINGS = f"DELETE FROM {SETTINGS} WHERE job = ?"


# claim, and whoever looks: what the current step was given; what is no number is none
FIND_SETTINGS = f"""SELECT CAST(label AS BLOB), {number("backoff_base_ms")}, {number("backoff_most_ms")},
    {number("step_timeout_ms")} FROM {SETTINGS} WHERE job = ?"""


# advance: what the next step has if it says nothing
FIND_DEFAULTS = f"""SELECT {number("run_max_attempts")}, {number("run_priority")}, {number("run_backoff_base_ms")},
    {number("run_backoff_most_ms")}, {number("run_step_timeout_ms")} FROM {SETTINGS} WHERE job = ?"""


def has_label_alone(job: str) -> str:
    """Return the condition that a row's step has nothing of its own beside its label, and no timeout."""
    return f"""EXISTS (SELECT 1 FROM {SETTINGS} AS g WHERE g.job = {job}.seq
        AND g.run_max_attempts = {job}.max_attempts AND g.run_priority = {job}.priority
        AND g.backoff_base_ms IS g.run_backoff_base_ms AND g.backoff_most_ms IS g.run_backoff_most_ms
        AND g.step_timeout_ms IS NULL AND g.run_step_timeout_ms IS NULL)"""


# hold
MAY_BE_RENAMED = f"SELECT 1 FROM {JOB} WHERE seq = ? AND {has_label_alone(JOB)}"


# hold: what the next step is called
RENAME = f"UPDATE {SETTINGS} SET label = ? WHERE job = ?"


# ... of several; one that is called the same already is left alone
RENAME_VALUES = 2
RENAME_MANY = f"""WITH s (seq, label) AS (VALUES {{values}})
    UPDATE {SETTINGS} SET label = s.label FROM s WHERE job = s.seq AND {SETTINGS}.label IS NOT s.label"""


# advance: the next step's attempts and priority; no claim is ended by it
SET_STEP = f"UPDATE {JOB} SET max_attempts = ?, priority = ? WHERE seq = ?"
