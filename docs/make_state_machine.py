"""Draw the state machine from the transition table, and write that table into ``architecture.md``.

    python docs/make_state_machine.py            # write state-machine.svg and the table
    python docs/make_state_machine.py --check    # change nothing; exit 1 if either is out of date

What is drawn comes from ``TRANSITIONS`` alone. This file only knows where things stand on the page: a transition that
has no place here is an error, and so is a place that no transition needs.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from taquba_workflow_sync.storage.port.transitions import TRANSITIONS, Transition

DOCS = Path(__file__).resolve().parent
PICTURE = DOCS / "state-machine.svg"
PAGE = DOCS / "architecture.md"
BEGIN = "<!-- transitions: written by make_state_machine.py -->"
END = "<!-- end of transitions -->"

NEW, GONE = "new", "gone"  # before the row exists, and after
WIDTH, HEIGHT = 1120, 610
BOX_WIDTH, BOX_HEIGHT = 116, 44
LINE_HEIGHT = 17

CENTRES = {
    NEW: (50, 200),
    "scheduled": (270, 85),
    "pending": (270, 315),
    "claimed": (600, 200),
    "done": (930, 85),
    "dead": (930, 315),
    "cancelled": (600, 505),
    GONE: (1075, 315),
}
COLOURS = {"waiting": "#dbe9fb", "claimed": "#fdebc8", "finished": "#e3f1dd", "none": "#f2f2f2"}
KINDS = {
    NEW: "none",
    GONE: "none",
    "scheduled": "waiting",
    "pending": "waiting",
    "claimed": "claimed",
    "done": "finished",
    "dead": "finished",
    "cancelled": "finished",
}


@dataclass(frozen=True)
class Route:
    """One arrow: its path, and where its label starts (``anchor`` as in SVG's ``text-anchor``)."""

    path: str
    label: tuple[int, int]
    anchor: str = "middle"


ROUTES = {
    (NEW, "scheduled"): Route("M 75 188 L 210 104", (128, 138), "end"),
    (NEW, "pending"): Route("M 75 212 L 210 296", (128, 272), "end"),
    ("scheduled", "pending"): Route("M 246 107 L 246 291", (238, 204), "end"),
    ("pending", "claimed"): Route("M 328 318 C 430 302 492 266 552 224", (474, 296), "start"),
    ("claimed", "pending"): Route("M 540 206 C 460 210 400 246 331 299", (408, 186), "start"),
    ("claimed", "scheduled"): Route("M 540 192 C 470 180 400 148 331 104", (458, 130), "start"),
    ("claimed", "claimed"): Route("M 574 178 C 560 122 640 122 627 176", (600, 112)),
    ("claimed", "done"): Route("M 658 188 C 740 168 800 140 869 102", (764, 138), "end"),
    ("claimed", "dead"): Route("M 658 212 C 740 232 800 258 869 298", (776, 212), "start"),
    ("claimed", "cancelled"): Route("M 606 222 L 606 481", (616, 428), "start"),
    ("pending", "cancelled"): Route("M 286 337 C 340 420 440 470 540 494", (364, 404), "start"),
    ("scheduled", "cancelled"): Route("M 212 92 C 60 190 60 520 540 512", (124, 400), "end"),
    ("dead", "pending"): Route("M 872 322 C 760 352 480 352 331 326", (700, 362)),
    ("done", "pending"): Route("M 884 63 C 760 0 470 -10 400 60 C 372 96 350 200 310 291", (640, 36)),
    ("done", GONE): Route("M 988 92 C 1040 110 1066 200 1073 287", (1036, 174), "end"),
    ("dead", GONE): Route("M 988 315 L 1047 315", (1018, 307)),
    ("cancelled", GONE): Route("M 658 508 C 880 512 1060 470 1074 343", (980, 490), "start"),
}


def arrows() -> dict[tuple[str, str], list[str]]:
    """Return the names of the transitions between each two states, in the order of the table."""
    found: dict[tuple[str, str], list[str]] = {}
    for transition in TRANSITIONS:
        if not transition.is_drawn:
            continue
        for source in sorted(transition.sources) or [NEW]:
            for target in sorted(transition.targets) or [GONE]:
                found.setdefault((str(source), str(target)), []).append(label_of(transition, str(target)))
    return found


def label_of(transition: Transition, target: str) -> str:
    """Return the name, starred if the row may be gone afterwards instead of standing in ``target``."""
    return f"{transition.name}*" if transition.may_vanish and KINDS[target] == "finished" else transition.name


def svg() -> str:
    """Return the picture."""
    drawn = arrows()
    if drawn.keys() != ROUTES.keys():
        raise SystemExit(
            f"ROUTES lacks {sorted(drawn.keys() - ROUTES.keys())}"
            f" and has too much: {sorted(ROUTES.keys() - drawn.keys())}"
        )
    return "\n".join([*_head(), *_arrows(drawn), *_boxes(), *_legend(), "</svg>", ""])


def _head() -> Iterator[str]:
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
    yield '     font-family="DejaVu Sans, Verdana, sans-serif" font-size="13">'
    yield "  <title>The states of a job and the transitions between them</title>"
    yield '  <defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8"'
    yield '    orient="auto-start-reverse"><path d="M 0 0 L 10 5 L 0 10 z" fill="#444"/></marker></defs>'
    yield f'  <rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'


def _arrows(drawn: dict[tuple[str, str], list[str]]) -> Iterator[str]:
    for pair in drawn:
        yield f'  <path d="{ROUTES[pair].path}" fill="none" stroke="#444" stroke-width="1.4" marker-end="url(#tip)"/>'
    # After all the arrows, each name first in thick white, so that no arrow runs through it.
    for pair, names in drawn.items():
        x, y = ROUTES[pair].label
        for number, name in enumerate(names):
            where = f'x="{x}" y="{y + number * LINE_HEIGHT}" text-anchor="{ROUTES[pair].anchor}"'
            yield f'  <text {where} fill="#fff" stroke="#fff" stroke-width="5">{escape(name)}</text>'
            yield f'  <text {where} fill="#222">{escape(name)}</text>'


def _boxes() -> Iterator[str]:
    for state, (x, y) in CENTRES.items():
        fill = COLOURS[KINDS[state]]
        if KINDS[state] == "none":
            yield f'  <circle cx="{x}" cy="{y}" r="26" fill="{fill}" stroke="#888" stroke-dasharray="4 3"/>'
        else:
            left, top = x - BOX_WIDTH // 2, y - BOX_HEIGHT // 2
            yield (
                f'  <rect x="{left}" y="{top}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="8" fill="{fill}"'
                ' stroke="#444"/>'
            )
        yield f'  <text x="{x}" y="{y + 5}" text-anchor="middle" font-weight="bold">{escape(state)}</text>'


def _legend() -> Iterator[str]:
    text = "* the row may be gone instead: a bare job (not a run) of a queue that keeps nothing of that kind"
    yield f'  <text x="24" y="{HEIGHT - 24}" fill="#444">{escape(text)}</text>'


def table() -> str:
    """Return the transition table as Markdown."""
    lines = ["| transition | from | to | guard | also, in the same commit |", "|---|---|---|---|---|"]
    for transition in TRANSITIONS:
        sources = _names(transition.sources, "(none)")
        targets = _names(transition.targets, "gone")
        if transition.may_vanish and transition.targets:
            targets += ", or gone"
        lines.append(f"| `{transition.name}` | {sources} | {targets} | {transition.guard} | {transition.also} |")
    return "\n".join(lines)


def _names(states: frozenset[str], none: str) -> str:
    order = [state for state in CENTRES if state in states]
    return ", ".join(order) or none


def page() -> str:
    """Return ``architecture.md`` with the table as it should be."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"{PAGE.name} lacks the lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def stale() -> list[Path]:
    """Return the files that are not what this program would write."""
    wanted = {PICTURE: svg(), PAGE: page()}
    return [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]


def main() -> None:
    """Write both files, or check them."""
    parser = argparse.ArgumentParser(description="Write the state machine's picture and table.")
    parser.add_argument("--check", action="store_true", help="only say what is out of date")
    if parser.parse_args().check:
        names = [path.name for path in stale()]
        raise SystemExit(f"out of date: {', '.join(names)}; run docs/make_state_machine.py" if names else 0)
    for path, text in ((PICTURE, svg()), (PAGE, page())):
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path.name}")


if __name__ == "__main__":
    main()
