"""A scene for each test, and the reason where there can be none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import interpose
from tests.faults.wal.scene import WalScene


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[WalScene]:
    reason = interpose.missing()
    if reason is not None:
        pytest.skip(reason)
    scene = WalScene(tmp_path.resolve())
    try:
        yield scene
    finally:
        scene.close()
