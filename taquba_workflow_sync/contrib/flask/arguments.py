"""The arguments of ``flask taquba``, completed by what an application knows: what to serve, which queue is meant."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

import click

from taquba_workflow_sync.flow import Flow

AnyFlow = Flow[Any, Any]


class Completed(NamedTuple):
    """Arguments for the command line, and which of the flows a target of the application is to serve."""

    arguments: list[str]
    flows: tuple[AnyFlow, ...]


def completed(cli: click.Group, given: list[str], flows: tuple[AnyFlow, ...], target: str) -> Completed:
    """Return the arguments with ``target`` where flows of the application are to be worked on.

    A worker that is given no target serves all flows. A target that is the name of a flow, or the ``MODULE:NAME`` of
    flows of the application, is these, served by the application. A command that asks for a queue and was not told is
    told that of the only flow.

    Raises:
        click.UsageError: a worker is to serve all flows, and there are none.
    """
    found = _command_of(cli, given)
    if found is None:
        return Completed(given, flows)
    command, length = found
    before, after = given[:length], given[length:]
    said = _said(command, after)
    if "target" in said and said["target"] is None and command.name == "worker":
        if not flows:
            raise click.UsageError("this app has no flows to serve: Taquba(app, flows=[...]); or name a TARGET")
        return Completed([*before, target, *after], flows)
    if said.get("target"):
        chosen = _named(said["target"], flows)
        replaced = _replaced(command, after, said["target"], target) if chosen else None
        return Completed(given, flows) if replaced is None else Completed([*before, *replaced], chosen)
    if len(flows) == 1 and said.get("queue_name", "") is None:
        return Completed([*before, "--queue", flows[0].name, *after], flows)
    return Completed(given, flows)


def _command_of(cli: click.Group, given: Sequence[str]) -> tuple[click.Command, int] | None:
    """Return the command that is called, and how many of the arguments name it; None: none is."""
    found: click.Command = cli
    for length, word in enumerate(given):
        if not isinstance(found, click.Group):
            return found, length
        inner = found.get_command(click.Context(found), word)
        if inner is None:
            return None
        found = inner
    return None if isinstance(found, click.Group) else (found, len(given))


def _said(command: click.Command, given: Sequence[str]) -> dict[str, Any]:
    """Return what the arguments of a command say; what is wrong with them is for the command itself to tell."""
    return command.make_context(command.name, list(given), resilient_parsing=True).params


def _named(target: str, flows: tuple[AnyFlow, ...]) -> tuple[AnyFlow, ...]:
    """Return the flows of the application that a target names; none if it names anything else."""
    by_name = tuple(flow for flow in flows if flow.name == target)
    module, colon, name = target.partition(":")
    if by_name or not colon or name.endswith("()"):
        return by_name
    try:
        value: Any = import_module(module)
        for part in name.split("."):
            value = getattr(value, part)
    except Exception:
        # Why it cannot be imported is told by the command, with the traceback of the user's code.
        return ()
    named = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    return named if named and all(any(each is flow for flow in flows) for each in named) else ()


def _replaced(command: click.Command, given: list[str], old: str, new: str) -> list[str] | None:
    """Return the arguments with another target; which of the words it is shows in what they say then."""
    for place, word in enumerate(given):
        tried = [*given[:place], new, *given[place + 1 :]]
        if word == old and _said(command, tried).get("target") == new:
            return tried
    return None
