from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("flask")
pytest.importorskip("msgspec")

from flask import Flask

from taquba_workflow_sync.contrib.flask import Taquba, status_blueprint
from tests.flask.flows import Flows, flows_of


@pytest.fixture
def flows() -> Flows:
    return flows_of()


@pytest.fixture
def taquba(flows: Flows) -> Taquba:
    return Taquba(flows=flows.all)


@pytest.fixture
def app(taquba: Taquba, tmp_path: Path) -> Iterator[Flask]:
    """An application with a status page that everybody may see, inside its context."""
    app = Flask("one", instance_path=str(tmp_path / "instance"))
    app.config["TAQUBA_STORE"] = str(tmp_path / "store")
    taquba.init_app(app)
    app.register_blueprint(status_blueprint(taquba, can_see=lambda run: True), url_prefix="/runs")
    with app.app_context():
        yield app
        taquba.close()
