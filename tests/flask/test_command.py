"""``flask taquba``: the command line on the store of an app, its flows served without being named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import Result
from flask import Flask

from taquba_workflow_sync import Queue
from taquba_workflow_sync.contrib.flask import Taquba
from tests.flask.flows import Flows
from tests.flask.servers import APP, ROOT, Site


def flask(app: Flask, *arguments: str) -> Result:
    return app.test_cli_runner().invoke(args=["taquba", *arguments])


@pytest.fixture
def one(tmp_path: Path, flows: Flows) -> Flask:
    """An application of one flow, whose runs may end."""
    app = Flask("one")
    app.config["TAQUBA_STORE"] = str(tmp_path / "store")
    Taquba(app, flows=[flows.double])
    flows.may_end.set()
    return app


def test_a_worker_without_a_target_serves_all_flows_in_the_context_of_the_app(app: Flask, flows: Flows) -> None:
    flows.may_end.set()
    flows.double.submit(4, run_id="a")
    flows.fails.submit("x", run_id="b")
    ended = flask(app, "worker", "--until-idle", "--json")
    assert ended.exit_code == 0, ended.output
    assert json.loads(ended.stdout)["succeeded"] == 1 and json.loads(ended.stdout)["failed"] == 1
    assert flows.seen == [("one", False)] * 2
    assert flows.double.handle("a").result(timeout=0) == {"twice": 8}


def test_a_flow_may_be_named_by_its_name(app: Flask, flows: Flows) -> None:
    flows.may_end.set()
    flows.fails.submit("x", run_id="b")
    done = flask(app, "run", "double", "--run-id", "double", "--input", "4")
    assert done.exit_code == 0, done.output
    assert flows.double.handle("double").result(timeout=0) == {"twice": 8}
    assert flows.fails.handle("b").status().state == "pending"  # type: ignore[union-attr]  # it is kept


def test_a_submit_goes_through_the_codec_of_the_flow(app: Flask, flows: Flows) -> None:
    refused = flask(app, "submit", "double", "--input", '"four"')
    assert refused.exit_code == 1 and "expected int" in refused.stderr
    assert flask(app, "submit", "double", "--input", "4", "--run-id", "a").exit_code == 0
    assert flows.double.handle("a").status() is not None


def test_what_looks_at_runs_knows_the_queue_of_the_only_flow(one: Flask, flows: Flows) -> None:
    assert flask(one, "runs", "list").exit_code == 4, "a command that looks makes no store"
    with one.app_context():
        flows.double.submit(4, run_id="a")
    listed = flask(one, "runs", "list", "--json")
    assert [json.loads(line)["run_id"] for line in listed.stdout.splitlines()] == ["a"]
    assert flask(one, "runs", "show", "a", "--queue", "other").exit_code == 4
    assert flask(one, "runs", "show", "nobody").exit_code == 4


def test_what_is_wrong_is_told_as_the_command_line_tells_it(one: Flask, tmp_path: Path) -> None:
    assert flask(one, "bogus").exit_code == 2
    assert flask(one, "worker", "--bogus").exit_code == 2
    assert flask(one, "runs", "list", "--since", "yesterday").exit_code == 2
    assert "Commands" in flask(one, "--help").output
    assert "flask taquba worker" in flask(one, "worker", "--help").output
    bare = Flask("bare")
    bare.config["TAQUBA_STORE"] = str(tmp_path / "bare")
    Taquba(bare)
    refused = flask(bare, "worker")
    assert refused.exit_code == 2 and "no flows to serve" in refused.output
    assert not (tmp_path / "bare").exists()


def test_it_leaves_nothing_in_the_environment(one: Flask) -> None:
    before = dict(os.environ)
    flask(one, "worker", "--until-idle")
    assert dict(os.environ) == before


@pytest.mark.embedded
def test_several_processes_of_a_worker_find_the_app(tmp_path: Path) -> None:
    from tests.flask.marking_app import create_app, held, marking

    site = Site(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLASK_TAQUBA_STORE", str(site.store))
        app = create_app()
    with app.app_context():
        marking.submit("a", run_id="a")
        held.submit("b", run_id="b")
        command = [sys.executable, "-m", "flask", "--app", APP, "taquba", "worker", "marking", "--until-idle"]
        done = subprocess.run(
            [*command, "--processes", "2"],
            cwd=ROOT,
            env=site.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "succeeded=1" in done.stdout
        assert held.handle("b").status().waiting_for is None, "it was not to be served"  # type: ignore[union-attr]  # kept
        app.extensions["taquba"].close()
    with Queue.open(site.store) as queue:
        assert queue.check().ok
