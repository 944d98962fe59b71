"""The goals of the engine for several machines."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks.goals import Figures, Goal
from benchmarks.postgres.rates import PROCESSES, WORKERS, WORKERS_EACH


def _value(key: str) -> Callable[[Figures], float | None]:
    return lambda figures: figures[key].value if key in figures else None


def _ratio(key: str) -> Callable[[Figures], float | None]:
    return lambda figures: figures[key].ratio if key in figures else None


def _to_fastest(workers: int, prefix: str) -> Callable[[Figures], float | None]:
    """Return the least of the ratios to peers with as many workers."""
    return lambda figures: min(
        (
            each.ratio
            for key, each in figures.items()
            if key.startswith(prefix) and key.split(".")[2] == str(workers) and each.ratio is not None
        ),
        default=None,
    )


def _flatness(durability: str) -> Callable[[Figures], float | None]:
    """Return the worst turn, as a multiple of the small store's."""
    prefix = f"pg.turn.{durability}."
    return lambda figures: max(
        (each.ratio for key, each in figures.items() if key.startswith(prefix) and each.ratio is not None), default=None
    )


def _of_rates() -> Iterator[Goal]:
    for workers in WORKERS:
        what = "1 worker" if workers == 1 else f"{workers} workers"
        yield Goal(f"{what}, of the floor by sets", 0.5, "x", _ratio(f"pg.steps.{workers}"), at_least=True)
        yield Goal(f"{what}, of the fastest peer", 1.0, "x", _to_fastest(workers, "pgpeer."), at_least=True)
        durable = _to_fastest(workers, "pgpeer.durable.")
        yield Goal(f"{what}, of the fastest durable peer", 3.0, "x", durable, at_least=True)
    what = f"{PROCESSES} processes of {WORKERS_EACH} workers, of the floor by sets"
    yield Goal(what, 0.5, "x", _ratio("pg.steps.processes"), at_least=True)


GOALS = (
    *_of_rates(),
    Goal("claim cost, the worst of the large stores to a small one", 1.3, "x", _flatness("full")),
    Goal("claim cost, the same without waiting for the disk", 1.3, "x", _flatness("relaxed")),
    Goal("submit to start, across processes, median", 10.0, "ms", _value("pg.wake")),
    Goal("submit to start, across processes, idle worker, median", 10.0, "ms", _value("pg.wake.idle")),
    Goal("messages of an idle worker to the server", 1.0, "/s", _value("pg.idle")),
)
