"""The picture of a flow: its steps, and the ways between them that its source shows."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from taquba_workflow_sync.flow.annotations import Function
from taquba_workflow_sync.flow.definition import Definition

Edge = tuple[str, str]
_WAYS: Final = ("goto", "on_signal", "on_group")


@dataclass(frozen=True, slots=True)
class Graph:
    """A flow's steps in the order of their definition, the start first, and the ways from one to another.

    ``waits`` says of an edge what a run waits for on it, such as ``"signal approved"``.
    """

    flow: str
    version: int
    start: str
    steps: tuple[str, ...]
    edges: tuple[Edge, ...]
    waits: Mapping[Edge, str]

    def to_json(self) -> str:
        """Return the graph as it is stored."""
        parts = [[*edge, self.waits.get(edge)] for edge in self.edges]
        stored = {
            "flow": self.flow, "version": self.version, "start": self.start, "steps": self.steps, "edges": parts,
        }  # fmt: skip
        return json.dumps(stored, sort_keys=True)

    @classmethod
    def of_json(cls, text: str) -> Graph:
        """Undo :meth:`to_json`.

        Raises:
            ValueError: the text is of no graph, or of one that a newer program has written in another way.
        """
        try:
            stored = json.loads(text)
            edges = {(source, target): wait for source, target, wait in stored["edges"]}
            waits = {edge: wait for edge, wait in edges.items() if wait is not None}
            return cls(
                stored["flow"],
                stored["version"],
                stored["start"],
                tuple(stored["steps"]),
                tuple(edges),
                MappingProxyType(waits),
            )
        except (TypeError, ValueError, KeyError) as error:
            raise ValueError(f"this is the text of no graph: {error}") from None

    def mermaid(self) -> str:
        """Return the graph as a Mermaid flowchart."""
        number = {step: f"s{index}" for index, step in enumerate(self.steps)}
        lines = ["flowchart TD"]
        for step in self.steps:
            left, right = ("([", "])") if step == self.start else ("[", "]")
            lines.append(f"    {number[step]}{left}{_quoted(step)}{right}")
        for edge in self.edges:
            wait = self.waits.get(edge)
            arrow = "-->" if wait is None else f"-->|{_quoted(wait)}|"
            lines.append(f"    {number[edge[0]]} {arrow} {number[edge[1]]}")
        return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    escaped = text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
    return f'"{escaped}"'


def is_of_newer(text: str, version: int) -> bool:
    """Whether a stored graph is of a newer version of its flow than that."""
    try:
        return Graph.of_json(text).version > version
    except (TypeError, ValueError):
        return False


def graph_of(definition: Definition, step_of: Callable[[object], str | None]) -> Graph:
    """Return the graph of a flow. ``step_of`` tells which of its steps a value is, None: none."""
    first = definition.first.name
    edges: dict[Edge, str | None] = {}
    for node in definition.nodes.values():
        for target, wait in _ways_of(node.function, step_of):
            edges.setdefault((node.name, target), wait)
    steps = (first, *(name for name in definition.nodes if name != first))
    waits = {edge: wait for edge, wait in edges.items() if wait is not None}
    return Graph(definition.name, definition.version, first, steps, tuple(edges), MappingProxyType(waits))


def _ways_of(function: Function, step_of: Callable[[object], str | None]) -> Iterator[tuple[str, str | None]]:
    function = inspect.unwrap(function)
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError, ValueError):
        return  # typed into a shell, or made by exec: nobody has the source
    imported = dict(_imports(tree, function))
    for call in ast.walk(tree):
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in _WAYS):
            continue
        found, value = _value_of(call.func.value, function, imported)
        target = step_of(value) if found else None
        if target is not None:
            yield target, _wait_of(call)


def _wait_of(call: ast.Call) -> str | None:
    """Return what is waited for in a call, as far as the source says it."""
    assert isinstance(call.func, ast.Attribute)
    if call.func.attr == "goto":
        return "later" if any(each.arg == "after" for each in call.keywords) else None
    kind = "signal" if call.func.attr == "on_signal" else "group"
    named = [each.value for each in call.keywords if each.arg in ("name", "group_id")]
    argument = call.args[1] if len(call.args) > 1 else (named[0] if named else None)
    text = argument.value if isinstance(argument, ast.Constant) else None
    return f"{kind} {text}" if isinstance(text, str) else kind


def _imports(tree: ast.AST, function: Function) -> Iterator[tuple[str, Any]]:
    """Go through what a function imports itself, as modules do that import each other, as far as it is loaded.

    Nothing is imported for a picture: what the body of a step imports runs when the step does. A step of the flow is
    never missed by that, since it is one only once its module is loaded.
    """
    package = getattr(function, "__globals__", {}).get("__package__")
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            name = _absolute("." * node.level + (node.module or ""), package)
            for each in node.names:
                found, value = _part(sys.modules.get(name), each.name)
                if found:
                    yield each.asname or each.name, value
        elif isinstance(node, ast.Import):
            for each in node.names:
                name = each.name if each.asname else each.name.partition(".")[0]
                if name in sys.modules:
                    yield each.asname or name, sys.modules[name]


def _absolute(name: str, package: str | None) -> str:
    """Return the name of a module that is imported in a package; empty: nothing can be imported so."""
    try:
        return importlib.util.resolve_name(name, package)
    except ImportError:
        return ""


def _part(value: object, name: str) -> tuple[bool, Any]:
    """Return whether something has an attribute, and that; one that would have to be computed it has not."""
    try:
        return True, inspect.getattr_static(value, name)
    except AttributeError:
        return False, None


def _value_of(node: ast.expr, function: Function, imported: Mapping[str, Any]) -> tuple[bool, Any]:
    """Return whether it can be told what an expression is, and what."""
    if isinstance(node, ast.Attribute):
        found, value = _value_of(node.value, function, imported)
        return _part(value, node.attr) if found else (False, None)
    if not isinstance(node, ast.Name):
        return False, None
    name = node.id
    code = function.__code__
    if name in imported:
        return True, imported[name]
    if name in code.co_freevars:
        try:
            return True, (function.__closure__ or ())[code.co_freevars.index(name)].cell_contents
        except ValueError:
            return False, None  # not made yet
    if name in code.co_varnames or name in code.co_cellvars:
        return False, None
    names = getattr(function, "__globals__", {})
    return name in names, names.get(name)
