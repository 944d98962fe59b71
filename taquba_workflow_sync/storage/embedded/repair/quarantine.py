"""An invalid row made a dead letter that keeps what is sound."""

from __future__ import annotations

from typing import Any

from taquba_workflow_sync.storage.embedded import sql
from taquba_workflow_sync.storage.embedded.columns import _COLUMNS, invalid
from taquba_workflow_sync.storage.embedded.overflow import Overflow
from taquba_workflow_sync.storage.embedded.repair.showing import readable
from taquba_workflow_sync.storage.embedded.transaction import Transaction
from taquba_workflow_sync.storage.embedded.transitions.end import notify
from taquba_workflow_sync.storage.embedded.transitions.fence import Held
from taquba_workflow_sync.storage.port.retention import retention_ms
from taquba_workflow_sync.storage.port.status import JobStatus, Verdict
from taquba_workflow_sync.storage.port.texts import clip_error


def quarantine(tx: Transaction, queue: int, row: dict[str, Any], why: str) -> str:
    """Make a damaged row a dead letter that keeps what is sound; a run's hook is told. Returns the job's id."""
    status = row["status"]
    seq = row["seq"]
    sound = dict(zip(_COLUMNS, readable(_COLUMNS, row.values())[0], strict=True))
    is_run = row["run_id"] is not None and invalid("run_id", row["run_id"]) is None and sound["input_hash"] is not None
    job_id = sound["id"] or f"damaged-{seq}"
    wide = 0
    for kind, wanted in ((Overflow.PAYLOAD, bytes), (Overflow.HEADERS, str)):
        if sound["seq"] and sound["wide"] & 1 << kind and type(tx.get_overflow(seq, kind)) is wanted:
            wide |= 1 << kind
    life = retention_ms(
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
    for kind in Overflow:
        if not wide & 1 << kind and sound["seq"]:
            tx.execute(sql.DROP_OVERFLOW, (seq * 4 + kind,))
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
