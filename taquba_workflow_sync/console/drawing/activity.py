"""The last hour of a queue as bars, one a minute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from taquba_workflow_sync.queue.metrics import MinuteActivity

MINUTES: Final = 60
_GAP: Final = 0.25
#: What counts as well, as a hitch, and as bad, from the bottom of a bar upwards.
_KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "good": ("succeeded", "continued"),
    "warn": ("retried", "put_back", "cancelled", "reaped"),
    "bad": ("failed", "dead"),
}


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a bar: its kind, and where it is."""

    kind: str
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Bar:
    """One minute; ``title`` says it in words."""

    x: float
    width: float
    segments: tuple[Segment, ...]
    title: str


@dataclass(frozen=True, slots=True)
class Activity:
    """Bars in a box; ``most``: how many the highest one stands for; ``total``: all of them together, by kind."""

    width: float
    height: float
    bars: tuple[Bar, ...]
    most: int
    total: Mapping[str, int]
    per_minute: int


def by_kind(outcomes: Mapping[str, int]) -> dict[str, int]:
    """Return how many went well, with a hitch, or badly."""
    return {kind: sum(outcomes.get(name, 0) for name in names) for kind, names in _KINDS.items()}


def activity(minutes: Sequence[MinuteActivity], now: datetime, *, width: float = 600, height: float = 72) -> Activity:
    """Draw the attempts of the hour that ends with the minute of ``now``."""
    last = now.replace(second=0, microsecond=0)
    counted = {each.at: by_kind(each.attempts) for each in minutes}
    slots = [last - timedelta(minutes=MINUTES - 1 - number) for number in range(MINUTES)]
    found = [(at, counted[at]) for at in slots if at in counted]
    most = max((sum(kinds.values()) for _, kinds in found), default=0)
    step = width / MINUTES
    bars = []
    for place, at in enumerate(slots):
        kinds = counted.get(at)
        if kinds is None or not most:
            continue
        segments, top = [], height
        for kind, many in kinds.items():
            if many:
                # What happened at all is seen: a bar of one in a thousand is a pixel high.
                tall = max(many / most * (height - 2), 1.0)
                top -= tall
                segments.append(Segment(kind, round(top, 2), round(tall, 2)))
        words = ", ".join(f"{many} {kind}" for kind, many in _words(kinds))
        title = f"{at:%H:%M} UTC: {words}"
        bars.append(Bar(round(place * step, 2), round(step * (1 - _GAP), 2), tuple(segments), title))
    total = {kind: sum(kinds[kind] for _, kinds in found) for kind in _KINDS}
    # The last whole minute: the present one has only begun.
    before = counted.get(last - timedelta(minutes=1), {})
    return Activity(width, height, tuple(bars), most, total, sum(before.values()))


def _words(kinds: Mapping[str, int]) -> list[tuple[str, int]]:
    names = {"good": "went well", "warn": "to be repeated or cancelled", "bad": "failed"}
    return [(names[kind], many) for kind, many in kinds.items() if many]
