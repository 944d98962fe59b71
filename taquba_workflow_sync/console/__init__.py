"""The console: pages about a store for those who look after it. Needs the extra ``[console]``.

``taquba-workflow console`` serves it by itself; ``contrib.django.console`` and ``contrib.flask.console_blueprint``
mount it into an application.
"""

try:
    import jinja2 as _jinja2  # noqa: F401  # looked for here, where its absence can be said in a sentence
except ModuleNotFoundError as _error:
    if _error.name != "jinja2":
        raise
    raise ImportError(
        "taquba_workflow_sync.console needs Jinja2: pip install 'taquba-workflow-sync[console]'"
    ) from _error

from taquba_workflow_sync.console.access import ACT, READ, Access

__all__ = ["ACT", "READ", "Access"]
