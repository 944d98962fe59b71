"""The long form: every scenario with more preemptions, then random walks that may switch before every single step."""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

from tests.faults.figures import Figures

from .explorer import Explorer, Stage, report
from .instruments import instrumented
from .scenarios import EVERY_SCENARIO, WITH_THREE_ACTORS

_EXPLORING = 0.6  # of the time; the rest is for the walks


def long_form(minutes: float, directory: Path) -> Figures:
    """Explore for about so many minutes; the seeds of the walks are in the notes and in what a violation says."""
    figures = Figures("schedules")
    scenarios = (*EVERY_SCENARIO, *WITH_THREE_ACTORS)
    end = time.monotonic() + minutes * 60
    seed = random.SystemRandom().randrange(1 << 32)
    figures.notes.append(f"random walks from seed {seed}")
    for number, scenario in enumerate(scenarios):
        now = time.monotonic()
        # What a small scenario leaves of its share goes to those after it.
        share = (end - now) / (len(scenarios) - number)
        print(f"schedules: {scenario.name}, {share:.0f} s", file=sys.stderr)
        with instrumented() as instruments:
            stage = Stage(scenario, directory / f"schedules-{number}", instruments)
            try:
                explorer = Explorer(stage)
                explorer.find_serial_outcomes()
                explorer.explore(until=now + share * _EXPLORING)
                figures.faults["preemptions"] += explorer.report.preemptions
                report(explorer.report, figures)
                walker = Explorer(stage, reduced=False, serial=explorer)
                walker.walk(seed, until=now + share)
                figures.faults["preemptions"] += walker.report.preemptions
                report(walker.report, figures)
            finally:
                stage.close()
    return figures
