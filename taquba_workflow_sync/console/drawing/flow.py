"""A flow's graph as boxes and arrows: steps in rows from top to bottom, with the steps of a run marked."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Final

from taquba_workflow_sync.console.drawing.layers import Edge, Layout, Node, layout
from taquba_workflow_sync.console.texts import visible
from taquba_workflow_sync.flow.graph import Graph

_HEIGHT: Final = 34.0
_ROW: Final = 39.0
_LETTER: Final = 7.9
_SMALL_LETTER: Final = 7.0
_PADDING: Final = 28.0
_MARGIN: Final = 10.0
_TIP: Final = 5.0
#: How far a way from a step to itself reaches out, and how far apart lines leave a box.
_LOOP: Final = 24.0
_PORT: Final = 14.0
#: Larger pictures are not drawn: nobody reads them.
MOST_STEPS: Final = 60
#: Where ways bend more often than that together, those over several rows go straight; nobody can follow them anyway.
_MOST_BENDS: Final = 1_500
_LONGEST_NAME: Final = 32


@dataclass(frozen=True, slots=True)
class Box:
    """A step, by the middle of its box. ``mark``: "current", "succeeded", "failed", "cancelled", "done" or ""."""

    name: str
    text: str
    x: float
    y: float
    width: float
    height: float
    mark: str
    is_start: bool


@dataclass(frozen=True, slots=True)
class Arrow:
    """A way from a step to the next: a path, and where what is waited for on it is written."""

    path: str
    wait: str
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Picture:
    """The whole, in a box of that size."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]


def picture(
    graph: Graph, *, current: str | None = None, mark: str = "current", done: Collection[str] = ()
) -> Picture | None:
    """Draw a graph, with the step where a run is, or has ended, and those behind it.

    ``mark``: how the first is marked. None: it is too large to be read, or empty.
    """
    steps = tuple(dict.fromkeys(graph.steps))
    if not 0 < len(steps) <= MOST_STEPS:
        return None
    edges = tuple(dict.fromkeys(edge for edge in graph.edges if set(steps).issuperset(edge)))
    waits = tuple((edge, _short(graph.waits[edge])) for edge in edges if edge in graph.waits)
    drawn = _drawn(steps, graph.start, edges, waits)
    marks = dict.fromkeys(done, "done")
    if current is not None:
        marks[current] = mark
    return replace(drawn, boxes=tuple(replace(box, mark=marks.get(box.name, "")) for box in drawn.boxes))


@lru_cache(maxsize=64)  # the same few graphs are looked at each second
def _drawn(
    steps: tuple[str, ...], start: str, edges: tuple[Edge, ...], waiting: tuple[tuple[Edge, str], ...]
) -> Picture:
    waits = dict(waiting)
    written = {edge: len(text) * _SMALL_LETTER + 8 for edge, text in waits.items()}
    loops = {edge[0] for edge in edges if edge[0] == edge[1]}
    room = {step: (_width(step) / 2, _width(step) / 2 + _reach(step, loops, written)) for step in steps}
    found = layout(steps, start, edges, room, written, _MOST_BENDS)
    boxes = {step: _box(node, is_start=step == start) for step, node in found.boxes.items()}
    ports = _Ports(found, boxes)
    arrows = tuple(
        _loop(boxes[edge[0]], waits.get(edge, "")) if edge[0] == edge[1] else ports.arrow(edge, waits.get(edge, ""))
        for edge in edges
    )
    width = max(node.x + node.right for row in found.rows for node in row) + 2 * _MARGIN
    return Picture(round(width), round(_y(len(found.rows) - 1) + _HEIGHT / 2 + _MARGIN), tuple(boxes.values()), arrows)


def _short(name: str) -> str:
    """Return a name as it is written: spelled out here already, so that its length is known."""
    text = str(visible(name))
    return text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 1]}…"


def _width(step: str) -> float:
    return max(len(_short(step)) * _LETTER + _PADDING, 64)


def _reach(step: str, loops: set[str], written: Mapping[Edge, float]) -> float:
    """Return how much a way from a step to itself takes beside its box."""
    return _LOOP + written.get((step, step), 0.0) if step in loops else 0.0


def _y(row: int) -> float:
    return _MARGIN + _HEIGHT / 2 + row * _ROW


def _box(node: Node, *, is_start: bool) -> Box:
    step = node.name
    return Box(step, _short(step), round(_MARGIN + node.x, 1), _y(node.row), _width(step), _HEIGHT, "", is_start)


class _Ports:
    """Where lines leave boxes and reach them: side by side, in the order of where they lead."""

    def __init__(self, found: Layout, boxes: Mapping[str, Box]) -> None:
        self._lines = found.lines
        self._boxes = boxes
        self._below: dict[Edge, float] = {}
        self._above: dict[Edge, float] = {}
        for step in boxes:
            ends = [edge for edge, line in found.lines.items() if line[0].name == step]
            self._spread(step, sorted(ends, key=lambda edge: self._lines[edge][1].x), self._below)
            ends = [edge for edge, line in found.lines.items() if line[-1].name == step]
            self._spread(step, sorted(ends, key=lambda edge: self._lines[edge][-2].x), self._above)

    def _spread(self, step: str, edges: Sequence[Edge], into: dict[Edge, float]) -> None:
        box = self._boxes[step]
        apart = min(_PORT, (box.width - 16) / max(len(edges) - 1, 1))
        for number, edge in enumerate(edges):
            into[edge] = round(box.x + (number - (len(edges) - 1) / 2) * apart, 1)

    def arrow(self, edge: Edge, wait: str) -> Arrow:
        """Draw a way between two boxes; one that leads up ends at the lower side of the upper box."""
        line = self._lines[edge]
        is_down = line[0].name == edge[0]
        top = _y(line[0].row) + _HEIGHT / 2 + (0 if is_down else _TIP)
        bottom = _y(line[-1].row) - _HEIGHT / 2 - (_TIP if is_down else 0)
        points = [(self._below[edge], top)]
        for node in line[1:-1]:
            x = round(_MARGIN + node.x, 1)
            # Straight past boxes, to which it may stand close.
            past = (-_HEIGHT / 2 - 2, _HEIGHT / 2 + 2) if node.row % 2 == 0 else (0.0,)
            points += [(x, _y(node.row) + each) for each in past]
        points.append((self._above[edge], bottom))
        x, y = points[1] if is_down else points[-2]
        return Arrow(_curve(points if is_down else points[::-1]), wait, round(x + 7, 1), round(y + 4, 1))


def _curve(points: Sequence[tuple[float, float]]) -> str:
    """Return a path through points that is upright in each of them."""
    parts = [f"M{points[0][0]:g} {points[0][1]:g}"]
    for (x, y), (to_x, to_y) in pairwise(points):
        middle = (y + to_y) / 2
        parts.append(f"C{x:g} {middle:g} {to_x:g} {middle:g} {to_x:g} {to_y:g}")
    return "".join(parts)


def _loop(box: Box, wait: str) -> Arrow:
    side, out = round(box.x + box.width / 2, 1), round(box.x + box.width / 2 + _LOOP, 1)
    path = f"M{side:g} {box.y - 8:g}C{out:g} {box.y - 14:g} {out:g} {box.y + 14:g} {side + _TIP:g} {box.y + 8:g}"
    return Arrow(path, wait, out, box.y + 4)
