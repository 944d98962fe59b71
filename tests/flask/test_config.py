"""What the configuration says of the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from taquba_workflow_sync import Queue, QueueConfig, StoreInUseError
from taquba_workflow_sync.contrib.flask import Taquba
from taquba_workflow_sync.contrib.flask.config import OPTIONS


def app_with(tmp_path: Path, **config: Any) -> Flask:
    app = Flask("app", instance_path=str(tmp_path / "instance"))
    app.config.update(TAQUBA_STORE=str(tmp_path / "store"), **config)
    return app


def test_a_name_that_is_no_option_is_refused_and_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"TAQUBA_STOER, which is no option.*TAQUBA_STORE, TAQUBA_DEFAULT_CONFIG"):
        Taquba(app_with(tmp_path, TAQUBA_STOER="x"))


def test_a_name_that_came_after_is_refused_when_the_store_is_opened(tmp_path: Path) -> None:
    app = app_with(tmp_path)
    taquba = Taquba(app)
    app.config["TAQUBA_EXCLUSIV"] = True
    with app.app_context(), pytest.raises(ValueError, match="TAQUBA_EXCLUSIV"):
        _ = taquba.queue
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("TAQUBA_STORE", 7, r'config\["TAQUBA_STORE"\]: path must be a str'),
        ("TAQUBA_DURABILITY", "ful", r'config\["TAQUBA_DURABILITY"\]: durability is \'ful\''),
        ("TAQUBA_EXCLUSIVE", "yes", r'config\["TAQUBA_EXCLUSIVE"\]: exclusive must be a bool'),
        ("TAQUBA_MAX_PAYLOAD_BYTES", 0, r'config\["TAQUBA_MAX_PAYLOAD_BYTES"\]'),
        ("TAQUBA_DEFAULT_CONFIG", {"max_atempts": 1}, r'config\["TAQUBA_DEFAULT_CONFIG"\].*max_atempts'),
        ("TAQUBA_QUEUE_CONFIGS", {"a": 1}, r'config\["TAQUBA_QUEUE_CONFIGS"\]'),
    ],
)
def test_a_wrong_value_is_refused_at_once(tmp_path: Path, name: str, value: object, complaint: str) -> None:
    app = app_with(tmp_path)
    app.config[name] = value
    with pytest.raises((TypeError, ValueError), match=complaint):
        Taquba(app)


def test_an_app_without_a_store_says_so_when_it_is_used() -> None:
    app = Flask("app")
    taquba = Taquba(app)
    with app.app_context(), pytest.raises(RuntimeError, match="TAQUBA_STORE"):
        _ = taquba.queue


def test_every_option_of_an_open_is_one_and_reaches_it(tmp_path: Path) -> None:
    assert {f"TAQUBA_{name.upper()}" for name in Queue.open.__kwdefaults__} == set(OPTIONS)
    app = app_with(
        tmp_path,
        TAQUBA_EXCLUSIVE=True,
        TAQUBA_MAX_PAYLOAD_BYTES=10,
        TAQUBA_DEFAULT_CONFIG=QueueConfig(max_attempts=7),
        TAQUBA_QUEUE_CONFIGS={"orders": {"max_attempts": 9}},
    )
    taquba = Taquba(app)
    with app.app_context(), taquba.queue as queue:
        assert queue.handle.max_payload_bytes == 10
        assert queue.handle.config_of("other").max_attempts == 7
        assert queue.handle.config_of("orders").max_attempts == 9
        with pytest.raises(StoreInUseError):
            Queue.open(tmp_path / "store")


def test_the_configuration_may_come_after_the_extension(tmp_path: Path) -> None:
    app = Flask("app", instance_path=str(tmp_path / "instance"))
    taquba = Taquba(app)
    app.config["TAQUBA_STORE"] = str(tmp_path / "late")
    with app.app_context(), taquba.queue as queue:
        assert queue.path == tmp_path / "late"


def test_a_relative_path_lies_in_the_instance_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASK_TAQUBA_STORE", "runs/store")
    monkeypatch.setenv("FLASK_TAQUBA_MAX_PAYLOAD_BYTES", "10")
    app = Flask("app", instance_path=str(tmp_path / "instance"))
    app.config.from_prefixed_env()
    taquba = Taquba(app)
    with app.app_context(), taquba.queue as queue:
        assert queue.path == tmp_path / "instance" / "runs" / "store"
        assert queue.handle.max_payload_bytes == 10


def test_a_url_is_no_path_below_the_instance_folder(tmp_path: Path) -> None:
    from taquba_workflow_sync.contrib.flask.config import store_config

    url = "postgresql://u:s3cr3t@h/db"
    config = store_config(_app(url))
    assert (config.path, config.options) == (url, {"liveness_dsn": url, "migrate": False})
    assert "s3cr3t" not in repr(config)
    with pytest.raises(ValueError, match=r'config\["TAQUBA_LIVENESS_DSN"\].*is a directory'):
        Taquba(app_with(tmp_path, TAQUBA_LIVENESS_DSN=url))
    with pytest.raises(ValueError, match=r'config\["TAQUBA_STORE"\].*port') as caught:
        Taquba(_app("postgresql://u:s3cr3t/@h/db"))
    assert "s3cr3t" not in str(caught.value)


def _app(url: str) -> Flask:
    app = Flask("app")
    app.config.update(TAQUBA_STORE=url, TAQUBA_LIVENESS_DSN="postgresql://u:s3cr3t@h/db", TAQUBA_MIGRATE=False)
    return app
