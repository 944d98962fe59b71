"""Stores of every engine, and ways to let the holder of a claim die."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pytest

from taquba_workflow_sync.storage.port.store import Durability, OpenOptions, Store
from taquba_workflow_sync.testing import ManualClock

from .bench import check_counters
from .deaths import Deaths
from .engines import ENGINES, Engine


class MakeStore(Protocol):
    """Opens one more handle on the test's store, or on the one beside it called ``name``."""

    def __call__(self, name: str = "store", **options: Any) -> Store: ...


@pytest.fixture(params=ENGINES, ids=lambda engine: engine.name)
def engine(request: pytest.FixtureRequest) -> Engine:
    chosen: Engine = request.param
    return chosen


@pytest.fixture
def _backs_up(engine: Engine) -> None:
    """For tests of backups: of engines that make them."""
    if not engine.backs_up:
        pytest.skip("the server makes the backups of this engine")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def make_store(engine: Engine, tmp_path: Path, clock: ManualClock) -> Iterator[MakeStore]:
    opened: list[Store] = []
    open_store = engine.opener()

    def make(name: str = "store", **options: Any) -> Store:
        chosen = replace(OpenOptions(durability=Durability.RELAXED, clock=clock), **options)
        opened.append(open_store(str(tmp_path / name), chosen))
        return opened[-1]

    yield make
    for store in reversed(opened):
        store.close()


@pytest.fixture
def store(make_store: MakeStore) -> Iterator[Store]:
    """A store; after each test its counters must equal its rows, and nothing may be wrong with it."""
    one = make_store()
    yield one
    check_counters(one)
    assert one.check() == []


@pytest.fixture
def deaths(store: Store, make_store: MakeStore, clock: ManualClock) -> Deaths:
    return Deaths(store, make_store, clock)
