"""An application for servers of their own: runs of four steps, each of which leaves a mark when it begins.

Configured by ``FLASK_TAQUBA_STORE`` and ``FLASK_MARKS``, the file of the marks.
"""

from __future__ import annotations

import os

from flask import Flask, Response, current_app

from taquba_workflow_sync.console import READ
from taquba_workflow_sync.contrib.flask import Taquba, console_blueprint, status_blueprint
from taquba_workflow_sync.flow import Flow, Goto, Step

STEPS = 4

marking = Flow[str, int]("marking")
held = Flow[str, str]("held")


def mark(step: Step) -> None:
    line = f"{step.run_id} {step.step_number} {os.getpid()}\n"
    file = os.open(current_app.config["MARKS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


@marking.start
def first(name: str, step: Step) -> Goto:
    mark(step)
    return further.goto(1)


@marking.step
def further(done: int, step: Step) -> Goto | int:
    mark(step)
    return further.goto(done + 1) if done + 1 < STEPS else done + 1


@held.start
def hold(name: str) -> Goto:
    return release.on_signal(name, "release")


@held.step
def release(name: str) -> str:
    return name


def create_app() -> Flask:
    app = Flask(__name__)
    app.config.from_prefixed_env()
    taquba = Taquba(app, flows=[marking, held])
    app.register_blueprint(status_blueprint(taquba, can_see=lambda run: True), url_prefix="/runs")
    app.register_blueprint(console_blueprint(taquba, authorize=lambda request: READ), url_prefix="/console")

    @app.post("/mark/<name>")
    def submit(name: str) -> Response:
        return taquba.accepted(marking.submit(name, run_id=name))

    @app.post("/hold/<name>")
    def wait_for_release(name: str) -> Response:
        return taquba.accepted(held.submit(name, run_id=name))

    @app.get("/pid")
    def pid() -> str:
        return str(os.getpid())

    return app
