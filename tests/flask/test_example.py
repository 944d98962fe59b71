"""The example: a file is uploaded, worked on and downloaded, by its owner alone."""

from __future__ import annotations

import csv
import io
import re
import shutil
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

HERE = Path(__file__).resolve().parents[2] / "examples" / "flask_etl"
TABLE = "order,customer,amount\n1,ann,1.50\n2,bob,2\n3,ann,0.25\n4,,7\n5,bob,much\n"


@pytest.fixture
def etl_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    shutil.copytree(HERE, tmp_path / "flask_etl", ignore=shutil.ignore_patterns("instance", "__pycache__"))
    monkeypatch.syspath_prepend(str(tmp_path / "flask_etl"))
    try:
        from app import create_app

        app: Flask = create_app()
        with app.app_context():
            yield app
            app.extensions["taquba"].close()
    finally:
        for name in ("app", "etl"):
            sys.modules.pop(name, None)


def send(client: FlaskClient, run_id: str, text: str) -> TestResponse:
    data = {"run_id": run_id, "table": (io.BytesIO(text.encode()), "orders.csv")}
    return client.post("/uploads", data=data)


def run_of(client: FlaskClient) -> str:
    found = re.search(r'name="run_id" value="(\w+)"', client.get("/").text)
    assert found
    return found[1]


def work(app: Flask) -> Any:
    return app.extensions["taquba"].runtime().run_until_idle()


def test_a_file_is_uploaded_worked_on_and_downloaded(etl_app: Flask) -> None:
    client = etl_app.test_client()
    run_id = run_of(client)
    accepted = send(client, run_id, TABLE)
    assert accepted.status_code == 202
    assert client.get(f"/results/{run_id}").status_code == 404
    assert send(client, run_id, TABLE).status_code == 202, "a form sent twice"
    assert work(etl_app).succeeded == 1
    status = client.get(accepted.location).json
    assert (status["state"], status["label"]) == ("succeeded", "write")
    assert status["result"] == {"file": f"{run_id}.csv", "rows": 5, "refused": 2, "customers": 2}
    download = client.get(f"/results/{run_id}", buffered=True)
    assert list(csv.reader(io.StringIO(download.text))) == [["customer", "spent"], ["ann", "1.75"], ["bob", "2"]]
    assert '"succeeded"' in client.get(accepted.json["events"]).text


def test_a_run_is_its_owners_alone(etl_app: Flask) -> None:
    client = etl_app.test_client()
    accepted = send(client, run_of(client), TABLE)
    work(etl_app)
    other = etl_app.test_client()
    run_of(other)
    for url in (accepted.location, accepted.json["events"], f"/results/{accepted.json['run_id']}"):
        assert client.get(url, buffered=True).status_code == 200
        assert other.get(url).status_code == etl_app.test_client().get(url).status_code == 404


def test_what_is_no_table_is_refused_and_leaves_nothing(etl_app: Flask) -> None:
    client = etl_app.test_client()
    run_id = run_of(client)
    assert "no column amount" in send(client, run_id, "customer,price\nann,1\n").text
    assert send(client, "no-uuid", TABLE).status_code == 400
    assert send(etl_app.test_client(), uuid.uuid4().hex, TABLE).status_code == 400, "never loaded the page"
    assert client.post("/uploads", data={"run_id": run_id}).status_code == 400
    assert not (Path(etl_app.instance_path) / "files").exists()
    assert send(client, run_id, TABLE).status_code == 202
    assert send(client, run_id, TABLE + "6,ann,1\n").status_code == 409


def test_the_console_is_nobodys_without_a_password_in_the_config(etl_app: Flask) -> None:
    client = etl_app.test_client()
    assert client.get("/console/").status_code == 403
    assert client.get("/console/", auth=("any", "")).status_code == 403
    etl_app.config["CONSOLE_PASSWORD"] = "pässword"
    asked = client.get("/console/")
    assert (asked.status_code, asked.www_authenticate.type) == (401, "basic")
    assert client.get("/console/", auth=("any", "another")).status_code == 401
    assert client.get("/console/", headers={"Authorization": "Bearer pässword"}).status_code == 401
    assert "<h1>Queues</h1>" in client.get("/console/", auth=("any", "pässword")).text
