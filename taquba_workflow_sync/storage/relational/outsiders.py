"""Names that a program's own open transaction has taken: of a run that is there if that is ever committed."""

from __future__ import annotations

from collections.abc import Callable

from taquba_workflow_sync.errors import TaqubaError

#: Takes the name of a queue's run for the transaction that asks, or raises :class:`NameHeldError`.
TakeName = Callable[[str, str], None]


class NameHeldError(TaqubaError):
    """Whether the name is free is known once another open transaction has ended. Nothing was written."""

    is_permanent = False

    def __init__(self, text: str) -> None:
        super().__init__(text)


def name_held(queue: str, run_id: str) -> NameHeldError:
    """Return what to raise of a name."""
    return NameHeldError(
        f"run id {run_id!r} of queue {queue!r} is submitted by a transaction that has not ended; nothing was written,"
        " submit it again when that has"
    )
