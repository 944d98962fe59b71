"""Runs what opens queues over every engine, as it stands: nothing above the port may lean on one of them."""

from __future__ import annotations

from typing import Final

import pytest

from tests.storage.engines import EMBEDDED, ENGINES, Engine

_OPENERS: Final = {"queue", "still"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test once for each engine; once if it is marked ``embedded``, or its module opens no queue."""
    if "_engine" not in metafunc.fixturenames:
        return
    opens = hasattr(metafunc.module, "Queue") or _OPENERS.intersection(metafunc.fixturenames)
    is_marked = metafunc.definition.get_closest_marker("embedded") is not None
    engines = ENGINES if opens and not is_marked else (EMBEDDED,)
    metafunc.parametrize("_engine", engines, ids=[engine.name for engine in engines], indirect=True)


@pytest.fixture(autouse=True)
def _engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Have queues opened by the engine; the stores of the one in memory are gone with the test."""
    engine: Engine = request.param
    if engine is not EMBEDDED:
        monkeypatch.setattr("taquba_workflow_sync.queue.engines.open_store", engine.opener())
    return engine
