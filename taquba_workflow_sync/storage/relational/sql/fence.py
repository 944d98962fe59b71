"""The one door out of ``claimed``: every statement that ends a claim is made here, with one predicate.

A statement of :data:`DOOR` changes the row only under the token of its claim, while that holds, and clears all that a
claim is. Its last two values are the row's number and the token; it changes one row, or the claim is lost. Rows that
wait have statements of their own. One row leaves ``claimed`` another way: what is invalid is quarantined whatever its
token, which may be what is invalid of it.
"""

from __future__ import annotations

from typing import Final

from taquba_workflow_sync.storage.relational.belongings import SETTINGS
from taquba_workflow_sync.storage.relational.rows import AdvancedRow, Attempt, Held
from taquba_workflow_sync.storage.relational.sql.names import ATTEMPT, JOB, QUEUE, columns
from taquba_workflow_sync.storage.relational.sql.owner import NUMBER_OF_HOLDER
from taquba_workflow_sync.storage.relational.sql.settings import has_label_alone

_NO_CLAIM: Final = "token = NULL, owner = NULL, lease_until_ms = NULL"
_HOLDS: Final = "seq = ? AND token = ? AND status = 'claimed'"
_HOLD: Final = f"{JOB}.seq = s.seq AND {JOB}.token = s.token AND status = 'claimed'"
_WAITS: Final = "seq = ? AND status IN ('pending', 'scheduled')"
_DUE: Final = "due_clock = ?, due_ms = ?, run_at_ms = ?"
_FINISHED: Final = """status = ?, verdict = ?, result = ?, result_crc = ?, last_error = ?, belongings = ?,
    finished_ms = ?, expires_ms = ?, termination = ?, due_ms = NULL, dedup_key = NULL, parked = 0"""


def _leave(changes: str) -> str:
    return f"UPDATE {JOB} SET {changes}, {_NO_CLAIM} WHERE {_HOLDS}"


# what a settlement is built on: the stored row as it is; whether the claim still holds it, the door tells
READ_HELD = f"SELECT {columns(Held)} FROM {JOB} WHERE seq = ? AND id = ?"


# the same for a cancel, which knows no claim
FIND_HELD = f"SELECT {columns(Held)} FROM {JOB} WHERE id = ?"


# advance: claimed -> pending / scheduled, one step on
ADVANCE = _leave(
    f"""status = ?, {_DUE}, is_retry = 0, step = step + 1, attempts = 0, place = ?, payload = ?, payload_crc = ?,
    headers = ?, headers_crc = ifnull(?, headers_crc), belongings = ?, last_error = NULL"""
)


# advance, in bulk: claimed -> pending, one step on; rows not returned were refused and take the single way
# the history first, from what is stored
_MANY: Final = ("seq", "token", "payload", "payload_crc", "place")
ADVANCE_MANY_VALUES = len(_MANY)
ADVANCE_HISTORY = f"""WITH s ({", ".join(_MANY)}) AS (VALUES {{values}})
    INSERT INTO {ATTEMPT} ({columns(Attempt)})
    SELECT {JOB}.seq, ordinal, step, attempts, claimed_ms, ?, 'continued', NULL, {NUMBER_OF_HOLDER}
    FROM s CROSS JOIN {JOB} WHERE {_HOLD} AND cancel_requested = 0 AND belongings = 0"""
ADVANCE_MANY = f"""WITH s ({", ".join(_MANY)}) AS (VALUES {{values}})
    UPDATE {JOB} SET status = 'pending', step = step + 1, attempts = 0, payload = s.payload,
        payload_crc = s.payload_crc, place = coalesce(s.place, {JOB}.place), run_at_ms = NULL, last_error = NULL,
        {_NO_CLAIM}
    FROM s WHERE {_HOLD} AND cancel_requested = 0 AND belongings = 0
    RETURNING {columns(AdvancedRow, f"{JOB}.")}"""


# hold: claimed -> claimed, one step on, under the next token; the same rows as of the history, which is written first,
# from what is stored
_HELD_ON: Final = ("seq", "token", "payload", "payload_crc", "next_token", "label")
# rows that carry nothing, or a label and nothing else where the next step has one
_AS_PLAIN: Final = f"""{_HOLD} AND cancel_requested = 0 AND (
        (belongings = 0 AND s.label IS NULL)
        OR (belongings = {SETTINGS} AND s.label IS NOT NULL AND {has_label_alone(JOB)}))"""
HOLD_VALUES = len(_HELD_ON)
HOLD_HISTORY = f"""WITH s ({", ".join(_HELD_ON)}) AS (VALUES {{values}})
    INSERT INTO {ATTEMPT} ({columns(Attempt)})
    SELECT {JOB}.seq, ordinal, step, attempts, claimed_ms, ?, 'continued', NULL, {NUMBER_OF_HOLDER}
    FROM s CROSS JOIN {JOB} WHERE {_AS_PLAIN}"""
HOLD = f"""WITH s ({", ".join(_HELD_ON)}) AS (VALUES {{values}})
    UPDATE {JOB} SET step = step + 1, attempts = 1, ordinal = ordinal + 1, payload = s.payload,
        payload_crc = s.payload_crc, token = s.next_token, claimed_ms = ?, run_at_ms = NULL, last_error = NULL
    FROM s WHERE {_AS_PLAIN}
    RETURNING {JOB}.seq, ordinal"""


# ... singly, whatever the row carries
HOLD_ONE = f"""UPDATE {JOB} SET step = step + 1, attempts = 1, ordinal = ordinal + 1, payload = ?, payload_crc = ?,
    belongings = ?, token = ?, claimed_ms = ?, run_at_ms = NULL, last_error = NULL WHERE {_HOLDS}"""


# nack: claimed -> pending / scheduled, place kept
RETRY = _leave(f"status = ?, {_DUE}, is_retry = ?, last_error = ?")


# release: claimed -> pending, at its place, uncharged
RELEASE = _leave("status = 'pending', attempts = attempts - 1, ordinal = ordinal - 1")


# put_back: claimed -> pending / scheduled, place kept, uncharged; the history has the claim
PUT_BACK = _leave(f"status = ?, {_DUE}, is_retry = ?, attempts = attempts - 1")


# reap: claimed -> pending, place and attempts kept
REAP = _leave("status = 'pending', last_error = ?")


# ack, dead_letter, settle_cancelled; reap: claimed -> done / dead / cancelled
FINISH = _leave(_FINISHED)


# ack, in bulk: runs that succeeded, of queues where nobody is told of it; the history first, from what is stored
_ENDED: Final = ("seq", "token", "result", "result_crc")
_UNTOLD: Final = f"""cancel_requested = 0 AND belongings = 0 AND run_id IS NOT NULL
    AND queue IN (SELECT id FROM {QUEUE} WHERE subscription IS NULL)"""
FINISH_MANY_VALUES = len(_ENDED)
FINISH_HISTORY = f"""WITH s ({", ".join(_ENDED)}) AS (VALUES {{values}})
    INSERT INTO {ATTEMPT} ({columns(Attempt)})
    SELECT {JOB}.seq, ordinal, step, attempts, claimed_ms, ?, 'succeeded', NULL, {NUMBER_OF_HOLDER}
    FROM s CROSS JOIN {JOB} WHERE {_HOLD} AND {_UNTOLD}"""
FINISH_MANY = f"""WITH s ({", ".join(_ENDED)}) AS (VALUES {{values}})
    UPDATE {JOB} SET status = 'done', verdict = 'succeeded', result = s.result, result_crc = s.result_crc,
        last_error = NULL, finished_ms = ?, expires_ms = ? + max(ifnull(keep_done_ms, 0), ?),
        termination = termination + 1, due_ms = NULL, dedup_key = NULL, {_NO_CLAIM}
    FROM s WHERE {_HOLD} AND {_UNTOLD}
    RETURNING {JOB}.seq, queue, ordinal"""


# ... or gone, where nothing is kept
DELETE = f"DELETE FROM {JOB} WHERE {_HOLDS}"


DOOR: Final = ("ADVANCE", "ADVANCE_MANY", "RETRY", "PUT_BACK", "RELEASE", "REAP", "FINISH", "FINISH_MANY", "DELETE")


# cancel: pending / scheduled -> cancelled
FINISH_WAITING = f"UPDATE {JOB} SET {_FINISHED} WHERE {_WAITS}"


# ... or gone, where nothing is kept; drop: gone
DELETE_WAITING = f"DELETE FROM {JOB} WHERE {_WAITS}"
