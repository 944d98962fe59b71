from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("flask")
pytest.importorskip("msgspec")

from flask import Flask

from taquba_workflow_sync.contrib.flask import Taquba, status_blueprint
from tests.flask.flows import Flows, flows_of
from tests.postgres import store_url
from tests.storage.engines import EMBEDDED, ENGINES


@pytest.fixture
def flows() -> Flows:
    return flows_of()


@pytest.fixture
def taquba(flows: Flows) -> Taquba:
    return Taquba(flows=flows.all)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what has an application once with a directory, and once with a server unless it is marked ``embedded``."""
    if "engine" in metafunc.fixturenames:
        is_marked = metafunc.definition.get_closest_marker("embedded") is not None
        engines = [EMBEDDED] if is_marked else [engine for engine in ENGINES if engine.name != "memory"]
        metafunc.parametrize("engine", [engine.name for engine in engines])


@pytest.fixture
def app(taquba: Taquba, engine: str, tmp_path: Path) -> Iterator[Flask]:
    """An application with a status page that everybody may see, inside its context."""
    app = Flask("one", instance_path=str(tmp_path / "instance"))
    app.config["TAQUBA_STORE"] = store_url() if engine == "postgres" else str(tmp_path / "store")
    taquba.init_app(app)
    app.register_blueprint(status_blueprint(taquba, can_see=lambda run: True), url_prefix="/runs")
    with app.app_context():
        yield app
        taquba.close()
