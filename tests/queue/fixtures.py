"""Fixtures used by several folders; each conftest imports what it needs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from taquba_workflow_sync import Queue, QueueConfig
from taquba_workflow_sync.testing import ManualClock
from tests.support import no_thread_left_behind

from .support import START


@pytest.fixture(autouse=True)
def _no_thread_left() -> Iterator[None]:
    with no_thread_left_behind():
        yield


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
def queue(tmp_path: Path, _no_thread_left: None) -> Iterator[Queue]:
    """A queue by the wall clock, whose retries come at once."""
    with Queue.open(
        tmp_path / "store", durability="relaxed", default_config=QueueConfig(retry_backoff_base=0)
    ) as queue:
        yield queue


@pytest.fixture
def still(tmp_path: Path, clock: ManualClock, _no_thread_left: None) -> Iterator[Queue]:
    """A queue with the default configuration, whose clock stands still until it is advanced."""
    with Queue.open(tmp_path / "still", durability="relaxed", clock=clock) as queue:
        yield queue
