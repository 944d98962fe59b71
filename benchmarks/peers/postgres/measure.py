"""What the scripts of this folder share: the command line, and the line printed.

A script is given an empty database, a number of workers, and a rate to begin with; it submits steps that do nothing,
has its library execute all of them, and prints how many a second after the first fifth. Standard library only, as
`peers.measure`, whose clock times them.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import platform
from collections.abc import Callable
from importlib.metadata import version

from ..measure import Timing

HARD_LIMIT_SECONDS = 110.0
PROBE_STEPS = 100

# Executes so many steps with so many workers in the database at the URL, and checks that they were.
Batch = Callable[[str, int, int], Timing]


def main(peer: str, prepare: Callable[[str], None], batch: Batch, *, notes: str, unit: int = 1) -> None:
    """Measure a peer with the workers given on the command line, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=f"Measure {peer}: steps per second with steps that do nothing.")
    parser.add_argument("url", help="an empty database")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rate", type=float, default=0.0, help="steps per second to expect; 0: find out")
    options = parser.parse_args()
    faulthandler.dump_traceback_later(HARD_LIMIT_SECONDS, exit=True)
    prepare(options.url)
    rate = options.rate or batch(options.url, options.workers, _whole(PROBE_STEPS * (2 if options.workers == 1 else 4), unit)).steps_per_s
    timing = batch(options.url, options.workers, _whole(int(rate * options.seconds), unit))
    result = {
        "peer": peer,
        "version": version(peer),
        "python": platform.python_version(),
        "workers": options.workers,
        "steps": timing.steps,
        "seconds": round(timing.seconds, 3),
        "steps_per_s": round(timing.steps_per_s, 1),
        "notes": notes,
    }
    print(json.dumps(result), flush=True)
    faulthandler.cancel_dump_traceback_later()


def _whole(steps: int, unit: int) -> int:
    return max(2, -(-steps // unit)) * unit
