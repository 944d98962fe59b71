"""Signals: what the world tells a run. They wait, in their order, until a step asks for one of their name."""

from __future__ import annotations

import enum
from typing import Final, NamedTuple, Protocol

from taquba_workflow_sync.errors import SignalBufferFullError
from taquba_workflow_sync.storage.port import memo

#: How many bytes the payload of a signal may have.
MOST_PAYLOAD: Final = 256 * 2**10
#: How many signals may be buffered for one run, and how many ids of signals are remembered with it.
MOST_BUFFERED: Final = 1_000
MOST_IDS: Final = 10_000


class SignalOutcome(enum.StrEnum):
    """What became of a signal: it woke the run that waited for it, it waits for a step that asks for its name, or one
    of that id had been accepted before."""

    DELIVERED = "delivered"
    BUFFERED = "buffered"
    DUPLICATE = "duplicate"


class NewSignal(NamedTuple):
    """A signal to send; one with an id is accepted once by a run."""

    name: str
    payload: bytes = b""
    id: str | None = None


class StoredSignal(NamedTuple):
    """A signal that a run has not used up."""

    name: str
    payload: bytes
    sent_ms: int
    id: str | None


class Cleared(NamedTuple):
    """How many signals a piece of a clearing removed, and what the next piece is told; None: that was the last."""

    signals: int
    go_on: int | None


class Signals(Protocol):
    """The signals of runs, first in first out for each run and name.

    The received one, that woke the run or was found when it began to wait, stays for every attempt of its step; it is
    used up by an advance, a success or a cancellation of the step.
    """

    def signals(self, job_id: str) -> list[StoredSignal]:
        """Return what a job has not used up, the oldest first; the received one too."""
        ...

    def clear_signals(self, job_id: str, name: str, go_on: int | None = None) -> Cleared:
        """Remove a piece of the signals of a name that were there at the first call, but for the received one."""
        ...

    def wake(self, job_id: str) -> bool:
        """scheduled -> pending: what waits for a time is due now; whether it did, and not for anything else."""
        ...


def check_room(buffered: int, run_bytes: int, size: int) -> None:
    """Refuse to buffer a signal of ``size`` where ``buffered`` are and the run has ``run_bytes`` already.

    One that a run waits for is not buffered: it always has room, or a full buffer would keep its run waiting for ever.

    Raises:
        SignalBufferFullError: there is no room for it.
    """
    if buffered >= MOST_BUFFERED:
        raise SignalBufferFullError(
            f"{buffered} signals are buffered for the run, the most there may be; send it again when the run has taken"
            " some, or clear what nobody will ask for"
        )
    if run_bytes + size > memo.MOST_BYTES:
        raise SignalBufferFullError(
            f"{size} more bytes would be over the {memo.MOST_BYTES} that a run's memos and buffered signals may have"
            f" together ({run_bytes} are used); send it again when the run has taken some"
        )
