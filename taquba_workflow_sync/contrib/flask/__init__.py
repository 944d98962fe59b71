"""Flows in a Flask application. Needs the extra ``[flask]``."""

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

__all__ = ["Taquba", "status_blueprint"]
