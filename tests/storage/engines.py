"""The engines that the suite runs over: add one here, and every test of the port is run on it."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from taquba_workflow_sync.storage.embedded import store as embedded
from taquba_workflow_sync.storage.port.store import Durability, OpenOptions, OpenStore, Store
from tests.postgres import clear_stores, server_url, store_url
from tests.storage.memory.store import opener


@dataclass(frozen=True)
class Engine:
    """An engine by name; ``opener`` makes an ``open_store`` for one test, whose stores nobody else sees."""

    name: str
    opener: Callable[[], OpenStore]
    #: Whether ``Queue.backup`` works on it; a server has backups of its own.
    backs_up: bool = True


def _open_embedded(address: str, options: OpenOptions) -> Store:
    place = Path(address)
    if not place.exists():
        shutil.copytree(_empty_embedded_store(), place)
    return embedded.open_store(address, options)


@cache
def _empty_embedded_store() -> Path:
    """A store made once and copied while nobody has it open: making one costs thirty syncs."""
    directory = Path(tempfile.mkdtemp(prefix="taquba-template-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    # Relaxed: what a power cut leaves is not what these tests look at, and they are many.
    embedded.open_store(str(directory / "store"), OpenOptions(durability=Durability.RELAXED)).close()
    return directory / "store"


#: The stores of the test that runs, and those that are there for the next: to make one takes a hundred statements.
_places: Final[dict[str, str]] = {}
_free: Final[list[str]] = []


def _postgres_opener() -> OpenStore:
    from taquba_workflow_sync.storage.postgres.store import open_store as open_url

    places = _places
    clear_stores(places.values())
    _free.extend(places.values())
    places.clear()

    def open_store(address: str, options: OpenOptions) -> Store:
        if address not in places:
            places[address] = _free.pop() if _free else store_url()
        return open_url(places[address], options)

    server_url()  # or the test is skipped
    return open_store


EMBEDDED: Final = Engine("embedded", lambda: _open_embedded)
MEMORY: Final = Engine("memory", opener)
POSTGRES: Final = Engine("postgres", _postgres_opener, backs_up=False)
#: Those that are asked for: a machine that tests on several Pythons tests a server's engine on one.
_ASKED: Final = os.environ.get("TAQUBA_TEST_ENGINES", "embedded,memory,postgres").split(",")
ENGINES: Final = tuple(engine for engine in (EMBEDDED, MEMORY, POSTGRES) if engine.name in _ASKED)
