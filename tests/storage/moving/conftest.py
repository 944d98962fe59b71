"""Two stores, one of each engine: the source has everything in it, the target is not there yet."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from taquba_workflow_sync import Queue, StorageError
from taquba_workflow_sync.storage.moving import calls
from tests.postgres import store_url
from tests.storage.moving.furnished import furnish

#: In their names for the mark that all tests of the server bear.
DIRECTIONS = ("to-postgres", "from-postgres")


@dataclass(frozen=True)
class Pair:
    """Where a store is moved from, and to; ``spare`` is another place of the target's kind."""

    source: str
    target: str
    spare: str

    def move(self, wait: float = 10, at: object = None) -> int:
        return calls.move(self.source, self.target, wait, at)  # type: ignore[arg-type]

    def abort(self) -> None:
        calls.abort(self.source, self.target)


@cache
def _furnished() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="taquba-furnished-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    with Queue.open(directory / "store", durability="relaxed") as queue:
        furnish(queue)
    return directory / "store"


@pytest.fixture(params=DIRECTIONS)
def direction(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture
def empty_pair(direction: str, tmp_path: Path) -> Pair:
    """Two stores of which neither is there yet."""
    if direction == "to-postgres":
        return Pair(str(tmp_path / "store"), store_url(), store_url())
    return Pair(store_url(), str(tmp_path / "store"), str(tmp_path / "spare"))


@pytest.fixture
def pair(empty_pair: Pair, direction: str) -> Pair:
    if direction == "to-postgres":
        shutil.copytree(_furnished(), empty_pair.source)
    else:
        with Queue.open(empty_pair.source) as queue:
            furnish(queue)
    return empty_pair


def is_open(address: str) -> bool:
    """Whether anybody may work on a store."""
    try:
        Queue.open(address).close()
    except StorageError:
        return False
    return True
