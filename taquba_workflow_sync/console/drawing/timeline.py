"""What happened to a run, along its time: attempts, the waits between them, its children, and where it is now."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from taquba_workflow_sync.console.texts import duration
from taquba_workflow_sync.workflow.history import RunEvent
from taquba_workflow_sync.workflow.status import RunStatus

_WIDTH: Final = 1160.0
_LEFT: Final = 200.0
_RIGHT: Final = 12.0
_ROW: Final = 24.0
_TOP: Final = 26.0
#: So many attempts and children are drawn, the last ones; all are listed below.
MOST_ROWS: Final = 40
_LEAST: Final = 3.0
_TICKS: Final = 6
_GOOD: Final = ("succeeded", "continued")
_BAD: Final = ("failed", "dead")


@dataclass(frozen=True, slots=True)
class Span:
    """A bar of one row: "good", "warn", "bad", "now", "wait" or "child"."""

    kind: str
    x: float
    width: float
    title: str


@dataclass(frozen=True, slots=True)
class Row:
    """What stands at the left, and its bars; ``y`` is the middle."""

    name: str
    y: float
    spans: tuple[Span, ...]
    run_id: str | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment: a line over all rows, or a tick of the scale."""

    x: float
    text: str
    kind: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """The chart; ``left_out``: how many rows are not drawn."""

    width: float
    height: float
    rows: tuple[Row, ...]
    ticks: tuple[Mark, ...]
    marks: tuple[Mark, ...]
    left_out: int


@dataclass(slots=True)
class _Attempt:
    step: int
    attempt: int | None
    began: datetime
    ended: datetime | None = None
    outcome: str = ""


def timeline(run: RunStatus, events: Sequence[RunEvent], children: Iterable[RunStatus], now: datetime) -> Timeline:
    """Draw a run's time, from its submit until its end, or until ``now``."""
    attempts = _attempts(events, run.finished_at)
    begin = min([run.submitted_at, *(each.began for each in attempts)])
    end = max([run.finished_at or now, *(each.ended or begin for each in attempts), begin + timedelta(milliseconds=1)])
    scale = (_WIDTH - _LEFT - _RIGHT) / (end - begin).total_seconds()

    def place(at: datetime) -> float:
        return _LEFT + min(max((at - begin).total_seconds(), 0.0) * scale, _WIDTH - _LEFT - _RIGHT)

    def span(kind: str, start: datetime, stop: datetime, title: str) -> Span:
        x = min(place(start), _WIDTH - _RIGHT - _LEAST)
        return Span(kind, round(x, 2), round(max(place(stop) - x, _LEAST), 2), title)

    drawn = attempts[-MOST_ROWS:]
    spawned = list(children)[:MOST_ROWS]
    rows: list[Row] = []
    before = run.submitted_at if len(drawn) == len(attempts) else drawn[0].began
    for each in drawn:
        y = _TOP + _ROW * len(rows) + _ROW / 2
        spans = []
        if (each.began - before).total_seconds() * scale > 1:
            waited = duration((each.began - before).total_seconds())
            spans.append(span("wait", before, each.began, f"waited for {waited}"))
        stop = each.ended or now
        took = duration((stop - each.began).total_seconds())
        said = f"{each.outcome or ('runs' if each.ended is None else 'ended')}, {took}"
        spans.append(span(_kind(each), each.began, stop, said))
        tries = "" if each.attempt in (None, 1) else f", attempt {each.attempt}"
        rows.append(Row(f"step {each.step}{tries}", y, tuple(spans)))
        before = stop
    if run.finished_at is None and (not drawn or drawn[-1].ended is not None):
        y = _TOP + _ROW * len(rows) + _ROW / 2
        what = f"waits for {run.waiting_for}" if run.waiting_for else "in line"
        waited = duration((now - before).total_seconds())
        rows.append(Row(f"step {run.current_step}", y, (span("wait", before, now, f"{what}, for {waited}"),)))
    for child in spawned:
        y = _TOP + _ROW * len(rows) + _ROW / 2
        title = f"{child.state.value}, {duration(((child.finished_at or now) - child.submitted_at).total_seconds())}"
        bar = span(f"child {child.state.value}", child.submitted_at, child.finished_at or now, title)
        rows.append(Row(child.run_id, y, (bar,), child.run_id))
    marks = [Mark(round(place(each.at), 2), _said(each), "mark") for each in events if _is_marked(each)]
    height = _TOP + _ROW * max(len(rows), 1) + 8
    return Timeline(_WIDTH, height, tuple(rows), _ticks(begin, end, place), tuple(marks), len(attempts) - len(drawn))


def _attempts(events: Sequence[RunEvent], finished_at: datetime | None) -> list[_Attempt]:
    """Return the attempts; of a long history events are missing, and with them how an attempt ended."""
    found: list[_Attempt] = []
    open_: dict[tuple[int, int | None], _Attempt] = {}
    for event in events:
        key = (event.step, event.attempt)
        if event.kind == "started":
            open_[key] = _Attempt(event.step, event.attempt, event.at)
            found.append(open_[key])
        elif event.kind == "ended" and key in open_:
            attempt = open_.pop(key)
            attempt.ended, attempt.outcome = event.at, event.outcome or ""
    for number, attempt in enumerate(found):
        if attempt.ended is None:
            attempt.ended = found[number + 1].began if number + 1 < len(found) else finished_at
    return found


def _kind(attempt: _Attempt) -> str:
    if attempt.ended is None:
        return "now"
    return "good" if attempt.outcome in _GOOD else ("bad" if attempt.outcome in _BAD else "warn")


def _is_marked(event: RunEvent) -> bool:
    return event.kind in ("cancel_requested", "retried", "signal_dropped")


def _said(event: RunEvent) -> str:
    detail = f": {event.detail}" if event.detail else ""
    return f"{event.kind.value.replace('_', ' ')}{detail}"


def _ticks(begin: datetime, end: datetime, place: Callable[[datetime], float]) -> tuple[Mark, ...]:
    whole = (end - begin).total_seconds()
    step = _step(whole / _TICKS)
    many = int(whole / step + 1e-9)
    return tuple(
        Mark(
            round(place(begin + timedelta(seconds=step * number)), 2),
            f"+{duration(step * number)}" if number else "0",
            "tick",
        )
        for number in range(many + 1)
    )


def _step(least: float) -> float:
    """Return a round number of seconds, not less than that."""
    for base in (60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400):
        if 30 < least <= base:
            return float(base)
    power = 10.0 ** math.floor(math.log10(least))
    for factor in (1, 2, 5, 10):
        if least <= power * factor * (1 + 1e-9):
            return power * factor
    return power * 10
