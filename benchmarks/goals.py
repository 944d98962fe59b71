"""The goals of the design, and whether the figures meet them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.figures import Figure

Figures = Mapping[str, Figure]


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound, and how to find what it bounds. `at_least` tells the direction."""

    what: str
    bound: float
    unit: str
    find: Callable[[Figures], float | None]
    at_least: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a goal; `found` None: not measured in this run."""

    goal: Goal
    found: float | None

    @property
    def is_met(self) -> bool:
        if self.found is None:
            return False
        return self.found >= self.goal.bound if self.goal.at_least else self.found <= self.goal.bound

    def margin(self) -> str:
        """Say by how much the goal is met or missed."""
        if self.found is None:
            return ""
        ratio = self.found / self.goal.bound
        side = "above" if ratio >= 1 else "below"
        return f"{abs(ratio - 1) * 100:,.0f} % {side} the goal"


def judge(figures: Figures) -> list[Verdict]:
    """Compare a run's figures with every goal."""
    return [Verdict(goal, goal.find(figures)) for goal in GOALS]


def fastest_durable_peer(figures: Figures) -> Figure | None:
    """Return the fastest of the peers that fsync each commit."""
    durable = [figure for key, figure in figures.items() if key.startswith("peer.durable.")]
    return max(durable, key=lambda figure: figure.value, default=None)


def _value(key: str) -> Callable[[Figures], float | None]:
    return lambda figures: figures[key].value if key in figures else None


def _ratio(key: str) -> Callable[[Figures], float | None]:
    return lambda figures: figures[key].ratio if key in figures else None


def _between(key: str, other: str) -> Callable[[Figures], float | None]:
    return lambda figures: figures[key].value / figures[other].value if {key, other} <= figures.keys() else None


def _to_fastest(key: str) -> Callable[[Figures], float | None]:
    def find(figures: Figures) -> float | None:
        peer = fastest_durable_peer(figures)
        return None if peer is None or key not in figures else figures[key].value / peer.value

    return find


def _to_peer(name: str, ours: str = "noop.16") -> Callable[[Figures], float | None]:
    def find(figures: Figures) -> float | None:
        peer = next((each for key, each in figures.items() if key.startswith("peer.") and key.endswith(name)), None)
        return None if peer is None or ours not in figures else figures[ours].value / peer.value

    return find


def _flatness(durability: str) -> Callable[[Figures], float | None]:
    """Return the worst turn, as a multiple of the small store's."""
    prefix = f"turn.{durability}."
    return lambda figures: max(
        (each.ratio for key, each in figures.items() if key.startswith(prefix) and each.ratio is not None), default=None
    )


GOALS = (
    Goal("no-op steps, 1 worker, of the floor in batches of 1", 0.6, "x", _ratio("noop.1"), at_least=True),
    Goal("no-op steps, 16 workers, of the floor in batches of 16", 0.5, "x", _ratio("noop.16"), at_least=True),
    Goal("no-op steps, 64 workers, of the floor in batches of 16", 0.9, "x", _ratio("noop.64"), at_least=True),
    Goal("no-op steps, 4 workers, of the fastest durable peer", 1.0, "x", _to_fastest("noop.4"), at_least=True),
    Goal("no-op steps, 16 workers, of huey", 4.0, "x", _to_peer("huey"), at_least=True),
    Goal("no-op steps, 16 workers, of dura", 3.0, "x", _to_peer("dura"), at_least=True),
    Goal("memo.put one by one, of dura's checkpoints", 1.0, "x", _to_peer("dura", "memo.1"), at_least=True),
    Goal("memo.put by four steps, of dura's checkpoints", 2.0, "x", _to_peer("dura", "memo.4"), at_least=True),
    Goal("CPU of a flow's step, of the same over bytes", 1.15, "x", _ratio("flows.flow")),
    Goal("signal to start, one process, median", 5.0, "ms", _value("signal.inside")),
    Goal("signal to start, across processes, median", 25.0, "ms", _value("signal.across")),
    Goal("claim cost beside 100,000 parked runs of 1,000 keys, runs of keys", 1.3, "x", _ratio("limits.keyed")),
    Goal("claim cost beside 100,000 parked runs of 1,000 keys, other runs", 1.3, "x", _ratio("limits.plain")),
    Goal("a page of the console over a million runs, the slowest, median", 100.0, "ms", _value("console.pages")),
    Goal(
        "steps of a worker beside a console in six tabs, of without", 0.95, "x", _ratio("console.rate"), at_least=True
    ),
    Goal("CPU of a worker's step beside a console in six tabs, of without", 1.05, "x", _ratio("console.cpu")),
    Goal("submit_group, of submit_many", 0.5, "x", _ratio("groups.one"), at_least=True),
    Goal("end of a group to the start of who waits, median", 25.0, "ms", _value("groups.wake")),
    Goal("four worker processes together, of one", 0.8, "x", _ratio("share.steps.alone"), at_least=True),
    Goal("CPU of a run waited for, 1,000 threads to 8", 1.5, "x", _between("wait.cpu.1000", "wait.cpu.8")),
    Goal("runs waited for, 128 threads to 8", 1.0, "x", _between("wait.rate.128", "wait.rate.8"), at_least=True),
    Goal("submit to result, one process, median", 5.0, "ms", _value("result.inside")),
    Goal("submit to result, across processes, median", 15.0, "ms", _value("result.across")),
    Goal("claim cost, the worst of the large stores to a small one", 1.3, "x", _flatness("full")),
    Goal("claim cost, the same without fsync", 1.3, "x", _flatness("relaxed")),
    Goal("submit to start, one process, median", 3.0, "ms", _value("start.inside")),
    Goal("submit to start, across processes, median", 25.0, "ms", _value("start.across")),
    Goal("submit to start, across processes, idle worker, median", 25.0, "ms", _value("start.across.idle")),
    Goal("four worker processes, fastest to slowest", 2.0, "x", _ratio("share.steps")),
    Goal("four submitting processes, fastest to slowest", 2.0, "x", _ratio("share.submits")),
    Goal("cancel from another process, until the token is set, 99th percentile", 250.0, "ms", _value("cancel.p99")),
    Goal("next attempt after kill -9, another worker lives", 1_000.0, "ms", _value("recovery.alive")),
    Goal("stats()", 100.0, "ms", _value("stats")),
    Goal("import", 100.0, "ms", _value("import")),
    Goal("idle worker, of one core", 1.0, "%", _value("idle")),
)
