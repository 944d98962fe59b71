"""What happened to a run, along its time: attempts, the waits between them, its children, and where it is now."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
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
_NOTE_LETTER: Final = 6.4
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
    """What stands at the left, its bars, and what is written beside the last of them; ``y`` is the middle."""

    name: str
    y: float
    spans: tuple[Span, ...]
    note: str = ""
    note_x: float = 0.0
    anchor: str = "start"
    is_child: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment: a line over all rows, or a tick of the scale."""

    x: float
    text: str
    kind: str
    anchor: str = "middle"


@dataclass(frozen=True, slots=True)
class Timeline:
    """The chart; ``left_out``: how many rows are not drawn; ``said``: what is seen, for those who cannot see it."""

    width: float
    height: float
    rows: tuple[Row, ...]
    ticks: tuple[Mark, ...]
    marks: tuple[Mark, ...]
    left_out: int
    said: str


@dataclass(slots=True)
class _Attempt:
    step: int
    attempt: int | None
    began: datetime
    ended: datetime | None = None
    outcome: str = ""


def timeline(
    run: RunStatus,
    events: Sequence[RunEvent],
    children: Iterable[RunStatus],
    now: datetime,
    names: Mapping[int, str] = MappingProxyType({}),
) -> Timeline:
    """Draw a run's time, from its submit until its end, or until ``now``; ``names``: those of its steps."""
    attempts = _attempts(events, run.finished_at)
    begin = min([run.submitted_at, *(each.began for each in attempts)])
    end = max([run.finished_at or now, *(each.ended or begin for each in attempts), begin + timedelta(milliseconds=1)])
    scale = (_WIDTH - _LEFT - _RIGHT) / (end - begin).total_seconds()

    def place(at: datetime) -> float:
        return _LEFT + min(max((at - begin).total_seconds(), 0.0) * scale, _WIDTH - _LEFT - _RIGHT)

    def span(kind: str, start: datetime, stop: datetime, title: str) -> Span:
        x = min(place(start), _WIDTH - _RIGHT - _LEAST)
        return Span(kind, round(x, 2), round(max(place(stop) - x, _LEAST), 2), title)

    def add(name: str, note: str, *spans: Span, is_child: bool = False) -> None:
        y = _TOP + _ROW * len(rows) + _ROW / 2
        first, last = spans[0].x, spans[-1].x + spans[-1].width
        is_right = last + len(note) * _NOTE_LETTER < _WIDTH - _RIGHT
        x, anchor = (last + 6, "start") if is_right else (first - 6, "end")
        if not is_right and first - len(note) * _NOTE_LETTER < _LEFT:
            x, anchor = _WIDTH - _RIGHT - 6, "end"  # the bar goes from side to side: it stands on the bar
        rows.append(Row(name, y, spans, note, round(x, 2), anchor, is_child))

    def named(step: int) -> str:
        return f"{step} {names[step]}" if step in names else f"step {step}"

    drawn = attempts[-MOST_ROWS:]
    spawned = list(children)[:MOST_ROWS]
    rows: list[Row] = []
    before = run.submitted_at if len(drawn) == len(attempts) else drawn[0].began
    for each in drawn:
        spans = []
        if (each.began - before).total_seconds() * scale > 1:
            waited = duration((each.began - before).total_seconds())
            spans.append(span("wait", before, each.began, f"waited for {waited}"))
        stop = each.ended or now
        what = each.outcome or ("runs" if each.ended is None else "ended")
        said = f"{what.replace('_', ' ')}, {duration((stop - each.began).total_seconds())}"
        spans.append(span(_kind(each), each.began, stop, said))
        tries = "" if each.attempt in (None, 1) else f", attempt {each.attempt}"
        add(f"{named(each.step)}{tries}", said, *spans)
        before = stop
    if run.finished_at is None and (not drawn or drawn[-1].ended is not None):
        what = f"waits for {' '.join(run.waiting_for.split(':', 1))}" if run.waiting_for else "in line"
        said = f"{what}, {duration((now - before).total_seconds())}"
        add(named(run.current_step), said, span("wait", before, now, said))
    for one in spawned:
        said = f"{one.state.value}, {duration(((one.finished_at or now) - one.submitted_at).total_seconds())}"
        bar = span(f"child {one.state.value}", one.submitted_at, one.finished_at or now, said)
        add(one.run_id, said, bar, is_child=True)
    marks = [Mark(round(place(each.at), 2), _said(each), "mark") for each in events if _is_marked(each)]
    height = _TOP + _ROW * max(len(rows), 1) + 8
    return Timeline(
        _WIDTH,
        height,
        tuple(rows),
        _ticks(begin, end, place),
        tuple(marks),
        len(attempts) - len(drawn),
        f"{duration((end - begin).total_seconds())}: {'; '.join(f'{row.name} {row.note}' for row in rows)}",
    )


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
    step = _step(max(whole / _TICKS, 0.001))
    many = int(whole / step + 1e-9)
    return tuple(
        Mark(
            round(place(begin + timedelta(seconds=step * number)), 2),
            f"+{duration(step * number)}" if number else "0",
            "tick",
            "start"
            if not number
            else ("end" if place(begin + timedelta(seconds=step * number)) > _WIDTH - 40 else "middle"),
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
