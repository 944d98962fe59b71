"""Every name of the API that a page mentions exists, with the arguments that it is shown with."""

from __future__ import annotations

import ast
import builtins
import dataclasses
import enum
import importlib
import inspect
import re
import threading
import typing

import pytest

import taquba_workflow_sync
from taquba_workflow_sync import console, flow, logs, pytest_plugin, testing
from taquba_workflow_sync.cli.store import STORE_VARIABLE
from taquba_workflow_sync.contrib import flask as contrib_flask
from taquba_workflow_sync.contrib import health
from taquba_workflow_sync.contrib.flask.config import OPTIONS
from taquba_workflow_sync.flow.options import GivenOptions
from taquba_workflow_sync.flow.submitting import RunFields
from taquba_workflow_sync.storage.embedded.filesystem import ALLOW_VARIABLE
from taquba_workflow_sync.storage.port.settlement import Settlement
from taquba_workflow_sync.storage.port.store import OpenOptions, Store
from taquba_workflow_sync.storage.port.transitions import TRANSITIONS
from tests.docs.pages import NAMES, ROOT, code_spans, prose, spans

PACKAGE = "taquba_workflow_sync"
PUBLIC = {
    **{name: getattr(taquba_workflow_sync, name) for name in taquba_workflow_sync.__all__},
    **{name: getattr(testing, name) for name in testing.__all__},
    **{name: getattr(flow, name) for name in flow.__all__},
    **{name: value for name, value in vars(pytest_plugin).items() if name.startswith("taquba_")},
    **{name: getattr(contrib_flask, name) for name in contrib_flask.__all__},
    **{name: getattr(console, name) for name in console.__all__},
    "health_app": health.health_app,
    "JsonFormatter": logs.JsonFormatter,
    "CurrentStepFilter": logs.CurrentStepFilter,
}
# What CONTRIBUTING and the architecture tell those about who work on the inside.
INSIDE = {"TRANSITIONS": TRANSITIONS, "OpenOptions": OpenOptions, "Settlement": Settlement, "Store": Store}
# How a value is called where no class is named.
INSTANCES = {
    "step": "Step",
    "outcome": "RunOutcome",
    "client": "WorkflowClient",
    "handle": "RunHandle",
    "queue": "Queue",
    "flow": "Flow",
    **dict.fromkeys(("charge", "merge", "ship"), "FlowStep"),
    "orders": "Flow",
    "do": "Do",
    "runtime": "WorkflowRuntime",
    "taquba": "Taquba",
}
# What the pages mention of others, and what stands for itself.
FOREIGN = {
    "Connection", "Session", "idle_in_transaction_session_timeout", "max_locks_per_transaction", "taquba_arrival",
    "taquba_arrival_refused",
    "BEGIN", "function", "DELETE", "Disk", "ENGINES", "F_FULLFSYNC", "INSERT", "NA", "Settings", "ThreadPoolExecutor",
    "TimeoutStopSec", "assert_never", "busy_timeout", "callback_url", "data_version", "end", "fork",
    "journal_size_limit", "mmap_size", "on_commit", "queue_configs", "run_at_ms", "wal_autocheckpoint",
    "RunDeadlineExceeded", "RunExpired", "StepTimeout",
    "Decimal", "TypedDict", "UUID", "timedelta",
    "NO_COLOR", "NOTIFY_SOCKET", "TAQUBA_STORE", "DynamicUser", "StateDirectory",
    "HttpOnly", "Origin", "before_request", "current_app", "EventSource", "Location", "tmp_path",
    # settings of PostgreSQL's, and of Celery's
    "synchronous_standby_names", "acks_late", "task_reject_on_worker_lost",
}  # fmt: skip
#: Attributes of spans, and tags.
OF_TRACES = {f"taquba.{name}" for name in ("queue", "label", "step", "attempt", "run_id", "job_id")}
#: What functions take besides, typed by a dict.
MORE = {"options": set(GivenOptions.__annotations__), "fields": set(RunFields.__annotations__)}
FOREIGN_ROOTS = {"msgspec", "django", "os", "requests", "diskcache", "time", "threading", "contextvars", "logging"}


def members(kind: type) -> set[str]:
    fields = {field.name for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else set()
    return fields | {name for name in dir(kind) if not name.startswith("_")}


def parameters(callable_: object) -> set[str]:
    try:
        named = set(inspect.signature(callable_).parameters)  # type: ignore[arg-type]  # refused if not callable
        return named.union(*(MORE[name] for name in named & MORE.keys()))
    except (TypeError, ValueError):
        return set()


CLASSES = [each for each in PUBLIC.values() if isinstance(each, type)]
KNOWN = {
    *PUBLIC,
    *INSIDE,
    *OPTIONS,
    *dir(builtins),
    *dir(threading),
    *(transition.name for transition in TRANSITIONS),
    *(name for kind in CLASSES for name in members(kind)),
    *(str(each.value) for kind in CLASSES if issubclass(kind, enum.Enum) for each in kind),
    *(name for each in PUBLIC.values() for name in parameters(each)),
    *(name for kind in CLASSES for method in members(kind) for name in parameters(getattr(kind, method, None))),
}


def find(dotted: str) -> object | None:
    """Return what a dotted name of ours stands for, None if it is somebody else's; fail if it is missing."""
    head, *rest = dotted.split(".")
    if dotted in OF_TRACES:
        return None
    if head == PACKAGE:
        return _find_in_package([head, *rest])
    if head not in PUBLIC and head not in INSTANCES:
        return None
    found = PUBLIC[INSTANCES.get(head, head)]
    for name in rest:
        assert isinstance(found, type) and name in members(found), f"`{dotted}`: there is no {name}"
        found = getattr(found, name, None)
        if isinstance(found, property):  # what it returns has the names that follow
            found = typing.get_type_hints(found.fget).get("return", found)
    return found


def _find_in_package(parts: list[str]) -> object:
    for length in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for name in parts[length:]:
            found = getattr(found, name)
        return found
    raise AssertionError(f"`{'.'.join(parts)}` is not there")


def check_name(dotted: str) -> None:
    """Fail if a name looks like one of ours and is none."""
    if find(dotted) is not None or dotted.split(".")[0] in {*PUBLIC, *FOREIGN_ROOTS}:
        return
    looks_like_ours = "." not in dotted and (dotted[0].isupper() or "_" in dotted)
    assert not looks_like_ours or dotted in KNOWN | FOREIGN, f"`{dotted}` is not there"


def check_call(call: ast.Call) -> None:
    """Fail if what is called is not there, or does not take the keywords that it is shown with."""
    if isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Call):
        check_call(call.func.value)  # a chain: the rest of it is known only at run time
        assert call.func.attr in KNOWN, f"`{ast.unparse(call)}`: there is no {call.func.attr}"
        return
    dotted = ast.unparse(call.func)
    target = find(dotted)
    if target is None:
        assert dotted.split(".")[0] in FOREIGN_ROOTS or dotted in KNOWN | FOREIGN, f"`{dotted}()` is not there"
        return
    for keyword in call.keywords:
        assert keyword.arg in parameters(target), f"`{ast.unparse(call)}`: no argument {keyword.arg}"


#: Pages with names of a framework that may be missing here; tests/django follows them to the letter.
OF_A_FRAMEWORK = ("examples/", "docs/django", "docs/tutorial/django")


@pytest.mark.parametrize(
    "name", [name for name in NAMES if not name.startswith(OF_A_FRAMEWORK)]
)
def test_every_name_of_the_api_exists(name: str) -> None:
    # The first cells of the tables there are another library's.
    text = re.sub(r"^\|[^|]*\|", "|", prose(name), flags=re.MULTILINE) if "/migrating/" in name else prose(name)
    for span in spans(text):
        if re.match(rf"({PACKAGE}|tests|docs|benchmarks|examples|\.ci)/[\w/.]*\Z", span):
            assert (ROOT / span).exists(), f"{name} mentions {span}, which is not there"
            continue
        try:
            expression = ast.parse(span.removesuffix("="), mode="eval").body
        except SyntaxError:
            continue  # a command, a header, a piece of SQL
        if isinstance(expression, (ast.Name, ast.Attribute)):
            check_name(ast.unparse(expression))
        for call in (node for node in ast.walk(expression) if isinstance(node, ast.Call)):
            check_call(call)


def test_nothing_is_excused_that_no_page_mentions() -> None:
    words = {word for name in NAMES for span in code_spans(name) for word in re.findall(r"\w+", span)}
    assert words >= FOREIGN, FOREIGN - words


def test_the_environment_variable_is_the_one_that_is_read() -> None:
    words = {word for name in NAMES for span in code_spans(name) for word in re.findall(r"TAQUBA_\w+", span)}
    assert words == {ALLOW_VARIABLE, STORE_VARIABLE, *OPTIONS}
