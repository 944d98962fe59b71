"""A store of each engine, and the console over it."""

from __future__ import annotations

import pytest

pytest.importorskip("jinja2")
pytest.importorskip("msgspec")

from taquba_workflow_sync import Queue
from tests.console.site import Site
from tests.engines import _engine, pytest_generate_tests
from tests.queue.fixtures import _no_thread_left, clock, queue, still

__all__ = ["_engine", "_no_thread_left", "clock", "pytest_generate_tests", "queue", "site", "still"]


@pytest.fixture
def site(queue: Queue) -> Site:
    """The console of ``queue``, for somebody who may do everything."""
    return Site({"default": queue})
