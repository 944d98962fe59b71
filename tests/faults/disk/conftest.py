from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import interpose
from tests.faults.disk import volume as volumes
from tests.faults.disk.volume import Volume, mounted


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Volume]:
    """A filesystem of eight MiB, empty; unmounted whatever happens."""
    reason = volumes.missing()
    if reason is not None:
        pytest.skip(reason)
    with mounted(tmp_path / "volume", size=8 << 20, inodes=4000) as volume:
        yield volume


@pytest.fixture
def needs_interposer() -> None:
    reason = interpose.missing()
    if reason is not None:
        pytest.skip(reason)
