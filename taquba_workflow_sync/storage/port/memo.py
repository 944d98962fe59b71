"""What a step has noted for its own later attempts, or a run for its later steps: written once, never changed."""

from __future__ import annotations

import enum
from typing import Final, NamedTuple, Protocol

from taquba_workflow_sync.errors import MemoFullError

#: How many entries one memo may have, and how many bytes (keys and values) all of a run, with its buffered signals.
MOST_ENTRIES: Final = 10_000
MOST_BYTES: Final = 64 * 2**20


class MemoScope(enum.StrEnum):
    """Whose memo: the current step's, gone when that ends well; or the run's, kept as long as its row."""

    STEP = "step"
    RUN = "run"


class MemoPage(NamedTuple):
    """Some entries in the order they were written, and where the next page begins; None on the last one."""

    items: list[tuple[str, bytes]]
    next_cursor: str | None


class Memos(Protocol):
    """The memos of runs. A step's is kept over a nack, a release, a reap and a failure; an advance, a success and a
    cancellation end it. What is read of a step that is over, is nothing."""

    def memo_put(self, job_id: str, token: str, scope: MemoScope, key: str, value: bytes) -> bytes:
        """Store an entry under the claim of ``token``, if the memo has none of that key; returns what is stored then.

        A requested cancellation is no obstacle.

        Raises:
            ClaimLostError: the claim is not held any more; nothing was written.
            MemoFullError: the memo, or the run, has no room for it; nothing was written.
        """
        ...

    def memo_get(self, job_id: str, scope: MemoScope, step: int, key: str) -> bytes | None:
        """Return an entry of the run's memo, or of that of its step ``step``, whoever asks; None: there is none."""
        ...

    def memo_keys(self, job_id: str, scope: MemoScope, step: int) -> list[str]:
        """Return the keys of a memo in the order they were written."""
        ...

    def memo_page(self, job_id: str, scope: MemoScope, limit: int, cursor: str | None) -> MemoPage:
        """Return up to ``limit`` entries of the run's memo, or of its current step's, from where ``cursor`` says.

        Raises:
            ValueError: ``cursor`` is none of this store's.
        """
        ...


def size_of_entry(raw_key: bytes, value: bytes) -> int:
    """Return what an entry counts; its key in UTF-8."""
    return len(raw_key) + len(value)


def has_room(entries: int, run_bytes: int, size: int) -> bool:
    """Whether an entry of ``size`` may be added where a memo has ``entries``, and the run ``run_bytes``."""
    return entries < MOST_ENTRIES and run_bytes + size <= MOST_BYTES


def check_room(scope: MemoScope, entries: int, run_bytes: int, size: int) -> None:
    """Refuse an entry of ``size`` where a memo has ``entries`` and the run ``run_bytes`` already.

    Raises:
        MemoFullError: there is no room for it.
    """
    if entries >= MOST_ENTRIES:
        raise MemoFullError(f"the {scope} memo has {entries} entries, the most it may have; note fewer, larger ones")
    if run_bytes + size > MOST_BYTES:
        raise MemoFullError(
            f"{size} more bytes would be over the {MOST_BYTES} that a run's memos and buffered signals may have"
            f" together ({run_bytes} are used); store large data elsewhere and note a reference"
        )
