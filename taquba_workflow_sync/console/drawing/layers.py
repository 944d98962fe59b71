"""A graph in rows: which node stands in which row, in what order, and where, so that its lines cross little.

What is called a layered or Sugiyama drawing. Rows of boxes have even numbers; the rows between them, and those that a
line passes on its way, hold bends. A bend has a place of its own as a box has, so no line runs through a box, and what
is written beside a line over nothing.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

Edge = tuple[str, str]

#: How far apart boxes, and lines, stand at least.
_GAP: Final = 26.0
_LINE_GAP: Final = 12.0
_SWEEPS: Final = 6
_STRAIGHT: Final = 8.0


@dataclass(slots=True, eq=False)
class Node:
    """A box, or a bend of a line (``name`` empty); it takes ``left`` and ``right`` to both sides of its ``x``."""

    name: str
    row: int
    left: float
    right: float
    x: float = 0.0
    place: int = 0
    above: list[Node] = field(default_factory=list)
    below: list[Node] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Layout:
    """Boxes by name, and for each way the nodes that its line passes, from the upper box to the lower one."""

    boxes: Mapping[str, Node]
    lines: Mapping[Edge, Sequence[Node]]
    rows: Sequence[Sequence[Node]]


def layout(
    steps: Sequence[str],
    start: str,
    edges: Sequence[Edge],
    room: Mapping[str, tuple[float, float]],
    written: Mapping[Edge, float],
    most_bends: int,
) -> Layout:
    """Return where everything stands.

    ``room``: how much a box takes to both sides of its middle; ``written``: how wide the text beside a line is. Ways
    that lead to a row above are lines from there. If there were more than ``most_bends``, a line bends only once.
    """
    row_of = _rows_of(steps, start, edges)
    spans = [(edge, sorted(edge, key=row_of.__getitem__)) for edge in edges if edge[0] != edge[1]]
    is_simple = sum(2 * (row_of[low] - row_of[high]) - 1 for _, (high, low) in spans) > most_bends
    boxes = {step: Node(step, 2 * row_of[step], *room[step]) for step in steps}
    rows: list[list[Node]] = [[] for _ in range(2 * max(row_of.values()) + 1)]
    for step in steps:
        rows[boxes[step].row].append(boxes[step])
    lines: dict[Edge, list[Node]] = {}
    for edge, (high, low) in spans:
        first, last = boxes[high].row + 1, boxes[low].row - 1
        # Beside the line where it leaves: the text belongs to the step that waits.
        labelled = first if edge[0] == high else last
        bends = [labelled] if is_simple else list(range(first, last + 1))
        line = [
            boxes[high],
            *(Node("", row, 0.0, written.get(edge, 0.0) * (row == labelled)) for row in bends),
            boxes[low],
        ]
        for bend in line[1:-1]:
            rows[bend.row].append(bend)
        for upper, lower in pairwise(line):
            upper.below.append(lower)
            lower.above.append(upper)
        lines[edge] = line
    _order(rows)
    _place(rows)
    return Layout(boxes, lines, rows)


def _rows_of(steps: Sequence[str], start: str, edges: Sequence[Edge]) -> dict[str, int]:
    """Return how far each step is from the start, at most; ways back are not walked. No row is left empty."""
    after: dict[str, list[str]] = {step: [] for step in steps}
    for source, target in edges:
        after[source].append(target)
    order = _forwards((start, *steps), after)
    place = {step: number for number, step in enumerate(order)}
    depth = dict.fromkeys(steps, 0)
    for step in order:
        for target in after[step]:
            if place[target] > place[step]:
                depth[target] = max(depth[target], depth[step] + 1)
    used = {each: number for number, each in enumerate(sorted(set(depth.values())))}
    return {step: used[each] for step, each in depth.items()}


def _forwards(roots: Sequence[str], after: Mapping[str, list[str]]) -> list[str]:
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


def _order(rows: list[list[Node]]) -> None:
    """Order each row by where its neighbours stand, back and forth, and keep the order that crosses least."""
    _number(rows)
    best, fewest = [list(row) for row in rows], _crossings(rows)
    for sweep in range(_SWEEPS):
        if not fewest:
            break
        for row in rows[1:] if sweep % 2 == 0 else rows[-2::-1]:
            row.sort(key=_middle_above if sweep % 2 == 0 else _middle_below)
            _number([row])
        crossings = _crossings(rows)
        if crossings < fewest:
            best, fewest = [list(row) for row in rows], crossings
    for row, kept in zip(rows, best, strict=True):
        row[:] = kept


def _number(rows: Sequence[Sequence[Node]]) -> None:
    for row in rows:
        for place, node in enumerate(row):
            node.place = place


def _middle_above(node: Node) -> float:
    return sum(each.place for each in node.above) / len(node.above) if node.above else node.place


def _middle_below(node: Node) -> float:
    return sum(each.place for each in node.below) / len(node.below) if node.below else node.place


def _crossings(rows: Sequence[Sequence[Node]]) -> int:
    """Return how many lines cross between one row and the next."""
    found = 0
    for number, row in enumerate(rows):
        seen: list[int] = []
        for node in row:
            ends = sorted(each.place for each in node.below if each.row == number + 1)
            found += sum(len(seen) - bisect_right(seen, end) for end in ends)
            for end in ends:
                insort(seen, end)
    return found


def _place(rows: Sequence[Sequence[Node]]) -> None:
    """Move each node as near to the middle of its neighbours as its row lets it, back and forth."""
    for row in rows:
        at = 0.0
        for node, distance in zip(row, [0.0, *_distances(row)], strict=False):
            at += distance
            node.x = at
    for sweep in range(2 * _SWEEPS):
        for row in rows if sweep % 2 == 0 else rows[::-1]:
            wanted = [_wanted(node, is_down=sweep % 2 == 0) for node in row]
            for node, x in zip(
                row, _apart([at for at, _ in wanted], [each for _, each in wanted], _distances(row)), strict=True
            ):
                node.x = x
    least = min(node.x - node.left for row in rows for node in row)
    for row in rows:
        for node in row:
            node.x -= least


def _distances(row: Sequence[Node]) -> list[float]:
    """Return how far the middle of each node of a row must be from that of the next."""
    return [one.right + other.left + (_GAP if one.name and other.name else _LINE_GAP) for one, other in pairwise(row)]


def _wanted(node: Node, *, is_down: bool) -> tuple[float, float]:
    """Return where a node would like to be, and how much that matters; a bend, most: its line should be straight."""
    near = (node.above or node.below) if is_down else (node.below or node.above)
    if not near:
        return node.x, 1.0
    weights = [_STRAIGHT if not each.name else 1.0 for each in near]
    at = sum(each.x * weight for each, weight in zip(near, weights, strict=True)) / sum(weights)
    return at, (1.0 if node.name else _STRAIGHT)


def _apart(wanted: Sequence[float], weights: Sequence[float], distances: Sequence[float]) -> list[float]:
    """Return places in order, each so far from the next at least, as near to those wanted as can be.

    Least squares: neighbours that come too close become one block, which stands where the mean of them would.
    """
    offsets = [0.0]
    for distance in distances:
        offsets.append(offsets[-1] + distance)
    blocks: list[tuple[float, float, int]] = []  # its place, its weight, how many are in it
    for at, weight, offset in zip(wanted, weights, offsets, strict=False):
        block = (at - offset, weight, 1)
        while blocks and blocks[-1][0] >= block[0]:
            place, heavy, many = blocks.pop()
            total = heavy + block[1]
            block = ((place * heavy + block[0] * block[1]) / total, total, many + block[2])
        blocks.append(block)
    places = [place for place, _, many in blocks for _ in range(many)]
    return [place + offset for place, offset in zip(places, offsets, strict=False)]
