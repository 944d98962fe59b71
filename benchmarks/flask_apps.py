"""The Flask applications that `flask_submit` serves under gunicorn: one view, with this library or with huey.

Each is told its directory by `BENCH_PLACE`.
"""

from __future__ import annotations

import os
from pathlib import Path

from flask import Flask, Response, jsonify

from taquba_workflow_sync.contrib.flask import Taquba, status_blueprint
from taquba_workflow_sync.flow import Flow, Goto

#: Steps of the run that a request waits for.
STEPS = 4
WAIT_SECONDS = 60.0

orders = Flow[int, int]("orders")


@orders.start
def first(number: int) -> Goto:
    return further.goto(1)


@orders.step
def further(done: int) -> Goto | int:
    return further.goto(done + 1) if done + 1 < STEPS else done + 1


def with_taquba() -> Flask:
    app = Flask(__name__)
    app.config["TAQUBA_STORE"] = os.environ["BENCH_PLACE"]
    taquba = Taquba(app, flows=[orders])
    app.register_blueprint(status_blueprint(taquba, can_see=lambda run: True), url_prefix="/runs")

    @app.post("/submit/<int:number>")
    def submit(number: int) -> Response:
        return taquba.accepted(orders.submit(number))

    @app.post("/wait/<int:number>")
    def wait(number: int) -> Response:
        return jsonify(orders.submit(number).result(timeout=WAIT_SECONDS))

    return app


def with_huey() -> Flask:
    from huey import SqliteHuey

    app = Flask(__name__)
    place = Path(os.environ["BENCH_PLACE"])
    place.mkdir(exist_ok=True)
    huey = SqliteHuey("bench", filename=str(place / "huey.db"), fsync=True)

    @huey.task()
    def order(number: int) -> int:
        return number

    @app.get("/tasks/<task_id>")
    def status(task_id: str) -> Response:
        return jsonify(task_id=task_id)

    @app.post("/submit/<int:number>")
    def submit(number: int) -> Response:
        task_id = order(number).id
        response = jsonify(run_id=task_id, status=f"/tasks/{task_id}")
        response.status_code = 202
        response.headers["Location"] = f"/tasks/{task_id}"
        response.headers["Retry-After"] = "1"
        return response

    return app
