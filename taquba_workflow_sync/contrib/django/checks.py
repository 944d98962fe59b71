"""System checks: what is wrong with the setting, the flows and the stores, before anything runs."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any, Final

from django.core import checks

from taquba_workflow_sync.contrib.django.conf import Problem, aliases, problems_of_setting, settings_of
from taquba_workflow_sync.contrib.django.discovery import flows
from taquba_workflow_sync.contrib.django.served import task_backends
from taquba_workflow_sync.flow import FlowDefinitionError
from taquba_workflow_sync.queue import opening

TAG: Final = "taquba"


def register_checks() -> None:
    """Have Django run them; once for all."""
    checks.register(check_settings, TAG)
    checks.register(check_flows, TAG)


def check_settings(app_configs: Any = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Return what is wrong with TAQUBA."""
    problems = list(problems_of_setting())
    places: dict[str, str] = {}
    for alias in aliases():
        found = settings_of(alias)
        problems += found.problems
        if found.path is None or found.errors:
            continue
        is_url = opening.is_url(os.fspath(found.path))
        place = (opening.shown if is_url else os.path.realpath)(os.fspath(found.path))
        if place in places:
            text = f"TAQUBA[{alias!r}] and TAQUBA[{places[place]!r}] name one store, {place}."
            problems.append(Problem("W005", text, "Give each alias a directory of its own, or use one alias."))
        places.setdefault(place, alias)
        if not is_url and os.path.lexists(place) and not os.path.isdir(place):
            text = f"TAQUBA[{alias!r}]['STORE'] is {place}, which is no directory."
            problems.append(Problem("E010", text, "Name a directory; it is made when it is first used."))
    return [_message(each) for each in problems]


def check_flows(app_configs: Any = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Return what is wrong with the flows found."""
    problems: list[Problem] = []
    found = flows()
    for flow in found:
        if flow.store not in aliases():
            text = f"Flow {flow.name!r} names the store {flow.store!r}, which TAQUBA has not."
            known = ", ".join(map(repr, aliases())) or "no aliases"
            problems.append(Problem("E005", text, f"TAQUBA has {known}; make it with Flow(..., store=ALIAS)."))
        try:
            flow.check()
        except FlowDefinitionError as error:
            problems.append(Problem("E008", f"Flow {flow.name!r} cannot run: {error}.", "See the docs of Flow."))
    for (store, name), many in Counter((flow.store, flow.name) for flow in found).items():
        if many > 1:
            text = f"{many} flows are called {name!r} in the store {store!r}; a flow serves the queue of its name."
            problems.append(Problem("E009", text, "Rename all but one, or give them other stores."))
    of_tasks = {(backend.store_alias, name) for backend in task_backends() for name in backend.queue_names()}
    for flow in found:
        if (flow.store, flow.name) in of_tasks:
            text = f"Flow {flow.name!r} is called like a queue of the tasks in the store {flow.store!r}."
            problems.append(Problem("E009", text, "Rename the flow, or give one of them another store."))
    return [_message(each) for each in problems]


def _message(problem: Problem) -> checks.CheckMessage:
    kind = checks.Error if problem.id.startswith("E") else checks.Warning
    return kind(problem.text, hint=problem.hint, id=f"taquba.{problem.id}")
