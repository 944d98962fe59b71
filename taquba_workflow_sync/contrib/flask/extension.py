"""The extension: which flows an application has, and the store that they work on there."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary, ref

from flask import Flask, Response, current_app, has_app_context, url_for
from flask.sansio.app import App

from taquba_workflow_sync.contrib.flask.command import NAME, command
from taquba_workflow_sync.contrib.flask.config import store_config
from taquba_workflow_sync.contrib.flask.context import InApp, current
from taquba_workflow_sync.contrib.flask.store import LazyStore
from taquba_workflow_sync.flow import Flow, FlowNotBoundError
from taquba_workflow_sync.queue.queue import Queue
from taquba_workflow_sync.workflow.client import RunHandle
from taquba_workflow_sync.workflow.runtime import WorkflowRuntime


class Taquba:
    """Flows in a Flask application, on the store that its configuration names: ``Taquba(app, flows=[orders])``.

    One may serve several applications (:meth:`init_app`), and several may have the same flows: a flow works on the
    store of the current application. A store is opened when it is first used, never before.
    """

    def __init__(self, app: Flask | None = None, *, flows: Iterable[Flow[Any, Any]] = ()) -> None:
        """Take the flows, and an application if it is there already.

        Raises:
            TypeError, ValueError: ``flows`` are no flows, or two have one name; or as for :meth:`init_app`.
        """
        self.flows: tuple[Flow[Any, Any], ...] = _checked(flows)
        self._stores: WeakKeyDictionary[Flask, LazyStore] = WeakKeyDictionary()
        self._pages: WeakKeyDictionary[App, str] = WeakKeyDictionary()
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Serve an application: its flows are bound, ``flask taquba`` is there; no thread is started, no store opened.

        The configuration is looked at here, and again when the store is opened.

        Raises:
            ValueError: the configuration has an unknown name that begins with ``TAQUBA_``.
            TypeError, ValueError, InvalidNameError: a value in it is wrong.
            RuntimeError: the application has a Taquba already.
        """
        if NAME in app.extensions:
            raise RuntimeError(f"app {app.name!r} has a Taquba already; give all flows to that one")
        store_config(app)
        app.extensions[NAME] = self
        self._stores[app] = LazyStore(partial(_open_store, ref(app)))
        app.cli.add_command(command)
        for flow in self.flows:
            flow.bind(partial(_queue_for, flow))

    @property
    def queue(self) -> Queue:
        """The store of the current application, opened if it was not.

        Raises:
            RuntimeError: outside of an application context, or the configuration names no store.
            StorageError, StoreInUseError and the rest: as for ``Queue.open``.
        """
        return self._store(None).queue

    def runtime(
        self, app: Flask | None = None, *, flows: Iterable[Flow[Any, Any]] | None = None, **options: Any
    ) -> WorkflowRuntime:
        """Return a runtime of flows on the application's store: their steps and hooks run inside an app context.

        ``app`` None: the current one. ``flows`` None: all of them. The options are those of ``WorkflowRuntime``.

        Raises:
            TypeError, ValueError: there are no flows, or an option is wrong.
            RuntimeError and the rest: as for :attr:`queue`.
        """
        served = self.flows if flows is None else _checked(flows)
        if not served:
            raise ValueError("there are no flows to serve: give them to Taquba(app, flows=[...])")
        chosen = _current(app)
        store = self._store(chosen)
        return WorkflowRuntime(store.queue, [InApp(chosen, flow) for flow in served], **options)

    def close(self, app: Flask | None = None) -> None:
        """Close the store of an application (None: the current one), if it is open; the next use opens it again."""
        self._store(app).close()

    def accepted(self, handle: RunHandle) -> Response:
        """Return the answer to a request whose run was submitted: 202, and where to look for it.

        ``Location`` is the run's page in the status blueprint, also as ``status`` in the JSON body, beside ``events``
        and ``run_id``; ``Retry-After: 1``.

        Raises:
            RuntimeError: the application has no status blueprint of this Taquba.
            TypeError: ``handle`` is none of a run.
        """
        if not isinstance(handle, RunHandle):
            raise TypeError(f"accepted takes the handle that submit returned, not {type(handle).__name__}")
        name = self._pages.get(_current(None))
        if name is None:
            raise RuntimeError(
                "there is no page to look for the run: register one with"
                " app.register_blueprint(status_blueprint(taquba, can_see=...), url_prefix='/runs')"
            )
        values: dict[str, Any] = {"run_id": handle.run_id}
        if len(self.flows) > 1:
            # A name may be that of a run in each flow.
            values["queue"] = handle.queue_name
        status = url_for(f"{name}.status", **values)
        page, mark, query = status.partition("?")
        body = {"run_id": handle.run_id, "status": status, "events": f"{page}/events{mark}{query}"}
        headers = {"Location": status, "Retry-After": "1"}
        return Response(f"{json.dumps(body)}\n", 202, headers, mimetype="application/json")

    def pages_are(self, app: App, blueprint: str) -> None:
        """Have :meth:`accepted` point at the pages of a blueprint; called by the blueprint when it is registered."""
        self._pages.setdefault(app, blueprint)

    def _store(self, app: Flask | None) -> LazyStore:
        chosen = _current(app)
        store = self._stores.get(chosen)
        if store is None:
            raise RuntimeError(f"app {chosen.name!r} is not served by this Taquba: call taquba.init_app(app)")
        return store


def _current(app: Flask | None) -> Flask:
    if app is not None:
        return app
    if not has_app_context():
        raise RuntimeError("which store is meant? there is no current app: work inside `with app.app_context()`")
    return current()


def _open_store(app: ref[Flask]) -> Queue:
    # A strong reference from the value to the key would keep both for ever.
    found = app()
    if found is None:
        raise RuntimeError("the app of this store is gone")
    return store_config(found).open()


def _queue_for(flow: Flow[Any, Any]) -> Queue:
    """Return the store that a flow works on in the current application.

    Raises:
        FlowNotBoundError: there is none, or it does not serve the flow.
    """
    if not has_app_context():
        raise FlowNotBoundError(
            f"flow {flow.name!r} works on the store of the current app, and there is none: work inside"
            " `with app.app_context()`, or pass queue="
        )
    taquba = current_app.extensions.get(NAME)
    if not isinstance(taquba, Taquba) or all(each is not flow for each in taquba.flows):
        raise FlowNotBoundError(
            f"flow {flow.name!r} was not given to the current app {current_app.name!r}: Taquba(app, flows=[...])"
        )
    return taquba.queue


def _checked(flows: Iterable[Flow[Any, Any]]) -> tuple[Flow[Any, Any], ...]:
    given = (flows,) if isinstance(flows, Flow) else tuple(flows)
    for flow in given:
        if not isinstance(flow, Flow):
            raise TypeError(f"flows must be Flows, not {type(flow).__name__}")
    names = [flow.name for flow in given]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two of the flows are called {name!r}, which names their queue; rename one")
    return given
