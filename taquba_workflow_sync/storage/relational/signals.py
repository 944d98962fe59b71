"""Signals and waits as they are stored: what their checksums are made of, and what of a damaged one can be told."""

from __future__ import annotations

from typing import Any, NamedTuple
from zlib import crc32

from taquba_workflow_sync.clock import FIRST_MS, LAST_MS
from taquba_workflow_sync.errors import StorageError
from taquba_workflow_sync.storage.port.signals import NewSignal, StoredSignal
from taquba_workflow_sync.storage.port.wait import Wait, WaitKind


def crc_of_signal(seq: int, signal: NewSignal) -> int:
    """Return the checksum of a signal of a row: another's, or one whose name was changed, is noticed too."""
    about = f"{seq}\0{signal.name}\0{'' if signal.id is None else signal.id}"
    return crc32(signal.payload, crc32(about.encode()))


def stored_signal(job_id: str, seq: int, row: tuple[Any, ...]) -> StoredSignal:
    """Return a signal read as bytes and numbers.

    Raises:
        StorageError: it is not what was stored.
    """
    name, payload, sent_ms, signal_id, crc = row
    try:
        signal = NewSignal(name.decode(), payload, None if signal_id is None else signal_id.decode())
        if crc_of_signal(seq, signal) == crc and FIRST_MS <= sent_ms <= LAST_MS:
            return StoredSignal(signal.name, payload, sent_ms, signal.id)
    except (AttributeError, TypeError, ValueError):
        pass  # NULL, or no UTF-8
    raise StorageError(f"a signal of job {job_id} is damaged: it is not what was stored; restore a backup")


class StoredWait(NamedTuple):
    """What a row waits for, as it is stored.

    ``ordinal`` is that of the claim that fixed how the wait ended, None while it is open; ``signal`` the number of the
    signal that it has ended with, or that the next claim will find, None: that finds the timeout.
    """

    kind: str
    name: str
    timeout_ms: int | None
    ordinal: int | None
    signal: int | None
    crc: int | None

    @property
    def is_open(self) -> bool:
        """Whether no claim has fixed how it ended."""
        return self.ordinal is None

    def right_crc(self, seq: int) -> int:
        """Return the checksum that a row of that number has with this."""
        return crc32(f"{seq} {self.kind} {self.timeout_ms} {self.ordinal} {self.signal} {self.name}".encode())

    def to_wait(self, seq: int) -> Wait | None:
        """Return what the row waits for; None: it is not what was stored."""
        if self.crc != self.right_crc(seq):
            return None
        return Wait(WaitKind(self.kind), self.name, self.timeout_ms)


def stored_wait(row: tuple[Any, ...]) -> StoredWait:
    """Return a wait read as bytes and numbers, whatever they are."""
    kind, name, timeout_ms, ordinal, signal, crc = row
    return StoredWait(_text(kind), _text(name), timeout_ms, ordinal, signal, crc)


def _text(data: bytes | None) -> str:
    return (data or b"").decode(errors="replace")
