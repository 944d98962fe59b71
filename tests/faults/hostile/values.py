"""Values that no argument asked for: made anew for each use, since some can be used up."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, NoReturn

from taquba_workflow_sync import Fail, JobStatus, Queue, QueueConfig, RunSpec, StepErrorKind, Succeed, WebhookRequest


class Boom(Exception):
    """What the caller's own object raises; it may come back to the caller, never as anything worse."""


def _boom(*_: object, **__: object) -> NoReturn:
    raise Boom("the caller's own object failed")


_DUNDERS: Final = ("__eq__", "__hash__", "__str__", "__repr__", "__bool__", "__len__", "__iter__", "__format__",
                   "__int__", "__index__", "__float__", "__lt__", "__le__", "__contains__", "__getitem__")  # fmt: skip


def _evil(base: type, *dunders: str) -> Any:
    return type(f"Evil{base.__name__}", (base,), dict.fromkeys(dunders or _DUNDERS, _boom))


class EvilZone(tzinfo):
    """A time zone that fails when it is asked."""

    utcoffset = dst = tzname = _boom  # type: ignore[assignment]


class NoneZone(tzinfo):
    """A time zone that knows nothing."""

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        return None


class EvilPath:
    """A path that fails when it is asked."""

    __fspath__ = _boom


class NumberPath:
    """A path that is a number."""

    def __fspath__(self) -> Any:
        return 5


class EndlessMapping(Mapping[Any, Any]):
    """As many headers as anybody wants."""

    def __getitem__(self, key: Any) -> str:
        return "v"

    def __iter__(self) -> Iterator[str]:
        number = 0
        while True:
            number += 1
            yield f"header-{number}"

    def __len__(self) -> int:
        return 1


class EvilMapping(Mapping[Any, Any]):
    """Headers that fail when they are read."""

    __getitem__ = __iter__ = __len__ = _boom  # type: ignore[assignment]


class TwoFaced(Mapping[Any, Any]):
    """Headers that are others each time they are read."""

    def __init__(self) -> None:
        self._reads = 0

    def __getitem__(self, key: Any) -> Any:
        return "v" if self._reads < 2 else object()

    def __iter__(self) -> Iterator[Any]:
        self._reads += 1
        return iter(["h"] if self._reads < 2 else [5])

    def __len__(self) -> int:
        return 1


class Number(enum.IntEnum):
    """An int and an enum."""

    TWO = 2


class EvilClock:
    """A clock that fails."""

    now = _boom


class NaiveClock:
    """A clock without a time zone."""

    def now(self) -> datetime:
        return datetime(2026, 1, 1)


class WrongClock:
    """A clock that tells no time."""

    def now(self) -> Any:
        return "noon"


def _recursive() -> dict[str, Any]:
    one: dict[str, Any] = {}
    one["self"] = one
    return one


def _deep() -> list[Any]:
    one: list[Any] = []
    for _ in range(5000):
        one = [one]
    return one


def _generator() -> Iterator[Any]:
    yield from (b"x", 5)


#: name -> how to make one
HOSTILE: Final[dict[str, Callable[[], Any]]] = {
    "None": lambda: None,
    "True": lambda: True,
    "zero": lambda: 0,
    "minus one": lambda: -1,
    "one": lambda: 1,
    "2**31": lambda: 2**31,
    "2**63": lambda: 2**63,
    "-2**63-1": lambda: -(2**63) - 1,
    "a googol": lambda: 10**100,
    "5000 digits": lambda: 10**5000,
    "minus 5000 digits": lambda: -(10**5000),
    "nan": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "-inf": lambda: float("-inf"),
    "1e308": lambda: 1e308,
    "1e300": lambda: 1e300,
    "5e-324": lambda: 5e-324,
    "a half": lambda: 0.5,
    "complex": lambda: 1j,
    "Decimal": lambda: Decimal("1.5"),
    "Decimal sNaN": lambda: Decimal("sNaN"),
    "Fraction": lambda: Fraction(1, 3),
    "IntEnum": lambda: Number.TWO,
    "empty text": lambda: "",
    "text": lambda: "text",
    "long text": lambda: "x" * 100_000,
    "surrogate": lambda: "a\ud800",
    "NUL": lambda: "a\0b",
    "newline": lambda: "a\nb",
    "escape": lambda: "\x1b[31m",
    "right to left": lambda: "\u202eabc",
    "combining": lambda: "e" + "\u0301" * 200,
    "digits of another script": lambda: "٣",
    "path upwards": lambda: "../../x",
    "255 bytes and one": lambda: "x" * 256,
    "empty bytes": lambda: b"",
    "bytes": lambda: b"x",
    "bytearray": lambda: bytearray(b"x"),
    "memoryview": lambda: memoryview(b"x"),
    "list": list,
    "list of None": lambda: [None],
    "list of numbers": lambda: [1, 2],
    "tuple": lambda: ("a", "b"),
    "set": lambda: {1},
    "deep list": _deep,
    "dict": dict,
    "recursive dict": _recursive,
    "dict of numbers": lambda: {1: 2},
    "dict of surrogates": lambda: {"a": "\ud800"},
    "dict of None": lambda: {"a": None},
    "dict of an empty name": lambda: {"": "x"},
    "dict of much": lambda: {"a": "x" * 200_000},
    "dict of many": lambda: {str(number): "" for number in range(100_000)},
    "generator": _generator,
    "endless mapping": EndlessMapping,
    "evil mapping": EvilMapping,
    "two-faced mapping": TwoFaced,
    "object": object,
    "evil object": lambda: _evil(object)(),
    "evil str": lambda: _evil(str)("text"),
    "str with evil hash": lambda: _evil(str, "__hash__")("text"),
    "str with evil eq": lambda: type("S", (str,), {"__eq__": _boom, "__hash__": str.__hash__})("text"),
    "str with evil encode": lambda: _evil(str, "encode")("text"),
    "evil int": lambda: _evil(int)(5),
    "evil float": lambda: _evil(float)(5),
    "evil bytes": lambda: _evil(bytes)(b"x"),
    "evil dict": lambda: _evil(dict)(),
    "evil timedelta": lambda: _evil(timedelta, "__neg__", "__floordiv__", "__lt__")(seconds=1),
    "class": lambda: int,
    "function": lambda: lambda *_: None,
    "exception": lambda: ValueError("v"),
    "naive datetime": lambda: datetime(2026, 1, 1),
    "datetime.min": lambda: datetime.min,
    "datetime.max": lambda: datetime.max,
    "datetime.min UTC": lambda: datetime.min.replace(tzinfo=UTC),
    "datetime.max UTC": lambda: datetime.max.replace(tzinfo=UTC),
    "before the first year": lambda: datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
    "after the last year": lambda: datetime.max.replace(tzinfo=timezone(timedelta(hours=-14))),
    "evil zone": lambda: datetime(2026, 1, 1, tzinfo=EvilZone()),
    "no zone after all": lambda: datetime(2026, 1, 1, tzinfo=NoneZone()),
    "date": lambda: date(2026, 1, 1),
    "timedelta.max": lambda: timedelta.max,
    "timedelta.min": lambda: timedelta.min,
    "a microsecond": lambda: timedelta(microseconds=1),
    "evil path": EvilPath,
    "path of a number": NumberPath,
    "evil clock": EvilClock,
    "naive clock": NaiveClock,
    "wrong clock": WrongClock,
    "status": lambda: JobStatus.DEAD,
    "config": QueueConfig,
    "spec": RunSpec,
    "kind": lambda: StepErrorKind.PERMANENT,
    "request": lambda: WebhookRequest("http://127.0.0.1:1/"),
    "outcome": lambda: Succeed(b"x"),
    "another outcome": lambda: Fail("x"),
    "queue class": lambda: Queue,
    "config of surrogates": lambda: {"\ud800": QueueConfig()},
    "config of nothing": lambda: {"q": None},
}
#: The caller's own code is run by these, where they stand for what was asked for; its error may come back as it is.
OWN_FAULT: Final = frozenset(name for name in HOSTILE if name.startswith("evil") or "with evil" in name)
