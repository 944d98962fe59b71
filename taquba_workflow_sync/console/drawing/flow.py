"""A flow's graph as boxes and arrows: steps in layers from top to bottom, ways back at the side."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from taquba_workflow_sync.console.texts import visible
from taquba_workflow_sync.flow.graph import Edge, Graph

_HEIGHT: Final = 34
_LAYER: Final = 78
_GAP: Final = 28
_LETTER: Final = 7.6
_PADDING: Final = 28
_MARGIN: Final = 14
_SIDE: Final = 26
#: Half of what is between two rows, less the arrow's tip.
_ROOM: Final = 19.5
#: More steps than that are listed instead: nobody reads such a picture.
MOST_STEPS: Final = 60
_LONGEST_NAME: Final = 32


@dataclass(frozen=True, slots=True)
class Box:
    """A step, by the middle of its box. ``mark``: "current", "done" or ""."""

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
    """A way from a step to the next: a path, and where what is waited for on it begins, between two rows."""

    path: str
    wait: str
    x: float
    y: float
    anchor: str = "start"


@dataclass(frozen=True, slots=True)
class Picture:
    """The whole, in a box of that size."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]


def picture(graph: Graph, *, current: str | None = None, done: Collection[str] = ()) -> Picture | None:
    """Draw a graph, with a run's current step and those behind it; None if it is too large to be read, or empty."""
    if not 0 < len(graph.steps) <= MOST_STEPS:
        return None
    steps = tuple(dict.fromkeys(graph.steps))
    edges = [edge for edge in graph.edges if set(steps).issuperset(edge)]
    layers = _layers(steps, graph.start, edges)
    layer_of = {step: number for number, layer in enumerate(layers) for step in layer}
    texts = {step: _short(step) for step in steps}
    widths = {step: _width(texts[step]) for step in steps}
    inner = max(sum(widths[step] for step in layer) + _GAP * (len(layer) - 1) for layer in layers)
    down = [edge for edge in edges if layer_of[edge[0]] < layer_of[edge[1]]]
    back = [edge for edge in edges if layer_of[edge[0]] >= layer_of[edge[1]]]
    left = _MARGIN + (_SIDE * min(len(back), 3) if back else 0)
    boxes: dict[str, Box] = {}
    for number, layer in enumerate(layers):
        x = left + (inner - sum(widths[step] for step in layer) - _GAP * (len(layer) - 1)) / 2
        for step in layer:
            mark = "current" if step == current else ("done" if step in done else "")
            y = _MARGIN + _HEIGHT / 2 + number * _LAYER
            boxes[step] = Box(
                step, texts[step], x + widths[step] / 2, y, widths[step], _HEIGHT, mark, step == graph.start
            )
            x += widths[step] + _GAP
    arrows = [_down(boxes, edge, graph.waits) for edge in down]
    arrows += [_back(boxes, edge, graph.waits, left - _SIDE * (1 + place % 3)) for place, edge in enumerate(back)]
    # Room for what is written beside an arrow at the right.
    written = max((each.x + len(each.wait) * _LETTER for each in arrows), default=0.0)
    width = max(left + inner + _MARGIN, written + _MARGIN)
    height = 2 * _MARGIN + _HEIGHT + (len(layers) - 1) * _LAYER
    return Picture(round(width), round(height), tuple(boxes.values()), tuple(arrows))


def _short(name: str) -> str:
    """Return a name as it is written: spelled out here already, so that its length is known."""
    text = str(visible(name))
    return text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 1]}…"


def _width(text: str) -> float:
    return max(len(text) * _LETTER + _PADDING, 64)


def _layers(steps: Sequence[str], start: str, edges: Sequence[Edge]) -> list[list[str]]:
    """Return the steps by how far they are from the start, at most; ways back are not walked."""
    depth = dict.fromkeys(steps, 0)
    after: dict[str, list[str]] = {step: [] for step in steps}
    for source, target in edges:
        after[source].append(target)
    order = _order((start, *steps), after)
    place = {step: number for number, step in enumerate(order)}
    for step in order:
        for target in after[step]:
            if place[target] > place[step]:
                depth[target] = max(depth[target], depth[step] + 1)
    layers: list[list[str]] = [[] for _ in range(max(depth.values(), default=0) + 1)]
    for step in steps:
        layers[depth[step]].append(step)
    return [layer for layer in layers if layer]


def _order(roots: Sequence[str], after: Mapping[str, list[str]]) -> list[str]:
    """Return the steps so that each comes before those that it leads to, but for ways back.

    Depth first, without recursion: a chain may be as long as it likes.
    """
    seen: set[str] = set()
    left: list[str] = []
    for root in roots:
        if root in seen or root not in after:
            continue
        seen.add(root)
        stack = [(root, iter(after[root]))]
        while stack:
            step, rest = stack[-1]
            found = next((each for each in rest if each not in seen), None)
            if found is None:
                left.append(step)
                stack.pop()
            else:
                seen.add(found)
                stack.append((found, iter(after[found])))
    return left[::-1]


def _down(boxes: Mapping[str, Box], edge: Edge, waits: Mapping[Edge, str]) -> Arrow:
    source, target = boxes[edge[0]], boxes[edge[1]]
    top, bottom = source.y + source.height / 2, target.y - target.height / 2 - 5
    middle = (top + bottom) / 2
    path = (
        f"M{source.x:.1f} {top:.1f}C{source.x:.1f} {middle:.1f} {target.x:.1f} {middle:.1f} {target.x:.1f} {bottom:.1f}"
    )
    # Between two rows, where no box is: where the curve passes the room below its source.
    t = _ROOM / (bottom - top) / 1.5 if bottom - top > _LAYER else 0.5
    x = source.x + (target.x - source.x) * (3 * t**2 - 2 * t**3)
    return Arrow(path, _short(waits.get(edge, "")), round(x + 8, 1), round(top + _ROOM + 4, 1))


def _back(boxes: Mapping[str, Box], edge: Edge, waits: Mapping[Edge, str], x: float) -> Arrow:
    source, target = boxes[edge[0]], boxes[edge[1]]
    start, end = source.x - source.width / 2, target.x - target.width / 2 - 5
    low, high = source.y + 6, target.y - 6
    if edge[0] == edge[1]:
        low, high, x = source.y + 10, source.y - 10, start - _SIDE + 2
    path = f"M{start:.1f} {low:.1f}C{x:.1f} {low:.1f} {x:.1f} {high:.1f} {end:.1f} {high:.1f}"
    above = 3 if source.y == target.y else _ROOM
    return Arrow(path, _short(waits.get(edge, "")), round(x + 4, 1), round(source.y - source.height / 2 - above, 1))
