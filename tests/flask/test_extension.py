"""The extension in an application: bound flows, one store for each app, contexts around steps."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from pathlib import Path

import pytest
from flask import Flask, current_app, has_app_context

from taquba_workflow_sync import Effects, RunOutcome
from taquba_workflow_sync.contrib.flask import Taquba, status_blueprint
from taquba_workflow_sync.flow import Flow, FlowNotBoundError
from tests.flask.flows import Flows
from tests.support import in_thread, no_thread_left_behind


def factory(name: str, store: Path, flows: Flows) -> Flask:
    app = Flask(name)
    app.config["TAQUBA_STORE"] = str(store)
    Taquba(app, flows=flows.all)
    return app


def test_it_opens_no_store_and_starts_no_thread_until_it_is_used(flows: Flows, tmp_path: Path) -> None:
    threads = threading.enumerate()
    app = factory("app", tmp_path / "store", flows)
    assert not (tmp_path / "store").exists()
    assert threading.enumerate() == threads
    assert isinstance(app.extensions["taquba"], Taquba)
    with app.app_context():
        flows.double.submit(1)
        app.extensions["taquba"].close()
    assert (tmp_path / "store").exists()


def test_two_apps_with_the_same_flows_have_a_store_each(flows: Flows, tmp_path: Path) -> None:
    one, two = factory("one", tmp_path / "1", flows), factory("two", tmp_path / "2", flows)
    flows.may_end.set()
    for app, number in ((one, 1), (two, 2)):
        with app.app_context():
            flows.double.submit(number, run_id="same")
    for app, number in ((one, 1), (two, 2)):
        with app.app_context():
            taquba = app.extensions["taquba"]
            assert taquba.queue.path == tmp_path / str(number)
            assert taquba.runtime().run_until_idle().succeeded == 1
            assert flows.double.handle("same").result(timeout=0) == {"twice": 2 * number}
            taquba.close()
    assert [name for name, _ in flows.seen] == ["one", "one", "two", "two"]


def test_one_extension_may_serve_several_apps(flows: Flows, taquba: Taquba, tmp_path: Path) -> None:
    for name in ("1", "2"):
        app = Flask(name)
        app.config["TAQUBA_STORE"] = str(tmp_path / name)
        taquba.init_app(app)
        with app.app_context():
            assert flows.double.submit(1, run_id="same").newly_submitted
            assert taquba.queue.path == tmp_path / name
            taquba.close()


def test_a_factory_that_is_called_twice_makes_two_apps_on_one_store(
    flows: Flows, taquba: Taquba, tmp_path: Path
) -> None:
    pages = status_blueprint(taquba, can_see=lambda run: True)

    def create_app() -> Flask:
        app = Flask("app")
        app.config["TAQUBA_STORE"] = str(tmp_path / "store")
        taquba.init_app(app)
        app.register_blueprint(pages, url_prefix="/runs")
        return app

    one, two = create_app(), create_app()
    with one.app_context():
        flows.double.submit(1, run_id="same")
    with two.app_context():
        assert not flows.double.submit(1, run_id="same").newly_submitted
    assert [app.test_client().get("/runs/same").status_code for app in (one, two)] == [200, 200]
    for app in (one, two):
        taquba.close(app)


def test_a_flow_outside_of_an_app_says_what_to_do(app: Flask, flows: Flows) -> None:
    with pytest.raises(FlowNotBoundError, match="app_context"):
        in_thread(lambda: flows.double.submit(1))()


def test_an_app_that_was_not_given_a_flow_does_not_take_its_runs(app: Flask, flows: Flows, tmp_path: Path) -> None:
    other = Flask("other")
    other.config["TAQUBA_STORE"] = str(tmp_path / "other")
    Taquba(other, flows=[flows.fails])
    with other.app_context(), pytest.raises(FlowNotBoundError, match="'double' was not given to the current app"):
        flows.double.submit(1)
    assert not (tmp_path / "other").exists()


def test_a_step_runs_in_a_context_of_its_own_that_is_torn_down(app: Flask, flows: Flows, taquba: Taquba) -> None:
    torn_down: list[str] = []
    app.teardown_appcontext(lambda error: torn_down.append(threading.current_thread().name))
    flows.may_end.set()
    flows.double.submit(1)
    with no_thread_left_behind():
        taquba.runtime().run_until_idle()
    assert flows.seen == [("one", False), ("one", False)]
    assert len(torn_down) == 2


def test_a_hook_runs_in_a_context_with_its_effects(app: Flask, flows: Flows, taquba: Taquba) -> None:
    class Hook:
        def observes(self, outcome: RunOutcome) -> bool:
            return has_app_context()

        def on_termination(self, outcome: RunOutcome, effects: Effects) -> None:
            effects.put("ended", current_app.name.encode())

    flows.double.on_end(Hook())
    flows.fails.on_end(lambda outcome: flows.seen.append((current_app.name, True)))
    flows.may_end.set()
    flows.double.submit(1)
    flows.fails.submit("x")
    taquba.runtime().run_until_idle()
    assert taquba.queue.kv.get("ended") == b"one"
    assert ("one", True) in flows.seen


def test_a_store_that_was_closed_is_opened_again(app: Flask, flows: Flows, taquba: Taquba) -> None:
    flows.double.submit(1, run_id="a")
    taquba.queue.close()
    assert not flows.double.submit(1, run_id="a").newly_submitted


def test_threads_that_come_at_once_share_one_store(app: Flask, taquba: Taquba) -> None:
    def queue() -> object:
        with app.app_context():
            return taquba.queue

    assert len({join() for join in [in_thread(queue) for _ in range(8)]}) == 1


def test_an_app_that_is_gone_is_not_kept(taquba: Taquba, tmp_path: Path) -> None:
    app = Flask("gone")
    app.config["TAQUBA_STORE"] = str(tmp_path / "store")
    taquba.init_app(app)
    app.register_blueprint(status_blueprint(taquba, can_see=lambda run: True))
    reference = weakref.ref(app)
    del app
    gc.collect()
    assert reference() is None


@pytest.mark.filterwarnings(r"ignore:This process \(pid:DeprecationWarning")  # the clerk is a thread
def test_a_forked_child_uses_the_store_that_its_parent_has_opened(app: Flask, flows: Flows) -> None:
    flows.double.submit(1, run_id="parent")
    child = os.fork()
    if child == 0:
        try:
            found = flows.double.submit(1, run_id="parent").newly_submitted
            new = flows.double.submit(2, run_id="child").newly_submitted
            os._exit(0 if (found, new) == (False, True) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not flows.double.submit(2, run_id="child").newly_submitted


def test_what_it_is_given_is_checked(app: Flask, flows: Flows, taquba: Taquba) -> None:
    with pytest.raises(TypeError, match="flows must be Flows, not function"):
        Taquba(flows=[lambda: None])  # type: ignore[list-item]  # on purpose
    with pytest.raises(ValueError, match="two of the flows are called 'double'"):
        Taquba(flows=[flows.double, Flow("double")])
    with pytest.raises(RuntimeError, match="'one' has a Taquba already"):
        Taquba(app)
    with pytest.raises(RuntimeError, match="'other' is not served by this Taquba"):
        taquba.runtime(Flask("other"))
    assert Taquba(flows=flows.double).flows == (flows.double,)  # type: ignore[arg-type]  # one, by mistake


def test_a_taquba_without_flows_has_no_runtime_but_a_store(tmp_path: Path) -> None:
    app = Flask("plain")
    app.config["TAQUBA_STORE"] = str(tmp_path / "store")
    taquba = Taquba(app)
    with app.app_context():
        taquba.queue.enqueue("mails", b"hello")
        with pytest.raises(ValueError, match="no flows to serve"):
            taquba.runtime()
        taquba.close()
