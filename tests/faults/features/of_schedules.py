"""A schedule's moment has at most one run, and none is left out but by the rule of its ``catch_up``."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime

from tests.faults.features.view import STEPS, View
from tests.faults.figures import Figures


def fired(view: View, figures: Figures) -> None:
    """Look at the runs of each schedule, and at its watermark: up to there it is seen to."""
    for schedule in view.schedules:
        name, definition = schedule["name"], json.loads(schedule["definition"])
        found = Counter(
            _moment(row.run, name)
            for row in view.rows.values()
            if row.queue == STEPS and row.run is not None and row.run.startswith(f"{name}-2")
        )
        twice = [each for each, many in found.items() if many > 1]
        figures.doubled += len(twice)
        figures.expect("a moment has one run", not twice, f"schedule {name}: {twice[:5]}")
        start, every = definition["start_ms"], definition["every_ms"]
        last = schedule["watermark_ms"]
        if definition["until_ms"] is not None:
            last = min(last, definition["until_ms"] - 1)
        moments = list(range(start, last + 1, every))
        astray = sorted(found.keys() - set(moments))
        figures.expect("only moments of a schedule are fired", not astray, f"schedule {name}: {astray[:5]}")
        if definition["overlap"] == "skip":
            continue
        wanted = moments if definition["catch_up"] == "all" else moments[-1:]
        missing = [each for each in wanted[-1000:] if each not in found]
        figures.lost += len(missing)
        figures.expect("no moment is left out", not missing, f"schedule {name}: {missing[:5]} up to {last}")


def _moment(run: str, name: str) -> int:
    parsed = datetime.strptime(run.removeprefix(f"{name}-"), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return int(parsed.timestamp() * 1000)
