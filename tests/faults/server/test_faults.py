"""Each fault by its name over workers and clients that go on all the while, and the embedded laboratory's checker."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.server.faults import FAULTS
from tests.faults.server.scene import Fleet, fleet_of

pytestmark = [pytest.mark.soak, pytest.mark.timeout(300)]

#: Some take long each.
_TIMES = {"the server": 2, "kill -9 of a backend": 2, "SIGSTOP": 2, "a zombie": 2, "a silent link": 2}


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with fleet_of(tmp_path / "fleet") as fleet:
        yield fleet


@pytest.mark.parametrize("name", FAULTS)
def test_nothing_is_lost_and_nothing_ends_twice(fleet: Fleet, name: str) -> None:
    times = next((number for part, number in _TIMES.items() if part in name), 6)
    for _ in range(times):
        fleet.goes_on()
        FAULTS[name](fleet)
        fleet.faults[name] += 1
        time.sleep(fleet.chance.uniform(0, 0.3))
    fleet.goes_on()
    figures = fleet.settled()
    figures.assert_clean()
    assert figures.acknowledged > 20
