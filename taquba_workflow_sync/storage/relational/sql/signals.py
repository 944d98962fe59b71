"""Signals: what was sent to runs, which ids are remembered, and what a row waits for."""

from __future__ import annotations

from typing import Final

from taquba_workflow_sync.storage.relational.rows import AddressedRow
from taquba_workflow_sync.storage.relational.sql.names import JOB, columns, table

SIGNAL: Final = table("signal")
SIGNAL_ID: Final = table("signal_id")
MAILBOX: Final = table("mailbox")
WAIT: Final = table("wait")


SCHEMA_OF_SIGNALS: Final = (
    # What a run has not used up. Numbers are the store's next, so that their order is that of sending.
    f"""CREATE TABLE IF NOT EXISTS {SIGNAL} (
        id INTEGER PRIMARY KEY,
        job INTEGER NOT NULL,
        name TEXT NOT NULL,
        signal_id TEXT,
        payload BLOB NOT NULL,
        crc INTEGER NOT NULL,
        sent_ms INTEGER NOT NULL
    )""",
    f"CREATE INDEX IF NOT EXISTS taquba_signal_name ON {SIGNAL} (job, name)",
    # The ids that a row remembers, of signals that were used up as well. The row of either may be gone: what was
    # discarded goes in pieces.
    f"""CREATE TABLE IF NOT EXISTS {SIGNAL_ID} (
        id INTEGER PRIMARY KEY,
        job INTEGER NOT NULL,
        signal_id TEXT NOT NULL,
        UNIQUE (job, signal_id)
    )""",
    f"CREATE INDEX IF NOT EXISTS taquba_signal_id_job ON {SIGNAL_ID} (job)",
    # How much of both a row has.
    f"""CREATE TABLE IF NOT EXISTS {MAILBOX} (
        job INTEGER PRIMARY KEY,
        signals INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        ids INTEGER NOT NULL
    )""",
    # What the current step of a row waits for, or waited for. ``ordinal`` is that of the claim that fixed how the wait
    # ended, NULL while it is open; ``signal`` the number of the signal that it ended with, or that was delivered.
    f"""CREATE TABLE IF NOT EXISTS {WAIT} (
        job INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        timeout_ms INTEGER,
        ordinal INTEGER,
        signal INTEGER,
        crc INTEGER NOT NULL
    )""",
)


# send: the row that is meant, the active one or else the newest
ADDRESS_ACTIVE = f"""SELECT {columns(AddressedRow)} FROM {JOB}
    WHERE queue = ? AND run_id = ? AND finished_ms IS NULL"""


ADDRESS_LAST = f"""SELECT {columns(AddressedRow)} FROM {JOB}
    WHERE queue = ? AND run_id = ? ORDER BY seq DESC LIMIT 1"""


# ... and by its id, where the name was looked up before
ADDRESS_JOB = f"SELECT {columns(AddressedRow)} FROM {JOB} WHERE id = ?"


IS_ID_KNOWN = f"SELECT 1 FROM {SIGNAL_ID} WHERE job = ? AND signal_id = ?"


ADD_SIGNAL = f"INSERT INTO {SIGNAL} (id, job, name, signal_id, payload, crc, sent_ms) VALUES (?, ?, ?, ?, ?, ?, ?)"


ADD_SIGNAL_ID = f"INSERT INTO {SIGNAL_ID} (job, signal_id) VALUES (?, ?)"


# the oldest of the remembered ids goes
DROP_OLDEST_ID = f"DELETE FROM {SIGNAL_ID} WHERE id = (SELECT min(id) FROM {SIGNAL_ID} WHERE job = ?)"


# numbers, whatever a damaged row holds
FIND_MAILBOX = f"""SELECT {", ".join(f"ifnull(CAST({each} AS INTEGER), 0)" for each in ("signals", "bytes", "ids"))}
    FROM {MAILBOX} WHERE job = ?"""


# is anything left, whatever is counted?
ANY_SIGNAL = f"SELECT 1 FROM {SIGNAL} WHERE job = ? LIMIT 1"


ANY_SIGNAL_ID = f"SELECT 1 FROM {SIGNAL_ID} WHERE job = ? LIMIT 1"


PUT_MAILBOX = f"INSERT OR REPLACE INTO {MAILBOX} (job, signals, bytes, ids) VALUES (?, ?, ?, ?)"


DROP_MAILBOX = f"DELETE FROM {MAILBOX} WHERE job = ?"


# the first of a name, and the next after a given one
FIRST_SIGNAL = f"SELECT id FROM {SIGNAL} WHERE job = ? AND name = ? AND id > ? ORDER BY id LIMIT 1"


# bytes and numbers, whatever a damaged row holds: a claim that meets it must be able to tell
_SHOWN: Final = """CAST({0}name AS BLOB), CAST({0}payload AS BLOB), CAST({0}sent_ms AS INTEGER),
    CAST({0}signal_id AS BLOB), CAST({0}crc AS INTEGER)"""
GET_SIGNAL = f"SELECT {_SHOWN.format('')} FROM {SIGNAL} WHERE id = ? AND job = ?"


SIZE_OF_SIGNAL = f"""SELECT ifnull(length(CAST(name AS BLOB)), 0) + ifnull(length(payload), 0) FROM {SIGNAL}
    WHERE id = ? AND job = ?"""


DROP_SIGNAL = f"DELETE FROM {SIGNAL} WHERE id = ?"


# clear: some of a name, up to one, but for the received one; their sizes are counted before they go
SIGNALS_OF_NAME = f"""SELECT id, ifnull(length(CAST(name AS BLOB)), 0) + ifnull(length(payload), 0) FROM {SIGNAL}
    WHERE job = ? AND name = ? AND id <= ? AND id <> ? ORDER BY id LIMIT ?"""


LAST_SIGNAL = f"SELECT max(id) FROM {SIGNAL} WHERE job = ? AND name = ?"


# deliver, wake: scheduled -> pending, at its place in line
WAKE = f"UPDATE {JOB} SET status = 'pending', due_ms = NULL WHERE seq = ? AND status = 'scheduled'"


# bytes and numbers, whatever a damaged row holds
FIND_WAIT = f"""SELECT CAST(kind AS BLOB), CAST(name AS BLOB), CAST(timeout_ms AS INTEGER), CAST(ordinal AS INTEGER),
    CAST(signal AS INTEGER), CAST(crc AS INTEGER) FROM {WAIT} WHERE job = ?"""


# begin, deliver; claim and release, which fix how it ended and open it again
PUT_WAIT = f"""INSERT OR REPLACE INTO {WAIT} (job, kind, name, timeout_ms, ordinal, signal, crc)
    VALUES (?, ?, ?, ?, ?, ?, ?)"""


# which claim of a row is the one that was made last
ORDINAL_OF = f"SELECT ordinal FROM {JOB} WHERE seq = ?"


# wait_again: what ended while it waited, and was put in line just now -> scheduled
WAIT_AGAIN = f"""UPDATE {JOB} SET status = 'scheduled', due_clock = ?, due_ms = ?, run_at_ms = ?
    WHERE seq = ? AND status = 'pending'"""


DROP_WAIT = f"DELETE FROM {WAIT} WHERE job = ?"


DISOWN_BELONGINGS = f"UPDATE {JOB} SET belongings = belongings & ~? WHERE seq = ?"


# what a job has not used up, the oldest first
SIGNALS_OF = f"""SELECT s.job, {_SHOWN.format("s.")} FROM {JOB} AS j JOIN {SIGNAL} AS s ON s.job = j.seq
    WHERE j.id = ? ORDER BY s.id"""


# what was discarded goes, the largest pieces first to be counted
DISCARDED_SIGNALS = f"""SELECT id, ifnull(length(payload), 0) FROM {SIGNAL} INDEXED BY taquba_signal_name
    WHERE job = ? LIMIT ?"""


DISCARDED_IDS = f"SELECT id, 0 FROM {SIGNAL_ID} INDEXED BY taquba_signal_id_job WHERE job = ? LIMIT ?"


DROP_SIGNAL_ID = f"DELETE FROM {SIGNAL_ID} WHERE id = ?"
