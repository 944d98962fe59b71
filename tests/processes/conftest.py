from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from taquba_workflow_sync import Queue, WorkflowClient
from tests.processes.harness import Stage, staged


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A store, a witness and whatever processes a test starts; none of them outlives it."""
    yield from staged(tmp_path)


@pytest.fixture
def queue(stage: Stage) -> Iterator[Queue]:
    """The test's own handle on the store: one more process that looks on."""
    with Queue.open(stage.store) as queue:
        yield queue


@pytest.fixture
def client(queue: Queue) -> WorkflowClient:
    return WorkflowClient(queue)
