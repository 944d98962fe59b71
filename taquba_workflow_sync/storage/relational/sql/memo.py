"""The memos of steps and runs.

An entry's number is its memo's, times :data:`ROOM`, and its place in it: entries lie in the order they were written,
and the last one says how many there are and how large they are together: a put writes an entry and nothing else.
"""

from __future__ import annotations

from typing import Final

from taquba_workflow_sync.storage.relational.sql.names import JOB, table

MEMO_SCOPE: Final = table("memo_scope")
MEMO: Final = table("memo")
#: How many numbers a memo has for its entries; more than it may have entries.
ROOM: Final = 1 << 14


SCHEMA_OF_MEMO: Final = (
    # One memo: the current step's (kind 0) or the run's (kind 1). Its number is the store's next and never used again,
    # so what is discarded under it is nobody else's.
    f"""CREATE TABLE IF NOT EXISTS {MEMO_SCOPE} (
        id INTEGER PRIMARY KEY,
        job INTEGER NOT NULL REFERENCES {JOB} (seq),
        kind INTEGER NOT NULL,
        step INTEGER NOT NULL,
        CHECK (kind IN (0, 1)),
        UNIQUE (job, kind)
    )""",
    # ``bytes``: of all entries up to this one. The memo may be gone: what was discarded goes in pieces.
    f"""CREATE TABLE IF NOT EXISTS {MEMO} (
        id INTEGER PRIMARY KEY,
        scope INTEGER NOT NULL,
        key BLOB NOT NULL,
        value BLOB NOT NULL,
        crc INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        UNIQUE (scope, key)
    )""",
)

_ENTRIES: Final = f"id > ? * {ROOM} AND id < (? + 1) * {ROOM}"


# what a claim may write a memo for: the row, while the token holds, which only a claimed row has
FENCED_MEMO = f"SELECT belongings, step FROM {JOB} WHERE seq = ? AND id = ? AND token = ?"


# the memos of a job
FIND_SCOPES = f"SELECT kind, id FROM {MEMO_SCOPE} WHERE job = ?"


# its numbers alone: whatever else stands there, it can be discarded
SCOPES_OF_JOB = f"SELECT id FROM {MEMO_SCOPE} WHERE job = ?"


SCOPE_OF_STEP = f"SELECT id FROM {MEMO_SCOPE} WHERE job = ? AND kind = 0"


ADD_SCOPE = f"INSERT INTO {MEMO_SCOPE} (id, job, kind, step) VALUES (?, ?, ?, ?)"


DROP_SCOPE = f"DELETE FROM {MEMO_SCOPE} WHERE id = ?"


# how much a memo has: the number of its last entry, and the bytes of all
LAST_MEMO = f"SELECT id, bytes FROM {MEMO} WHERE {_ENTRIES} ORDER BY id DESC LIMIT 1"


GET_MEMO = f"SELECT value, crc FROM {MEMO} WHERE scope = ? AND key = ?"


# memo: written once, and only while the token holds and the row has no belongings that it was not known to have
PUT_MEMO = f"""INSERT OR IGNORE INTO {MEMO} (id, scope, key, value, crc, bytes)
    SELECT ?, ?, ?, ?, ?, ? FROM {JOB} WHERE seq = ? AND id = ? AND token = ? AND belongings & ? = 0"""


OWN_BELONGINGS = f"UPDATE {JOB} SET belongings = belongings | ? WHERE seq = ?"


MEMO_KEYS = f"SELECT key FROM {MEMO} WHERE {_ENTRIES} ORDER BY id"


# one page of a memo, in the order of writing
MEMO_PAGE = f"SELECT id, key, value, crc FROM {MEMO} WHERE {_ENTRIES} AND id > ? ORDER BY id LIMIT ?"


# a memo by the id of its job
FIND_SCOPE_OF = f"""SELECT m.id, m.step FROM {JOB} AS j JOIN {MEMO_SCOPE} AS m ON m.job = j.seq
    WHERE j.id = ? AND m.kind = ?"""


# what was discarded, with the size of each
DISCARDED_MEMO = f"SELECT id, ifnull(length(value), 0) FROM {MEMO} WHERE scope = ? LIMIT ?"


DROP_MEMO = f"DELETE FROM {MEMO} WHERE id = ?"
