"""Every name of the API that a page mentions exists, with the arguments that it is shown with."""

from __future__ import annotations

import ast
import builtins
import dataclasses
import importlib
import inspect
import re
import threading
from pathlib import Path

import pytest

import taquba_workflow_sync
from taquba_workflow_sync import testing
from taquba_workflow_sync.queue.transitions import TRANSITIONS
from taquba_workflow_sync.storage.port import Store
from taquba_workflow_sync.storage.records import Settlement
from tests.docs.pages import NAMES, ROOT, code_spans

PUBLIC = {
    **{name: getattr(taquba_workflow_sync, name) for name in taquba_workflow_sync.__all__},
    **{name: getattr(testing, name) for name in testing.__all__},
    # What CONTRIBUTING tells those about who work on the inside.
    "TRANSITIONS": TRANSITIONS,
    "Settlement": Settlement,
    "Store": Store,
}
INSTANCES = {"step": "Step", "outcome": "RunOutcome", "handle": "RunHandle", "queue": "Queue", "runtime": "WorkflowRuntime"}
# What the pages mention of others, where it looks like a name of ours.
FOREIGN = {
    "COMMIT", "UPDATE", "DELETE", "INSERT", "EXPLAIN", "PRAGMA", "VACUUM", "POST", "SIGTERM", "SIGINT", "NA", "GU",
    "CQ", "AS", "USA", "CHECK", "F_FULLFSYNC", "Disk", "Settings", "ThreadPoolExecutor", "TimeoutStopSec", "ENGINES",
    "Protocol", "timedelta", "Session",
}  # fmt: skip
CALL = re.compile(r"(?:await )?([A-Za-z_][\w.]*)\(.*\)\Z", re.DOTALL)
DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*\Z")
MODULE = "taquba_workflow_sync"


def members(kind: type) -> set[str]:
    fields = {field.name for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else set()
    return fields | set(dir(kind)) | set(getattr(kind, "__annotations__", ()))


ALL_MEMBERS = set().union(*(members(each) for each in PUBLIC.values() if isinstance(each, type)))


def resolve(dotted: str) -> object | None:
    """Return what a dotted name stands for, None if it is not ours; fail if ours and missing."""
    head, *rest = dotted.split(".")
    if head == MODULE:
        for length in range(len(rest), -1, -1):
            try:
                found: object = importlib.import_module(".".join([head, *rest[:length]]))
            except ModuleNotFoundError:
                continue
            for name in rest[length:]:
                found = getattr(found, name)
            return found
        raise AssertionError(dotted)
    if head not in PUBLIC and head not in INSTANCES:
        return None
    found = PUBLIC[INSTANCES.get(head, head)]
    for name in rest:
        assert isinstance(found, type) and name in members(found), f"{dotted}: no {name}"
        found = getattr(found, name, None)
    return found


def check_call(span: str, dotted: str) -> None:
    """Check the keywords of a call against the signature, where the span is whole Python."""
    target = resolve(dotted)
    if target is None:
        assert (
            dotted.split(".")[-1] in ALL_MEMBERS | set(PUBLIC) | set(dir(builtins))
            or "." in dotted
            and dotted.split(".")[0] in {"os", "django", "threading"}
        ), f"{span}: unknown"
        return
    try:
        call = ast.parse(span.replace("...", "None"), mode="eval").body
    except SyntaxError:
        return
    while isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Call):
        call = call.func.value
    if isinstance(call, ast.Call):
        parameters = inspect.signature(target).parameters  # type: ignore[arg-type]
        for keyword in call.keywords:
            assert keyword.arg in parameters, f"{span}: no argument {keyword.arg}"


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("examples/")])
def test_every_name_of_the_api_exists(name: str) -> None:
    for span in code_spans(name):
        if "<" in span or " " in span and not CALL.match(span):
            continue
        call = CALL.match(span)
        if call:
            check_call(span, call[1])
        elif span.startswith((f"{MODULE}/", "tests/", "docs/", "benchmarks/", "examples/")) or span == ".ci/run":
            assert (ROOT / span).exists(), f"{span} is not there"
        elif DOTTED.match(span):
            check_name(span)


def check_name(span: str) -> None:
    if resolve(span) is not None or span.split(".")[0] in PUBLIC:
        return
    if re.match(r"[A-Z]", span) and "." not in span and not span.startswith("TAQUBA_"):
        assert span in FOREIGN or hasattr(builtins, span) or hasattr(threading, span), f"{span}: unknown"


def test_the_environment_variable_is_the_one_that_is_read() -> None:
    from taquba_workflow_sync.storage.embedded.filesystem import ALLOW_VARIABLE

    mentioned = {word for name in NAMES for span in code_spans(name) for word in re.findall(r"TAQUBA_\w+", span)}
    assert mentioned == {ALLOW_VARIABLE}


def test_every_public_error_and_outcome_is_mentioned_somewhere() -> None:
    text = " ".join(span for name in NAMES for span in code_spans(name)) + Path(ROOT / "README.md").read_text("utf-8")
    for outcome in ("Continue", "ContinueAfter", "Succeed", "Fail", "Cancel", "StepError"):
        assert outcome in text
