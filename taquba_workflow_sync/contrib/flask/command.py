"""``flask taquba ...``: the command line on the store of the application, and what its workers serve."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol, cast

import click
from flask import Flask, has_app_context
from flask.cli import ScriptInfo, with_appcontext

from taquba_workflow_sync.contrib.flask.arguments import AnyFlow, completed
from taquba_workflow_sync.contrib.flask.config import store_config
from taquba_workflow_sync.contrib.flask.context import current
from taquba_workflow_sync.workflow.runtime import WorkflowRuntime

#: Where an application keeps its extension.
NAME: Final = "taquba"
#: What a command is given that works on flows of the application; also in the processes that a worker starts, which
#: find the application where Flask looks for it, and the names of the flows, a line each, beside it.
TARGET: Final = f"{__name__}:runtime()"
_APP: Final = "FLASK_APP"
_FLOWS: Final = "TAQUBA_FLASK_FLOWS"


class Serving(Protocol):
    """The extension as the command line sees it."""

    @property
    def flows(self) -> tuple[AnyFlow, ...]:
        """What the application serves."""
        ...

    def runtime(self, app: Flask | None = None, **options: Any) -> WorkflowRuntime:
        """Return a runtime of them."""
        ...


def runtime() -> WorkflowRuntime:
    """Return the runtime of the chosen flows of the current application, or of the one that Flask finds.

    Raises:
        click.UsageError: the application has no Taquba.
        ValueError: it has no flows.
    """
    app = current() if has_app_context() else ScriptInfo(os.environ.get(_APP)).load_app()
    taquba = _taquba_of(app)
    names = os.environ.get(_FLOWS, "").splitlines()
    chosen = [flow for flow in taquba.flows if not names or flow.name in names]
    return taquba.runtime(app, flows=chosen)


def _taquba_of(app: Flask) -> Serving:
    if NAME not in app.extensions:
        raise click.UsageError(f"app {app.name!r} has no Taquba: call Taquba(app, flows=[...])")
    return cast("Serving", app.extensions[NAME])


@click.command(
    "taquba",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
@with_appcontext
def command(ctx: click.Context, arguments: tuple[str, ...]) -> None:
    """Work on the runs of this app: worker, runs, dead, stats and more."""
    from taquba_workflow_sync.cli.main import cli  # here: an application that serves requests has no use for it

    app = current()
    given, flows = completed(cli, list(arguments), _taquba_of(app).flows, TARGET)
    path = store_config(app).path
    before = [] if path is None else ["--store", path]
    told = {_FLOWS: "\n".join(flow.name for flow in flows)}
    info = ctx.find_object(ScriptInfo)
    if info is not None and info.app_import_path is not None:
        told[_APP] = info.app_import_path
    with _environment(told):
        code = cli.main([*before, *given], prog_name="flask taquba", standalone_mode=False)
    ctx.exit(code)


@contextmanager
def _environment(told: dict[str, str]) -> Iterator[None]:
    """Tell the processes that are started inside; what was there before is there after, for whoever calls again."""
    before = {name: os.environ.get(name) for name in told}
    os.environ.update(told)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
