"""Invalid rows read with what is wrong said of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any

from taquba_workflow_sync.storage.embedded.columns import invalid, placeholder
from taquba_workflow_sync.storage.port.status import AttemptOutcome


class Undecodable(bytes):
    """Text that is no UTF-8."""


def tolerant(data: bytes) -> str | Undecodable:
    """Decode text as SQLite has it; for ``text_factory`` where a strict read has failed."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return Undecodable(data)


def is_undecodable(error: BaseException) -> bool:
    """Whether a read failed only because some text is no UTF-8."""
    return isinstance(error, sqlite3.OperationalError) and "decode to UTF-8" in str(error)


def readable(columns: Iterable[str], values: Iterable[Any]) -> tuple[list[Any], str | None]:
    """Return values that can be shown in place of those that cannot, and what is wrong with the row, if anything."""
    shown = list(values)
    wrong: list[str] = []
    for place, column in enumerate(columns):
        why = invalid(column, shown[place])
        if why is not None:
            wrong.append(why)
            # A run stays a run in listings, whatever its name was.
            shown[place] = f"(damaged) {shown[place]!r:.80}" if column == "run_id" else placeholder(column)
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
