from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest

from taquba_workflow_sync import Queue
from taquba_workflow_sync.testing import ManualClock

if importlib.util.find_spec("msgspec") is None:  # the extra is not installed
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def queue(clock: ManualClock) -> Iterator[Queue]:
    with Queue.temporary(clock=clock) as queue:
        yield queue
