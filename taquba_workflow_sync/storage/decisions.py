"""What every engine must decide alike, as pure functions: taken names, retention, reaping, notifications."""

from __future__ import annotations

import json
from typing import NamedTuple

from taquba_workflow_sync.errors import InputMismatchError
from taquba_workflow_sync.storage.headers import (
    HEADER_ERROR,
    HEADER_FINISHED_MS,
    HEADER_JOB_ID,
    HEADER_RUN_ID,
    HEADER_STATUS,
    HEADER_STEP,
    HEADER_TERMINATION,
)
from taquba_workflow_sync.storage.records import IfFinished, NewJob, Observer, RunName, Verdict

# A finished row stays this long, invisible, when nothing is kept: a wait in another process still learns the outcome.
SHORTEST_ROW_LIFE_MS = 60_000

_ERROR_LIMIT = 16_384


class KnownRun(NamedTuple):
    """The newest row of a run id, as a submit needs it."""

    job_id: str
    input_hash: bytes
    status: str
    verdict: str | None
    is_kept: bool


def is_new_run(run: RunName, queue: str, known: KnownRun | None, *, is_active: bool) -> bool:
    """Return whether a submit starts a run; False: ``known`` answers it.

    Raises:
        InputMismatchError: the name is taken by a run with another input.
    """
    if known is None or not (is_active or known.is_kept):
        return True
    if known.input_hash != run.input_hash and (is_active or run.if_finished is not IfFinished.RERUN):
        state = "active" if is_active else "finished and kept"
        raise InputMismatchError(
            f"run id {run.run_id!r} of queue {queue!r} is taken by an {state} run with another input"
            f" (job {known.job_id}); use another run id"
            + ("" if is_active else ", or IfFinished.RERUN to start it afresh")
        )
    if is_active:
        return False
    match run.if_finished:
        case IfFinished.KEEP:
            return False
        case IfFinished.RERUN_FAILED:
            return known.status == "dead" or known.verdict == Verdict.FAILED
        case IfFinished.RERUN:
            return True


def row_life_ms(*, is_run: bool, is_dead: bool, keep_done_ms: int | None, keep_dead_ms: int | None) -> int | None:
    """Return how long a finished row stays; None: until somebody moves it; 0: not at all."""
    if is_run:
        return max(keep_done_ms or 0, SHORTEST_ROW_LIFE_MS)
    if is_dead:
        return keep_dead_ms
    return keep_done_ms or 0


def clip_error(error: str | None) -> str | None:
    """Return ``error`` as a row can carry it: lone surrogates escaped; cut, with a note, when it is too long."""
    if error is None:
        return None
    if not error.isascii():
        error = error.encode("utf-8", "backslashreplace").decode()
    if len(error) <= _ERROR_LIMIT:
        return error
    return f"{error[:_ERROR_LIMIT]}... [{len(error) - _ERROR_LIMIT} more characters were cut]"


def readable_headers(text: str | None) -> dict[str, str]:
    """Return stored headers; none of a row whose headers are damaged, since one row must never block the others."""
    try:
        headers = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    if not isinstance(headers, dict):
        return {}
    return {name: value for name, value in headers.items() if isinstance(value, str)}


def notification(
    observer: Observer,
    *,
    job_id: str,
    run_id: str,
    step: int,
    headers: str,
    priority: int,
    terminal: str,
    termination: int,
    finished_ms: int,
    result: bytes | None,
    error: str | None,
) -> NewJob:
    """Return the job that carries a terminated run's outcome to its hook.

    Its id is made from (job id, termination), so that the same outcome has the same id however it is told.
    """
    carried = readable_headers(headers)
    carried |= {
        HEADER_JOB_ID: job_id,
        HEADER_RUN_ID: run_id,
        HEADER_STEP: str(step),
        HEADER_STATUS: terminal,
        HEADER_TERMINATION: str(termination),
        HEADER_FINISHED_MS: str(finished_ms),
    }
    if error is not None:
        carried[HEADER_ERROR] = error
    return NewJob(
        id=f"{job_id}-{termination}",
        queue=observer.lane,
        payload=result or b"",
        headers=json.dumps(carried, ensure_ascii=False, separators=(",", ":")),
        priority=priority,
        max_attempts=observer.max_attempts,
        keep_dead_ms=observer.keep_dead_ms,
    )
