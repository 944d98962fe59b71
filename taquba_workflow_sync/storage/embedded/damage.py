"""Damaged rows: found by what a column may hold, read with that said of them, and buried as dead letters.

A hand, a disk or another program can put anything into the file. One such row must never keep others from being
claimed, settled, listed or swept, and must never be run with guessed data. On the path of a sound row is only the look
at what it holds; mending happens when a transition has failed.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable
from dataclasses import fields
from typing import Any, Final

from taquba_workflow_sync.clock import FIRST_MS, LAST_MS
from taquba_workflow_sync.storage.decisions import clip_error, row_life_ms
from taquba_workflow_sync.storage.embedded import sql
from taquba_workflow_sync.storage.embedded.settling import Held, notify
from taquba_workflow_sync.storage.embedded.transaction import Part, Transaction
from taquba_workflow_sync.storage.records import AttemptOutcome, JobStatus, Observer, Verdict

_MANY: Final = 2**53
_ROWS_AT_ONCE: Final = 1000
# A row's parts have the key 4 * seq + kind, which must fit.
_LAST_SEQ: Final = 2**60

#: What a whole number may be, and what stands for one that is none of these.
_INTEGERS: Final[dict[str, tuple[int, int, int]]] = {
    "seq": (1, _LAST_SEQ, 0),
    "priority": (-(2**63), 2**63 - 1, 1000),
    "place": (-(2**63), 2**63 - 1, 0),
    "step": (0, _MANY, 0),
    "attempts": (0, _MANY, 0),
    "max_attempts": (1, _MANY, 1),
    "ordinal": (0, _MANY, 0),
    "cancel_requested": (0, 1, 0),
    "due_clock": (0, 1, 0),
    "enqueued_ms": (FIRST_MS, LAST_MS, 0),
    "termination": (0, _MANY, 0),
    "wide": (0, 7, 0),
}
#: The same for those that may be missing, which is what stands for a bad one.
_OPTIONAL_INTEGERS: Final[dict[str, tuple[int, int]]] = {
    "claimed_ms": (FIRST_MS, LAST_MS),
    "lease_until_ms": (-(2**62), 2**62),
    "lease_ms": (0, 2**62),
    "due_ms": (-(2**62), 2**62),
    "run_at_ms": (FIRST_MS, LAST_MS),
    "finished_ms": (FIRST_MS, LAST_MS),
    "expires_ms": (-(2**62), 2**62),
    "keep_done_ms": (0, 2**62),
    "keep_dead_ms": (0, 2**62),
}
_OPTIONAL_TEXTS: Final = ("token", "dedup_key", "last_error")
# What ids are made of; those of notifications and of their webhooks are longer than what may be given.
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,200}\Z")
_OWNER: Final = re.compile(r"[A-Za-z0-9_-]{0,100}\Z")
_OPTIONAL_BYTES: Final = ("input_hash", "payload", "result")
_COLUMNS: Final = (
    *_INTEGERS, *_OPTIONAL_INTEGERS, *_OPTIONAL_TEXTS, *_OPTIONAL_BYTES, "id", "run_id", "owner", "queue", "status",
    "verdict", "headers",
)  # fmt: skip
_ROW: Final = f"SELECT {', '.join(_COLUMNS)} FROM taquba_job"
_ACTIVE: Final = (JobStatus.PENDING, JobStatus.SCHEDULED, JobStatus.CLAIMED)


class Garbled(bytes):
    """Text that is no UTF-8."""


def tolerant(data: bytes) -> str | Garbled:
    """Decode text as SQLite has it; for ``text_factory`` where a strict read has failed."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return Garbled(data)


def is_garbled(error: BaseException) -> bool:
    """Whether a read failed only because some text is no UTF-8."""
    return isinstance(error, sqlite3.OperationalError) and "decode to UTF-8" in str(error)


# -- reading -----------------------------------------------------------------------------------------------------------


def misfit(column: str, value: object) -> str | None:
    """Return why a column cannot hold a value, or None."""
    if column in _INTEGERS:
        least, most, _ = _INTEGERS[column]
        fits = type(value) is int and least <= value <= most
    elif column in _OPTIONAL_INTEGERS:
        least, most = _OPTIONAL_INTEGERS[column]
        fits = value is None or (type(value) is int and least <= value <= most)
    elif column in _OPTIONAL_TEXTS or column == "headers":
        fits = value is None or type(value) is str
    elif column in _OPTIONAL_BYTES:
        fits = value is None or type(value) is bytes
    elif column in ("id", "run_id", "owner"):
        pattern = _OWNER if column == "owner" else _ID
        fits = (value is None and column != "id") or (type(value) is str and pattern.match(value) is not None)
    elif column == "queue":
        fits = type(value) is str and value != ""
    elif column == "status":
        fits = value in tuple(JobStatus)
    else:
        fits = column != "verdict" or value in (None, *Verdict)
    return None if fits else f"{column} is {value!r:.80}"


def _stand_in(column: str) -> Any:
    if column in _INTEGERS:
        return _INTEGERS[column][2]
    if column in ("id", "queue"):
        return ""
    return JobStatus.DEAD if column == "status" else None


def readable(columns: Iterable[str], values: Iterable[Any]) -> tuple[list[Any], str | None]:
    """Return values that can be shown in place of those that cannot, and what is wrong with the row, if anything."""
    shown = list(values)
    wrong: list[str] = []
    for place, column in enumerate(columns):
        why = misfit(column, shown[place])
        if why is not None:
            wrong.append(why)
            # A run stays a run in listings, whatever its name was.
            shown[place] = f"(damaged) {shown[place]!r:.80}" if column == "run_id" else _stand_in(column)
    return shown, f"the stored row is damaged: {'; '.join(wrong)}" if wrong else None


def readable_attempt(values: tuple[Any, ...]) -> list[Any]:
    """Return an attempt as it can be shown: ordinal, step, attempt, claimed, ended, outcome, error."""
    columns = ("ordinal", "step", "attempts", "enqueued_ms", "enqueued_ms", "", "last_error")
    shown, damage = readable(columns, values)
    if shown[5] not in tuple(AttemptOutcome):
        shown[5], damage = AttemptOutcome.FAILED, damage or f"its outcome was {shown[5]!r:.80}"
    if damage is not None:
        shown[6] = damage
    return shown


def is_sound_claim(fields: list[Any]) -> bool:
    """Whether the columns of a row just claimed, in the order of the claim's statement, can be worked on."""
    place, job_id, _, step, attempts, limit, payload, headers, priority, flag, run_id, enqueued, run_at, error = fields
    return (
        type(payload) is bytes
        and type(headers) is str
        and type(job_id) is str
        and _ID.match(job_id) is not None
        and type(step) is int
        and 0 <= step < _MANY
        and type(attempts) is int
        and type(limit) is int
        and 1 <= attempts <= limit
        and type(priority) is int
        and type(place) is int
        and flag in (0, 1)
        and (run_id is None or (type(run_id) is str and _ID.match(run_id) is not None))
        and type(enqueued) is int
        and FIRST_MS <= enqueued <= LAST_MS
        and (run_at is None or (type(run_at) is int and FIRST_MS <= run_at <= LAST_MS))
        and (error is None or type(error) is str)
    )


# -- mending -----------------------------------------------------------------------------------------------------------


def mend(tx: Transaction) -> list[str]:
    """Put right what keeps transitions from being stored; returns sentences to be logged once that is committed.

    Counters are counted anew, an observer that cannot be read is forgotten (the next runtime with the hook registers it
    again), and each damaged row that a claim, a settlement or a sweep could meet becomes a dead letter that says so.
    """
    tx.flush()
    factory = tx.connection.text_factory
    tx.connection.text_factory = tolerant
    try:
        mended = _mend_meta(tx)
        queues = [row[0] for row in tx.execute("SELECT id FROM taquba_queue").fetchall()]
        for queue in queues:
            mended += _mend_queue(tx, queue)
        tx.forget_queues()
        for queue in queues:
            mended += _bury_damaged(tx, queue)
        return mended + _clear_expired(tx)
    finally:
        tx.connection.text_factory = factory


def _mend_meta(tx: Transaction) -> list[str]:
    row = tx.execute(sql.READ_META, ("next_seq",)).fetchone()
    least = tx.execute("SELECT ifnull(max(seq), 0) + 1 FROM taquba_job WHERE seq <= ?", (_LAST_SEQ,)).fetchone()[0]
    if row is not None and type(row[0]) is int and least <= row[0] <= _LAST_SEQ:
        return []
    tx.execute(sql.WRITE_META, ("next_seq", least))
    return [f"the store's counter of rows was {row!r:.80}, which is below its rows or no number; it is {least} now"]


def _mend_queue(tx: Transaction, queue: int) -> list[str]:
    """Count a queue's rows anew, and forget an observer that cannot be read."""
    name, observer, *counts = tx.execute(
        "SELECT name, observer, pending, scheduled, claimed, dead, done, cancelled FROM taquba_queue WHERE id = ?",
        (queue,),
    ).fetchone()
    found = dict(
        tx.execute("SELECT status, count(*) FROM taquba_job NOT INDEXED WHERE queue = ? GROUP BY status", (queue,))
    )
    right = [found.get(status, 0) for status in (*_ACTIVE, JobStatus.DEAD)]
    for status, count in zip((JobStatus.DONE, JobStatus.CANCELLED), counts[4:], strict=True):
        least = found.get(status, 0)
        right.append(max(count, least) if type(count) is int and count < 2**62 else least)
    mended: list[str] = []
    if right != counts:
        tx.execute(
            """UPDATE taquba_queue SET pending = ?, scheduled = ?, claimed = ?, dead = ?, done = ?, cancelled = ?
                WHERE id = ?""",
            (*right, queue),
        )
        mended.append(
            f"the counters of queue {name!r:.80} did not fit its rows: {counts!r:.200}, counted anew as {right}"
        )
    if observer is not None and not _is_observer(observer):
        tx.execute("UPDATE taquba_queue SET observer = NULL WHERE id = ?", (queue,))
        mended.append(
            f"queue {name!r:.80} lost its registered hook, which was {observer!r:.80}; start a runtime that has it"
        )
    return mended


def _is_observer(text: object) -> bool:
    try:
        observer = json.loads(text)  # type: ignore[arg-type]  # whatever it is, it fails or it fits
    except (TypeError, ValueError, RecursionError):
        return False
    return (
        isinstance(observer, dict)
        and observer.keys() == {each.name for each in fields(Observer)}
        and type(observer["lane"]) is str
        and misfit("max_attempts", observer["max_attempts"]) is None
        and misfit("keep_dead_ms", observer["keep_dead_ms"]) is None
    )


_IN_REACH: Final = (
    f"""{_ROW} INDEXED BY taquba_job_pending WHERE queue = ? AND status = 'pending' ORDER BY priority, place
        LIMIT {_ROWS_AT_ONCE}""",
    f"""{_ROW} INDEXED BY taquba_job_pending WHERE queue = ? AND status = 'pending' AND priority >= ''
        LIMIT {_ROWS_AT_ONCE}""",
    f"""{_ROW} INDEXED BY taquba_job_due WHERE queue = ? AND due_ms IS NOT NULL AND due_clock <= 0
        ORDER BY due_clock, due_ms LIMIT {_ROWS_AT_ONCE}""",
    f"""{_ROW} INDEXED BY taquba_job_due WHERE queue = ? AND due_ms IS NOT NULL AND due_clock = 1
        ORDER BY due_ms LIMIT {_ROWS_AT_ONCE}""",
    f"{_ROW} INDEXED BY taquba_job_claimed WHERE lease_until_ms IS NOT NULL AND queue = ? LIMIT {_ROWS_AT_ONCE}",
)


def _bury_damaged(tx: Transaction, queue: int) -> list[str]:
    mended: list[str] = []
    for statement in _IN_REACH:
        for values in tx.execute(statement, (queue,)).fetchall():
            row = dict(zip(_COLUMNS, values, strict=True))
            row["queue"] = "a queue"  # found by it, so it is there
            why = _why_damaged(tx, row)
            if why is not None:
                job_id = _bury(tx, queue, row, f"the stored row is damaged: {why}")
                mended.append(f"job {job_id} (row {row['seq']}) was made a dead letter: {why}")
            elif _mend_history(tx, row):
                mended.append(f"job {row['id']}: the history of its attempts was damaged and was put right")
    return mended


def _why_damaged(tx: Transaction, row: dict[str, Any]) -> str | None:
    """Return what keeps a row that has not ended from being moved on, or None."""
    wrong = [why for column in _COLUMNS if (why := misfit(column, row[column])) is not None]
    if wrong:
        return "; ".join(wrong)
    status, seq = row["status"], row["seq"]
    is_claimed, is_scheduled = status == JobStatus.CLAIMED, status == JobStatus.SCHEDULED
    for column, wanted in (
        ("token", is_claimed), ("owner", is_claimed), ("lease_until_ms", is_claimed), ("due_ms", is_scheduled),
        ("finished_ms", status not in _ACTIVE),
    ):  # fmt: skip
        if (row[column] is not None) != wanted:
            return f"it is {status} and its {column} is {row[column]!r:.80}"
    if (row["run_id"] is None) != (row["input_hash"] is None):
        return f"its run_id is {row['run_id']!r:.80} and its input_hash is {row['input_hash']!r:.80}"
    if row["attempts"] + (status in (JobStatus.PENDING, JobStatus.SCHEDULED)) > row["max_attempts"]:
        return f"it is {status} after {row['attempts']} of {row['max_attempts']} attempts"
    if is_claimed:
        _, attempt, number = ("..." + row["token"]).rsplit(".", 2)
        if number != str(seq) or not attempt.isdecimal() or row["claimed_ms"] is None or row["lease_ms"] is None:
            return f"its token is {row['token']!r:.80}, claimed at {row['claimed_ms']!r}"
    for kind, column, wanted_type in ((Part.PAYLOAD, "payload", bytes), (Part.HEADERS, "headers", str)):
        data = tx.get_part(seq, kind) if row["wide"] & 1 << kind else row[column]
        if type(data) is not wanted_type:
            return f"its {column} is {data!r:.80}"
    return None


def _mend_history(tx: Transaction, row: dict[str, Any]) -> bool:
    """Have the next attempt of a sound row come after those in its history; whether it would not have."""
    seq, is_claimed = row["seq"], row["status"] == JobStatus.CLAIMED
    strange = tx.execute(
        "DELETE FROM taquba_attempt WHERE job = ? AND (typeof(ordinal) <> 'integer' OR ordinal > ?)", (seq, _MANY)
    ).rowcount
    last = tx.execute("SELECT ifnull(max(ordinal), 0) FROM taquba_attempt WHERE job = ?", (seq,)).fetchone()[0]
    is_behind: bool = last > row["ordinal"] - is_claimed
    if is_behind:
        tx.execute("UPDATE taquba_job SET ordinal = ? WHERE seq = ?", (last + is_claimed, seq))
    return bool(strange) or is_behind


def _bury(tx: Transaction, queue: int, row: dict[str, Any], why: str) -> str:
    """Make a damaged row a dead letter that keeps what is sound; a run's hook is told. Returns the job's id."""
    status = row["status"]
    seq = row["seq"]
    sound = dict(zip(_COLUMNS, readable(_COLUMNS, row.values())[0], strict=True))
    is_run = row["run_id"] is not None and misfit("run_id", row["run_id"]) is None and sound["input_hash"] is not None
    job_id = sound["id"] or f"damaged-{seq}"
    wide = 0
    for kind, wanted in ((Part.PAYLOAD, bytes), (Part.HEADERS, str)):
        if sound["seq"] and sound["wide"] & 1 << kind and type(tx.get_part(seq, kind)) is wanted:
            wide |= 1 << kind
    life = row_life_ms(
        is_run=is_run, is_dead=True, keep_done_ms=sound["keep_done_ms"], keep_dead_ms=sound["keep_dead_ms"]
    )
    last = tx.execute("SELECT max(ordinal) FROM taquba_attempt WHERE job = ?", (seq,)).fetchone()[0]
    columns: dict[str, Any] = sound | {
        "id": job_id,
        "status": JobStatus.DEAD,
        "attempts": min(sound["attempts"], sound["max_attempts"]),
        "ordinal": max(sound["ordinal"], last if type(last) is int else 0),
        "finished_ms": tx.now_ms,
        "expires_ms": None if life is None else tx.now_ms + life,
        "verdict": Verdict.FAILED if is_run else None,
        "termination": sound["termination"] + is_run,
        "last_error": clip_error(why),
        "wide": wide,
        "payload": b"" if sound["payload"] is None and not wide & 1 else sound["payload"],
        "headers": "" if sound["headers"] is None and not wide & 2 else sound["headers"],
        "run_id": sound["run_id"] if is_run else None,
        "input_hash": sound["input_hash"] if is_run else None,
        "cancel_requested": 0,
        "due_clock": 0,
    }
    columns |= dict.fromkeys(("token", "owner", "lease_until_ms", "due_ms", "dedup_key", "result"))
    for fixed in ("seq", "queue"):
        del columns[fixed]
    tx.transitions.add("bury")
    for kind in Part:
        if not wide & 1 << kind and sound["seq"]:
            tx.execute(sql.DROP_PART, (seq * 4 + kind,))
    tx.execute(
        f"UPDATE taquba_job SET {', '.join(f'{column} = ?' for column in columns)} WHERE seq = ?",
        (*columns.values(), seq),
    )
    if status in tuple(JobStatus):
        tx.count(queue, status, -1)
    tx.count(queue, JobStatus.DEAD, 1)
    if is_run:
        held = Held(
            seq, job_id, queue, columns["step"], columns["attempts"], columns["ordinal"], 0, tx.now_ms, 0,
            columns["priority"], wide, columns["run_id"], sound["termination"], columns["keep_done_ms"],
            columns["keep_dead_ms"], columns["headers"],
        )  # fmt: skip
        notify(tx, held, JobStatus.DEAD, Verdict.FAILED, None, why, columns["termination"])
    return job_id


def _clear_expired(tx: Transaction) -> list[str]:
    """Remove rows past their retention whose status or width would keep a sweep from it."""
    cleared: list[str] = []
    for seq, queue, status, wide in tx.execute(sql.EXPIRED, (tx.now_ms, _ROWS_AT_ONCE)).fetchall():
        if misfit("wide", wide) is None and status in (JobStatus.DONE, JobStatus.DEAD, JobStatus.CANCELLED):
            continue
        tx.transitions.add("sweep")
        tx.drop_row(seq, 7)
        if status in (*_ACTIVE, JobStatus.DEAD):
            tx.count(queue, status, -1)
        cleared.append(f"row {seq}, past its retention, was removed: its status was {status!r:.80}")
    return cleared
