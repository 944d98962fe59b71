"""The long form: every fault in random order over one store for all of the time, a user's transaction beside a part.

The store is looked at as a whole four times: everybody drains, the checker reads all, and everybody begins again. Where
it finds something, a new store on a new server takes the old one's place.
"""

from __future__ import annotations

import random
import sys
import time
import traceback
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from tests.faults.figures import Figures
from tests.faults.server.bloat import Bloat
from tests.faults.server.faults import FAULTS
from tests.faults.server.scene import PART, SCHEMA, Fleet, fleet_of
from tests.postgres import _binaries

_LOOKS: Final = 4
_TEN_MINUTES: Final = 600.0
#: As docs/fleet/operating.md asks for.
_SETTINGS: Final = {"autovacuum_naptime": "15s"}
#: Beside a user's transaction: these would end it.
_END_EVERYTHING: Final = {"kill -9 of a backend", "kill -9 of the server", "the server restarted"}
#: The fleet counts every process that it kills.
_COUNTS_ITSELF: Final = "kill -9 of a worker"


def long_form(minutes: float, directory: Path) -> Figures:
    """Fault after fault until the time is over."""
    figures = Figures(PART)
    if _binaries() is None:
        figures.checked["nothing: no binaries of PostgreSQL here"] += 1
        return figures
    began = time.monotonic()
    seconds = minutes * 60
    number = 0
    while not number or (time.monotonic() < began + seconds and figures.violations):
        seed = random.SystemRandom().randrange(1 << 30)
        _say(f"fleet {number}, seed {seed}")
        with fleet_of(directory / f"fleet-{number}", settings=_SETTINGS, seed=seed) as fleet:
            found = Figures(PART)
            try:
                found = _lived(fleet, began, seconds)
            except Exception:
                found.faults += fleet.faults
                found.violations.append(f"it did not come to its end:\n{traceback.format_exc()}")
            found.violations = [f"fleet {number}, seed {seed}: {each}" for each in found.violations]
        figures.add(found)
        number += 1
    return figures


def _lived(fleet: Fleet, began: float, seconds: float) -> Figures:
    """Return what was found of one store: until the time is over, or the checker finds something."""
    found = Figures(PART)
    first = time.monotonic()
    left = began + seconds - first
    with _User(fleet, first + left / 3, min(_TEN_MINUTES, left / 6)) as user:
        with closing(Bloat(fleet.server.loopback_url, SCHEMA, fleet.ended_runs, _say)) as bloat:
            for look in range(1, _LOOKS + 1):
                until = first + left * look / _LOOKS
                while time.monotonic() < until:
                    bloat.is_held = user.is_open()
                    names = [name for name in FAULTS if not (bloat.is_held and name in _END_EVERYTHING)]
                    name = fleet.chance.choice(names)
                    FAULTS[name](fleet)
                    fleet.faults[name] += name != _COUNTS_ITSELF
                    time.sleep(fleet.chance.uniform(0, 0.5))
                fleet.goes_on()
                checked = found.checked
                found = fleet.settled()
                found.checked += checked
                _say(f"look {look}: {found.acknowledged:,} acknowledged, {len(found.violations)} violations")
                if found.violations or look == _LOOKS:
                    break
                fleet.begin_again()
    found.notes += bloat.notes()
    found.notes.append(f"the user's transaction was open for {user.held_s:.0f} s")
    return found


class _User:
    """Has a transaction open, with a transaction id of its own, for a while."""

    def __init__(self, fleet: Fleet, at: float, seconds: float) -> None:
        self._fleet = fleet
        self._at = at
        self._until = at + seconds
        self._connection: Any = None
        self._opened = 0.0
        self.held_s = 0.0

    def is_open(self) -> bool:
        """Open it, or end it, when it is time; whether it is open."""
        import psycopg

        now = time.monotonic()
        if self._connection is None and not self.held_s and now >= self._at:
            self._connection = psycopg.connect(self._fleet.server.loopback_url)
            self._connection.execute("SELECT txid_current()")
            self._opened = now
        if self._connection is not None and now >= self._until:
            self._connection.commit()  # raises if the server has ended it
            self._connection.close()
            self._connection, self.held_s = None, now - self._opened
        return self._connection is not None

    def __enter__(self) -> _User:
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()


def _say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)
