"""The figures as a page of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from benchmarks.figures import Figure, Section
from benchmarks.goals import GOALS, Figures, Goal, Verdict, fastest_durable_peer, judge

HEAD = """# Results

Written by `python -m benchmarks`, in one run. Machines are noisy: only ratios within one run count. A figure is the
median of its rounds; where there were several, the least and the greatest follow in brackets.
"""


def render(
    machine: Mapping[str, str],
    sections: Sequence[Section],
    missing: Sequence[str],
    *,
    head: str = HEAD,
    goals: Sequence[Goal] = GOALS,
) -> str:
    """Return the page; `missing` names what was left out or failed."""
    figures = {figure.key: figure for section in sections for figure in section.figures}
    parts = [head, _table(("", ""), [(f"**{name}**", value) for name, value in machine.items()])]
    if missing:
        parts.append(f"> Not measured in this run: {', '.join(missing)}.\n")
    parts.append(_goals(figures, goals))
    parts += [_section(section) for section in sections]
    return "\n".join(parts)


def _goals(figures: Figures, goals: Sequence[Goal]) -> str:
    rows = [_goal(verdict) for verdict in judge(figures, goals)]
    peer = fastest_durable_peer(figures)
    note = "" if peer is None else f"\nThe fastest durable peer of this run: {peer.what}.\n"
    return "## Goals\n\n" + _table(("goal", "bound", "here", "", "by"), rows) + note


def _goal(verdict: Verdict) -> tuple[str, ...]:
    goal = verdict.goal
    bound = f"{'at least' if goal.at_least else 'at most'} {_number(goal.bound)} {goal.unit}"
    if verdict.found is None:
        return goal.what, bound, "-", "not measured", ""
    found = f"{_number(verdict.found)} {goal.unit}"
    return goal.what, bound, found, "met" if verdict.is_met else "**not met**", verdict.margin()


def _section(section: Section) -> str:
    rows = [_figure(figure) for figure in section.figures]
    return f"## {section.title}\n\n{section.how}\n\n" + _table(("what", "figure", "ratio", "to"), rows)


def _figure(figure: Figure) -> tuple[str, ...]:
    text = f"{_number(figure.value)} {figure.unit}"
    if len(figure.values) > 1:
        text += f" ({_number(min(figure.values))}-{_number(max(figure.values))})"
    return figure.what, text, "" if figure.ratio is None else f"{figure.ratio:.2f}", figure.against


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
