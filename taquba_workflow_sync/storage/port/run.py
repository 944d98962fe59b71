"""What makes a job a run, whether a submit starts one, and how it ended."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple

from taquba_workflow_sync.errors import InputMismatchError, TaqubaError
from taquba_workflow_sync.outcome import TerminalStatus
from taquba_workflow_sync.storage.port.status import JobStatus, Verdict


class IfFinished(enum.StrEnum):
    """What a submit does when its run id names a finished run that is still kept, with the same input."""

    KEEP = "keep"
    RERUN_FAILED = "rerun_failed"
    RERUN = "rerun"


@dataclass(frozen=True, slots=True)
class RunName:
    """What makes a job a run: its name, the fingerprint of its input, and what to do if the name is taken."""

    run_id: str
    input_hash: bytes
    if_finished: IfFinished = IfFinished.KEEP


class NameHeldError(TaqubaError):
    """Whether a run id is free is known once a program's own open transaction has ended. Nothing was written."""

    is_permanent = False


class KnownRun(NamedTuple):
    """The newest row of a run id, as a submit needs it."""

    job_id: str
    input_hash: bytes
    status: JobStatus
    verdict: Verdict | None
    is_visible: bool


def is_new_run(run: RunName, queue: str, known: KnownRun | None, *, is_active: bool) -> bool:
    """Return whether a submit starts a run; False: ``known`` answers it.

    Raises:
        InputMismatchError: the name is taken by a run with another input.
    """
    if known is None or not (is_active or known.is_visible):
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
            return known.status is JobStatus.DEAD or known.verdict is Verdict.FAILED
        case IfFinished.RERUN:
            return True


def final_verdict(target: JobStatus, verdict: Verdict | None, *, is_run: bool) -> Verdict | None:
    """Return the verdict stored with an ended job: a run that ends as a dead letter has failed."""
    return Verdict.FAILED if is_run and target is JobStatus.DEAD else verdict


def terminal_status(status: JobStatus, verdict: Verdict | None) -> TerminalStatus:
    """Return how a run of that final status and verdict ended."""
    if status is JobStatus.CANCELLED:
        return TerminalStatus.CANCELLED
    return TerminalStatus.SUCCEEDED if verdict is Verdict.SUCCEEDED else TerminalStatus.FAILED
