"""The engines that the suite runs over: add one here, and every test of the port is run on it."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from taquba_workflow_sync.storage.embedded import store as embedded
from taquba_workflow_sync.storage.port.store import Durability, OpenOptions, OpenStore, Store
from tests.storage.memory.store import opener


@dataclass(frozen=True)
class Engine:
    """An engine by name; ``opener`` makes an ``open_store`` for one test, whose stores nobody else sees."""

    name: str
    opener: Callable[[], OpenStore]


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


EMBEDDED: Final = Engine("embedded", lambda: _open_embedded)
MEMORY: Final = Engine("memory", opener)
ENGINES: Final = (EMBEDDED, MEMORY)
