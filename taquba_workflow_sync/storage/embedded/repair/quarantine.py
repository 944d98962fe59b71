"""An invalid row made a dead letter that keeps what is sound."""

from __future__ import annotations

from typing import Any, Final

from taquba_workflow_sync.storage.embedded import sql
from taquba_workflow_sync.storage.embedded.columns import COLUMNS
from taquba_workflow_sync.storage.embedded.overflow import Overflow
from taquba_workflow_sync.storage.embedded.repair.showing import readable
from taquba_workflow_sync.storage.embedded.rows import Held
from taquba_workflow_sync.storage.embedded.transaction import Transaction
from taquba_workflow_sync.storage.embedded.transitions.end import notify
from taquba_workflow_sync.storage.port.retention import retention_ms
from taquba_workflow_sync.storage.port.run import final_verdict
from taquba_workflow_sync.storage.port.status import JobStatus
from taquba_workflow_sync.storage.port.texts import storable_error

#: What an ended row has none of.
_NONE: Final = ("token", "owner", "lease_until_ms", "due_ms", "dedup_key", "result", "result_crc")


def quarantine(tx: Transaction, queue: int, row: dict[str, Any], why: str) -> str:
    """pending / scheduled / claimed -> dead, whatever of it is invalid; a run's hook is told. Returns the job's id.

    The one way out of ``claimed`` that asks for no token: it may be what is invalid.
    """
    seq = row["seq"]
    sound = dict(zip(COLUMNS, readable(COLUMNS.values(), (row[name] for name in COLUMNS))[0], strict=True))
    is_run = row["run_id"] is not None and COLUMNS["run_id"].holds(row["run_id"]) and sound["input_hash"] is not None
    overflow = _sound_overflow(tx, sound)
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
        "expires_ms": None if keep_ms is None else tx.now_ms + keep_ms,
        "verdict": final_verdict(JobStatus.DEAD, None, is_run=is_run),
        "termination": sound["termination"] + is_run,
        "last_error": storable_error(why),
        "overflow": overflow,
        "run_id": sound["run_id"] if is_run else None,
        "input_hash": sound["input_hash"] if is_run else None,
        "cancel_requested": 0,
        "due_clock": 0,
    }
    for kind, column, empty in ((Overflow.PAYLOAD, "payload", b""), (Overflow.HEADERS, "headers", "")):
        if columns[column] is None and not overflow & 1 << kind:
            columns |= {column: empty, f"{column}_crc": None}
    columns |= dict.fromkeys(_NONE)
    for fixed in ("seq", "queue"):
        del columns[fixed]
    tx.transitions.add("quarantine")
    for kind in Overflow:
        if not overflow & 1 << kind and sound["seq"]:
            tx.execute(sql.DROP_OVERFLOW, (seq * 4 + kind,))
    tx.execute(sql.quarantine(columns), (*columns.values(), seq))
    if row["status"] in tuple(JobStatus):
        tx.count(queue, row["status"], -1)
    tx.count(queue, JobStatus.DEAD, 1)
    if is_run:
        held = Held._make((sound | columns | {"seq": seq, "queue": queue})[field] for field in Held._fields)
        notify(tx, held, JobStatus.DEAD, columns["verdict"], None, why, columns["termination"])
    return str(columns["id"])


def _sound_overflow(tx: Transaction, sound: dict[str, Any]) -> int:
    overflow = 0
    for kind, wanted in ((Overflow.PAYLOAD, bytes), (Overflow.HEADERS, str)):
        if sound["seq"] and sound["overflow"] & 1 << kind and type(tx.get_overflow(sound["seq"], kind)) is wanted:
            overflow |= 1 << kind
    return overflow
