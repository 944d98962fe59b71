"""What users would pick instead, each measured in an environment of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.figures import Bench, Section
from benchmarks.peer_envs import PEERS, run_peer

NOT_DURABLE = "no fsync"


def measure(bench: Bench, cache: Path, ours: float | None, say: Callable[[str], None]) -> list[Section]:
    """Measure all peers; `ours` is this library's rate with 16 workers, if this run measured it."""
    section = Section(
        "Peers",
        "The same work, steps that do nothing, by what a user would pick instead; each peer at its fastest setting. The"
        " ratio is this library's rate with 16 workers to the peer's.",
    )
    notes: list[str] = []
    for name in PEERS:
        say(f"peer {name}")
        result = run_peer(name, cache, bench.place)
        rate = result.get("steps_per_s")
        if not isinstance(rate, int | float):
            notes.append(f"{name} could not be measured: {result.get('error')}")
            continue
        durability = str(result["durability"])
        kind = "unsafe" if durability.startswith(NOT_DURABLE) else "durable"
        section.add(
            f"peer.{kind}.{name}",
            f"{name} {result['version']} ({result['setting']}; Python {result['python']}; {durability})",
            [float(rate)],
            "steps/s",
            None if ours is None else ours / rate,
            "this library to it" if ours is not None else "",
        )
        notes.append(f"{name}: {result['notes']}")
    section.how += "".join(f"\n* {note}" for note in notes)
    return [section]
