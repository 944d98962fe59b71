"""One fixture by which an engine is plugged into the whole suite: add it to ENGINES."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import pytest

from taquba_workflow_sync.clock import Clock
from taquba_workflow_sync.storage.embedded.store import EmbeddedStore
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.testing import ManualClock

from .bench import check_counters


class MakeStore(Protocol):
    """Opens one more handle on the test's store; options are the engine's own."""

    def __call__(self, **options: Any) -> Store: ...


@dataclass(frozen=True)
class Engine:
    """How the suite opens a store of one engine at a directory of its own."""

    name: str
    open: Callable[..., Store]


def _open_embedded(place: Path, *, clock: Clock, running: Collection[str], **options: Any) -> Store:
    if not place.exists():
        shutil.copytree(_empty_embedded_store(), place)
    # Relaxed: what a power cut leaves is not what these tests look at, and they are many.
    return EmbeddedStore(place, clock=clock, running=running, **{"is_durable": False, **options})


@cache
def _empty_embedded_store() -> Path:
    """A store made once and copied while nobody has it open: making one costs thirty syncs."""
    directory = Path(tempfile.mkdtemp(prefix="taquba-template-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    EmbeddedStore(directory / "store").close()
    return directory / "store"


ENGINES = [Engine("embedded", _open_embedded)]


@pytest.fixture(params=ENGINES, ids=lambda engine: engine.name)
def engine(request: pytest.FixtureRequest) -> Engine:
    chosen: Engine = request.param
    return chosen


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def running() -> set[str]:
    """The tokens whose steps run in this process, for every handle of the test."""
    return set()


@pytest.fixture
def make_store(engine: Engine, tmp_path: Path, clock: ManualClock, running: set[str]) -> Iterator[MakeStore]:
    opened: list[Store] = []

    def make(**options: Any) -> Store:
        store = engine.open(tmp_path / "store", **{"clock": clock, "running": running, **options})
        opened.append(store)
        return store

    yield make
    for store in reversed(opened):
        store.close()


@pytest.fixture
def store(make_store: MakeStore) -> Iterator[Store]:
    """A store; after each test its counters must equal its rows."""
    one = make_store()
    yield one
    check_counters(one)
