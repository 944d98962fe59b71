"""The long form: every fault in random order over fleets; and a ten-minute transaction beside the first."""

from __future__ import annotations

import random
import sys
import time
from contextlib import nullcontext
from pathlib import Path

from tests.faults.figures import Figures
from tests.faults.server.faults import FAULTS
from tests.faults.server.scene import PART, fleet_of
from tests.postgres import _binaries

_FAULTS_PER_FLEET = 25
_TEN_MINUTES = 600.0


def long_form(minutes: float, directory: Path) -> Figures:
    """Fault after fault until the time is over, each fleet over a server of its own."""
    figures = Figures(PART)
    if _binaries() is None:
        figures.checked["nothing: no binaries of PostgreSQL here"] += 1
        return figures
    import psycopg

    until = time.monotonic() + minutes * 60
    number = 0
    while time.monotonic() < until or not number:
        seed = random.SystemRandom().randrange(1 << 30)
        print(f"fleet {number}, seed {seed}", file=sys.stderr)
        with fleet_of(directory / f"fleet-{number}", seed=seed) as fleet:
            # The first has a user's transaction beside it, which ends with the first server that does.
            user = psycopg.connect(fleet.server.loopback_url) if not number else None
            with user or nullcontext():
                if user is not None:
                    user.execute("SELECT txid_current()")
                done = 0
                began = time.monotonic()
                while done < _FAULTS_PER_FLEET and time.monotonic() < until:
                    names = [
                        name for name in FAULTS if user is None or ("server" not in name and "backend" not in name)
                    ]
                    name = fleet.chance.choice(names)
                    FAULTS[name](fleet)
                    fleet.faults[name] += 1
                    done += 1
                    time.sleep(fleet.chance.uniform(0, 0.5))
                while user is not None and time.monotonic() < min(until, began + _TEN_MINUTES):
                    fleet.goes_on()
                fleet.goes_on()
            figures.add(fleet.settled())
        number += 1
    return figures
