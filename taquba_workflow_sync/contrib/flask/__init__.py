"""Flows in a Flask application. Needs the extra ``[flask]``."""

from typing import TYPE_CHECKING, Any

try:
    import flask as _flask  # noqa: F401  # looked for here, where its absence can be said in a sentence
except ModuleNotFoundError as _error:
    if _error.name != "flask":
        raise
    raise ImportError(
        "taquba_workflow_sync.contrib.flask needs Flask: pip install 'taquba-workflow-sync[flask]'"
    ) from _error

from taquba_workflow_sync.contrib.flask.blueprint import status_blueprint
from taquba_workflow_sync.contrib.flask.extension import Taquba

if TYPE_CHECKING:
    from taquba_workflow_sync.contrib.flask.console import console_blueprint

__all__ = ["Taquba", "console_blueprint", "status_blueprint"]


def __getattr__(name: str) -> Any:
    """Import the console when it is asked for: it is served by few of the processes of an application."""
    if name == "console_blueprint":
        from taquba_workflow_sync.contrib.flask.console import console_blueprint

        return console_blueprint
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
