"""An invalid row made a dead letter that keeps what is sound."""

from __future__ import annotations

from typing import Any, Final

from taquba_workflow_sync.outcome import TerminalStatus
from taquba_workflow_sync.storage.port.limit import Parked
from taquba_workflow_sync.storage.port.retention import retention_ms
from taquba_workflow_sync.storage.port.run import final_verdict
from taquba_workflow_sync.storage.port.status import JobStatus
from taquba_workflow_sync.storage.port.texts import storable_error
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.belongings import Belonging
from taquba_workflow_sync.storage.relational.columns import COLUMNS
from taquba_workflow_sync.storage.relational.overflow import Overflow
from taquba_workflow_sync.storage.relational.rows import Held
from taquba_workflow_sync.storage.relational.showing import readable
from taquba_workflow_sync.storage.relational.transaction import Transaction
from taquba_workflow_sync.storage.relational.transitions import meter, timing
from taquba_workflow_sync.storage.relational.transitions.end import notify
from taquba_workflow_sync.storage.relational.transitions.line import leave_line
from taquba_workflow_sync.storage.relational.transitions.member import ended, group_of
from taquba_workflow_sync.storage.relational.transitions.wait import is_sound, leave_group

#: What an ended row has none of.
_LARGE_PARTS: Final = sum(1 << kind for kind in Overflow)
_NONE: Final = ("token", "owner", "lease_until_ms", "due_ms", "dedup_key", "result", "result_crc")


_OVERFLOW: Final = sum(1 << kind for kind in Overflow)


def quarantine(tx: Transaction, queue: int, row: dict[str, Any], why: str) -> str:
    """pending / scheduled / claimed -> dead, whatever of it is invalid; a run's hook is told. Returns the job's id.

    The one way out of ``claimed`` that asks for no token: it may be what is invalid.
    """
    seq = row["seq"]
    sound = dict(zip(COLUMNS, readable(COLUMNS.values(), (row[name] for name in COLUMNS))[0], strict=True))
    is_run = row["run_id"] is not None and COLUMNS["run_id"].holds(row["run_id"]) and sound["input_hash"] is not None
    belongings = _sound_belongings(tx, sound)
    is_member = group_of(tx, seq) is not None  # its retention counts from the end of its group, as for any that ends
    had_end = bool(sound["belongings"] & Belonging.TIMING) or tx.execute(sql.HAS_TIMING, (seq,)).fetchone() is not None
    keep_ms = retention_ms(
        is_run=is_run, is_dead=True, keep_done_ms=sound["keep_done_ms"], keep_dead_ms=sound["keep_dead_ms"]
    )
    (last,) = tx.execute(sql.LAST_ORDINAL, (seq,)).fetchone()
    columns: dict[str, Any] = sound | {
        "id": sound["id"] or f"damaged-{seq}",
        "status": JobStatus.DEAD,
        "attempts": min(sound["attempts"], sound["max_attempts"]),
        "ordinal": max(sound["ordinal"], last if type(last) is int else 0),
        "finished_ms": tx.now_ms,
        "expires_ms": None if keep_ms is None or is_member else tx.now_ms + keep_ms,
        "verdict": final_verdict(JobStatus.DEAD, None, is_run=is_run),
        "termination": sound["termination"] + is_run,
        "last_error": storable_error(why),
        "belongings": belongings,
        "run_id": sound["run_id"] if is_run else None,
        "input_hash": sound["input_hash"] if is_run else None,
        "cancel_requested": 0,
        "parked": 0,
        "due_clock": 0,
    }
    for kind, column, empty in ((Overflow.PAYLOAD, "payload", b""), (Overflow.HEADERS, "headers", "")):
        if columns[column] is None and not belongings & 1 << kind:
            columns |= {column: empty, f"{column}_crc": None}
    columns |= dict.fromkeys(_NONE)
    for fixed in ("seq", "queue"):
        del columns[fixed]
    tx.transitions.add("quarantine")
    for kind in Overflow:
        if not belongings & 1 << kind and sound["seq"]:
            tx.execute(sql.DROP_OVERFLOW, (seq * 4 + kind,))
    tx.execute(sql.quarantine(columns), (*columns.values(), seq))
    for statement in (sql.DROP_REFUSALS, sql.DROP_TIMING, sql.DROP_SETTINGS):
        tx.execute(statement, (seq,))
    if row["status"] in tuple(JobStatus):
        tx.count(queue, row["status"], -1)
    tx.count_special(queue, row["status"], row["run_id"], row["cancel_requested"], row["verdict"], -1)
    tx.count(queue, JobStatus.DEAD, 1)
    tx.count_special(queue, JobStatus.DEAD, columns["run_id"], 0, None, 1)
    if row["status"] == JobStatus.PENDING and row["parked"] not in (None, 0, Parked.BY_GROUP):
        tx.count_parked(queue, -1)
    if had_end and row["finished_ms"] is None:
        timing.count(tx, queue, -1)
    leave_line(tx, queue, sound["limit_key"])
    # Whatever its bits said: what it was a member of, or waited for, must not wait for it. A retry waits again.
    if is_sound(tx, seq):
        tx.execute(sql.OWN_BELONGINGS, (Belonging.WAIT, seq))
    else:
        tx.execute(sql.DROP_WAIT, (seq,))
        leave_group(tx, seq)
    if is_member:
        tx.execute(sql.OWN_BELONGINGS, (Belonging.MEMBER, seq))
        ended(tx, seq, TerminalStatus.FAILED)
    if is_run:
        held = Held._make((sound | columns | {"seq": seq, "queue": queue})[field] for field in Held._fields)
        meter.count_end(tx, held, JobStatus.DEAD, columns["verdict"])
        notify(tx, held, JobStatus.DEAD, columns["verdict"], None, why, columns["termination"])
    return str(columns["id"])


def _sound_belongings(tx: Transaction, sound: dict[str, Any]) -> int:
    """Return what belongs to the row: of its large parts, those that can be read."""
    belongings = int(sound["belongings"]) & ~_OVERFLOW if sound["seq"] else 0
    for kind, wanted in ((Overflow.PAYLOAD, bytes), (Overflow.HEADERS, str)):
        if sound["seq"] and sound["belongings"] & 1 << kind and type(tx.get_overflow(sound["seq"], kind)) is wanted:
            belongings |= 1 << kind
    return belongings
