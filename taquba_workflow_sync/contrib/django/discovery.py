"""The flows of a project: those of each app's ``workflows.py``, bound to their stores."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

from django.apps import apps
from django.utils.module_loading import autodiscover_modules

from taquba_workflow_sync.contrib.django.stores import store
from taquba_workflow_sync.flow import Flow

MODULE = "workflows"


def discover() -> list[Flow[Any, Any]]:
    """Import the ``workflows.py`` of every app and return the flows found there, each bound to the store of its alias.

    Raises:
        Exception: whatever such a module raises.
    """
    autodiscover_modules(MODULE)
    found: list[Flow[Any, Any]] = []
    for config in apps.get_app_configs():
        module = sys.modules.get(f"{config.name}.{MODULE}")
        for flow in flows_of(vars(module).values()) if module is not None else ():
            if flow not in found:
                found.append(flow)
    for flow in found:
        # Asked for at each use: nothing is opened before, and a test may have set another store by then.
        flow.bind(partial(store, flow.store))
    return found


def flows() -> list[Flow[Any, Any]]:
    """Return the flows found; none where the app is not there, as in a test that hides apps."""
    found: list[Flow[Any, Any]] = getattr(apps.app_configs.get("taquba"), "flows", [])
    return found


def flows_of(values: Any) -> Iterator[Flow[Any, Any]]:
    """Return the flows among some values, and in lists of them."""
    for value in values:
        if isinstance(value, Flow):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from (each for each in value if isinstance(each, Flow))
