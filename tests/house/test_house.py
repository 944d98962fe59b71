"""The rules of the house that no linter knows."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "taquba_workflow_sync"
FILES = sorted(PACKAGE.rglob("*.py"))
MOST_LINES = 400

_STATEMENT = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|CREATE|DROP|ALTER|WITH|BEGIN|COMMIT|ROLLBACK)\b[^.]")
#: Where a statement may stand outside of ``sql``, and why.
#: The statements of transitions and reads; and what an engine on a server asks that server of itself.
_ROOMS_OF_SQL = ("/relational/sql/", "/storage/postgres/")
_STATEMENTS_ELSEWHERE = {
    "storage/embedded/cache.py": "diskcache's own table, which is diskcache's to name",
    "storage/moving/copying.py": "made for each table of the schema, whatever it is called meanwhile",
    "storage/moving/embedded.py": "made for each table of the schema",
    "storage/moving/move.py": "made for each table of the schema",
    "storage/moving/postgres.py": "made for each table of the schema, or asked of the server alone",
}
#: Mutable state of a module, and why there is no other way.
_MODULE_STATE = {
    ("queue/running.py", "RUNNING"): "claims of several handles must know of each other",
    ("workflow/instruments.py", "INSTRUMENTS"): "instruments are the process's, as what they report to is",
    ("storage/relational/forks.py", "_forks"): "os.register_at_fork cannot unregister",
    ("storage/postgres/connections.py", "_inherited"): "libpq ends a session that is garbage, here its parent's",
    ("ids.py", "new_ulid"): "ids ascend within a process",
    ("contrib/django/console.py", "urlpatterns"): "what Django's include looks for, and a list by its own contract",
}


def _name(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_a_file_is_no_longer_than_one_can_hold_in_mind(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MOST_LINES


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_a_file_says_its_duty_in_a_line(path: Path) -> None:
    doc = ast.get_docstring(ast.parse(path.read_text()))
    assert doc and len(doc.splitlines()[0]) <= 120


def _texts(tree: ast.Module) -> Iterator[str]:
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.value


def test_sql_stands_in_one_room() -> None:
    found = {
        _name(path): text[:60]
        for path in FILES
        for text in _texts(ast.parse(path.read_text()))
        if _STATEMENT.match(text)
        and not any(room in path.as_posix() for room in _ROOMS_OF_SQL)
        and _name(path) not in _STATEMENTS_ELSEWHERE
    }
    assert found == {}


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_nothing_sleeps_and_nothing_is_swallowed(path: Path) -> None:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in ("time.sleep", "sleep"), f"line {node.lineno}"
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"a bare except in line {node.lineno}"
        assert not isinstance(node, ast.Global), f"a global in line {node.lineno}"


_MUTABLE = ("list", "set", "dict", "deque", "defaultdict", "threading.Lock", "threading.local")


def _is_mutable(value: ast.expr) -> bool:
    if isinstance(value, (ast.List, ast.Set, ast.ListComp, ast.SetComp)):
        return True
    if not isinstance(value, ast.Call):
        return False
    made = ast.unparse(value.func)
    return made in _MUTABLE or made.endswith(
        ("WeakSet", "WeakValueDictionary", "RunningTokens", "UlidFactory", "_Forks", "Instruments")
    )


def test_modules_hold_no_state_but_what_the_language_leaves_no_other_place_for() -> None:
    found = set()
    for path in FILES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None and _is_mutable(node.value):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                found |= {(_name(path), ast.unparse(target)) for target in targets if ast.unparse(target) != "__all__"}
    assert found == _MODULE_STATE.keys()


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_comments_say_why_and_draw_no_lines(path: Path) -> None:
    for number, line in enumerate(path.read_text().splitlines(), 1):
        assert not re.match(r"\s*#\s*[-=]{3,}|\s*#.*[-=]{6,}\s*$", line), f"a banner in line {number}"


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_a_check_that_is_switched_off_names_itself_and_its_reason(path: Path) -> None:
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if "type: ignore" in line or "noqa" in line:
            reasoned = re.search(r"(type: ignore\[[a-z-]+\]|noqa: [A-Z]+[0-9]+) +# \S+", line)
            assert reasoned, f"line {number}: {line.strip()}"
