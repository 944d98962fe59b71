"""The columns of a job: what each may hold, and what stands for a value that it may not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from types import NoneType
from typing import Any, Final

from taquba_workflow_sync.clock import FIRST_MS, LAST_MS
from taquba_workflow_sync.storage.port.status import JobStatus, Verdict
from taquba_workflow_sync.storage.relational.belongings import ALL

_MANY: Final = 2**53
_LEAST: Final = -(2**63)
_MOST: Final = 2**63 - 1
_ANY: Final = (_LEAST, _MOST)
# Sums of two such still fit a column.
_FAR: Final = 2**62

#: The largest row number: a row's overflow has the keys 4 * seq + kind, which must fit.
LAST_SEQ: Final = 2**60

ACTIVE: Final = (JobStatus.PENDING, JobStatus.SCHEDULED, JobStatus.CLAIMED)


@dataclass(frozen=True, slots=True)
class Column:
    """What a column may hold: a value of ``kind``, within its bounds, of its pattern, one of its choices.

    ``is_optional``: NULL as well. ``placeholder`` stands for a value that the column may not hold.
    """

    name: str
    kind: type[int] | type[str] | type[bytes]
    is_optional: bool = False
    placeholder: Any = None
    least: int = _LEAST
    most: int = _MOST
    pattern: re.Pattern[str] | None = None
    choices: frozenset[str] | None = None

    def holds(self, value: Any) -> bool:
        """Whether the column may hold a value, as SQLite gives it."""
        if value is None:
            return self.is_optional
        if type(value) is not self.kind:
            return False
        if isinstance(value, int):
            return self.least <= value <= self.most
        if isinstance(value, str) and self.pattern is not None:
            return self.pattern.match(value) is not None
        return self.choices is None or value in self.choices

    def why_not(self, value: object) -> str | None:
        """Return why the column may not hold a value, or None if it may."""
        return None if self.holds(value) else f"{self.name} is {value!r:.80}"


def _number(name: str, least: int, most: int, placeholder: int) -> Column:
    return Column(name, int, placeholder=placeholder, least=least, most=most)


def _maybe_number(name: str, least: int, most: int) -> Column:
    return Column(name, int, is_optional=True, least=least, most=most)


# What ids are made of; those of notifications and of their webhooks are longer than what may be given.
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,200}\Z")
_OWNER: Final = re.compile(r"[A-Za-z0-9_-]{0,100}\Z")
_NAME: Final = re.compile(r"(?s).+")

#: The columns of the job table, in its order.
COLUMNS: Final[dict[str, Column]] = {
    column.name: column
    for column in (
        _number("seq", 1, LAST_SEQ, 0),
        Column("id", str, placeholder="", pattern=_ID),
        _number("queue", 1, _MOST, 0),
        Column("status", str, placeholder=JobStatus.DEAD.value, choices=frozenset(JobStatus)),
        _number("priority", _LEAST, _MOST, 1000),
        _number("place", _LEAST, _MOST, 0),
        _number("step", 0, _MANY, 0),
        _number("attempts", 0, _MANY, 0),
        _number("max_attempts", 1, _MANY, 1),
        _number("ordinal", 0, _MANY, 0),
        _number("cancel_requested", 0, 1, 0),
        Column("token", str, is_optional=True),
        Column("owner", str, is_optional=True, pattern=_OWNER),
        _maybe_number("claimed_ms", FIRST_MS, LAST_MS),
        _maybe_number("lease_until_ms", -_FAR, _FAR),
        _maybe_number("lease_ms", 0, _FAR),
        _maybe_number("due_ms", -_FAR, _FAR),
        _number("due_clock", 0, 1, 0),
        _maybe_number("run_at_ms", FIRST_MS, LAST_MS),
        _number("enqueued_ms", FIRST_MS, LAST_MS, 0),
        _maybe_number("finished_ms", FIRST_MS, LAST_MS),
        _maybe_number("expires_ms", -_FAR, _FAR),
        Column("verdict", str, is_optional=True, choices=frozenset(Verdict)),
        _number("termination", 0, _MANY, 0),
        _maybe_number("keep_done_ms", 0, _FAR),
        _maybe_number("keep_dead_ms", 0, _FAR),
        Column("dedup_key", str, is_optional=True),
        Column("run_id", str, is_optional=True, pattern=_ID),
        Column("input_hash", bytes, is_optional=True),
        _number("belongings", 0, ALL, 0),
        Column("last_error", str, is_optional=True),
        Column("headers", str, is_optional=True),
        Column("payload", bytes, is_optional=True),
        Column("result", bytes, is_optional=True),
        _maybe_number("payload_crc", 0, 2**32 - 1),
        _maybe_number("headers_crc", 0, 2**32 - 1),
        _maybe_number("result_crc", 0, 2**32 - 1),
        _number("rank", _LEAST, _MOST, 1000),
        _number("parked", 0, 3, 0),
        Column("limit_key", str, is_optional=True),
        _number("is_retry", 0, 1, 0),
        Column("cancel_reason", str, is_optional=True),
        _maybe_number("aging_ms", 0, LAST_MS),
    )
}

#: What is read beside them: the name of a job's queue.
QUEUE_NAME: Final = Column("queue_name", str, placeholder="", pattern=_NAME)

_READ: Final = COLUMNS | {QUEUE_NAME.name: QUEUE_NAME}


class RowCheck:
    """Tells whether every field of a row is what its column may hold; as :meth:`Column.holds` of each, but quick.

    Every claim asks it: the types of all fields are looked up at once, and only then bounds and patterns compared.
    """

    def __init__(self, fields: Sequence[str]) -> None:
        columns = columns_of(fields)
        self._types = frozenset(
            product(*((column.kind, NoneType) if column.is_optional else (column.kind,) for column in columns))
        )
        bounded = [column for column in columns if column.kind is int and (column.least, column.most) != _ANY]
        self._bounds = tuple((fields.index(column.name), column.least, column.most) for column in bounded)
        self._others = tuple(
            (fields.index(column.name), column) for column in columns if column.pattern or column.choices
        )

    def __call__(self, row: tuple[Any, ...]) -> bool:
        """Whether the row, with the fields in their order, is sound."""
        if tuple(map(type, row)) not in self._types:
            return False
        for place, least, most in self._bounds:
            value = row[place]
            if value is not None and not least <= value <= most:
                return False
        return all(column.holds(row[place]) for place, column in self._others)


def columns_of(fields: Iterable[str]) -> tuple[Column, ...]:
    """Return the columns that the fields of a row are read from."""
    return tuple(_READ[field] for field in fields)
