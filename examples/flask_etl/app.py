"""Upload a table of orders, watch it being worked on, download what each customer has spent.

flask run                  serves the page
flask taquba worker        works, in another terminal; kill it, start it again: it goes on
"""

from __future__ import annotations

import csv
import hashlib
import hmac
import secrets
import uuid

from etl import COLUMNS, Upload, etl, path_of, replacing
from flask import Flask, Request, Response, abort, current_app, render_template, request, send_file, session

from taquba_workflow_sync import (
    InputMismatchError,
    InvalidRunIdError,
    RunCancelledError,
    RunFailedError,
    RunNotFoundError,
    RunStatus,
)
from taquba_workflow_sync.console import ACT, Access
from taquba_workflow_sync.contrib.flask import Taquba, console_blueprint, status_blueprint

taquba = Taquba(flows=[etl])


def can_see(run: RunStatus) -> bool:
    """A run belongs to the browser that has uploaded its file."""
    return "owner" in session and run.headers.get("owner") == session["owner"]


def may_operate(request: Request) -> Access | None:
    """Whoever knows CONSOLE_PASSWORD of the config may do everything in the console; nobody may where it is not set."""
    password = str(current_app.config.get("CONSOLE_PASSWORD", ""))
    if not password:
        return None
    given = request.authorization.password if request.authorization else None
    if given is None or not hmac.compare_digest(given.encode(), password.encode()):
        abort(Response("the console asks for its password\n", 401, {"WWW-Authenticate": 'Basic realm="console"'}))
    return ACT


def create_app() -> Flask:
    app = Flask(__name__)
    app.config.update(SECRET_KEY="only for trying it out", TAQUBA_STORE="store", MAX_CONTENT_LENGTH=64 * 2**20)
    app.config.from_prefixed_env()
    taquba.init_app(app)
    app.register_blueprint(status_blueprint(taquba, can_see=can_see), url_prefix="/runs")
    app.register_blueprint(console_blueprint(taquba, authorize=may_operate), url_prefix="/console")
    app.get("/")(index)
    app.post("/uploads")(upload)
    app.get("/results/<run_id>")(result)
    return app


def index() -> str:
    session.setdefault("owner", secrets.token_hex(16))
    # The name of the run comes with the page: a form that is sent twice is one run.
    return render_template("index.html", run_id=uuid.uuid4().hex)


def upload() -> Response:
    if "owner" not in session or "table" not in request.files:
        abort(400, "load the page, choose a file, send the form")
    try:
        text = request.files["table"].read().decode("utf-8-sig")
        run_id = uuid.UUID(request.form["run_id"]).hex
    except ValueError:
        abort(400, "the file is no text in UTF-8, or the form is not the page's")
    columns = next(csv.reader(text.splitlines()[:1]), [])
    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        abort(400, f"the table has no column {missing[0]}")
    name = f"{hashlib.sha256(text.encode()).hexdigest()}.upload"
    # On the disk before the run is: what was acknowledged can be worked on.
    with replacing(name) as file:
        file.write(text)
    try:
        return taquba.accepted(etl.submit(Upload(name), run_id=run_id, headers={"owner": session["owner"]}))
    except InputMismatchError:
        abort(409, "this form was sent before, with another file; load the page again")


def result(run_id: str) -> Response:
    handle = etl.handle(run_id)
    try:
        run = handle.status()
        if run is None or not can_see(run):
            abort(404)
        report = handle.result(timeout=0)
    except (InvalidRunIdError, RunCancelledError, RunFailedError, RunNotFoundError, TimeoutError):
        abort(404)
    return send_file(path_of(report.file), as_attachment=True, download_name="spent.csv")
