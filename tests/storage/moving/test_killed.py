"""A move killed at any instant: nobody can work on both stores, and it is gone on with, or undone."""

from __future__ import annotations

import ast
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from taquba_workflow_sync import Queue, StorageError, StoreMovedError
from taquba_workflow_sync.storage import moving
from tests.processes.harness import ROOT
from tests.storage.moving.conftest import Pair, is_open
from tests.storage.moving.furnished import told

#: In their order; who may work on the source, and on the target, once it was killed there.
INSTANTS = {
    "claim target": (True, True),
    "claimed target": (True, False),
    "mark source": (True, False),
    "marked source": (True, False),
    "close source": (True, False),
    "closed source": (False, False),
    "copy taquba_job_4": (False, False),
    "copied taquba_job_4": (False, False),
    "copied taquba_kv_4": (False, False),
    "copied": (False, False),
    "compared": (False, False),
    "open target": (False, False),
    "opened target": (False, True),
    "end source": (False, True),
    "ended source": (False, True),
    "forget move": (False, True),
    "forgotten move": (False, True),
}
#: Of an undoing.
UNDOING = ("empty target", "emptied target", "open source", "opened source")
#: All of them one way; the other way, which has the same stages, one of each kind.
BOTH_WAYS = [
    *(("to-postgres", instant) for instant in INSTANTS),
    *(("from-postgres", instant) for instant in ("marked source", "closed source", "copied", "opened target")),
]
_WHOLE = ("opened target", "end source", "ended source", "forget move", "forgotten move")


def _kill(pair: Pair, instant: str, *more: str) -> None:
    command = [sys.executable, "-m", "tests.storage.moving.killed", pair.source, pair.target, instant, *more]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr


def _told(address: str) -> object:
    with Queue.open(address) as queue:
        return told(queue.handle.store)


def test_every_instant_of_a_move_is_one_at_which_it_is_killed() -> None:
    found: set[str] = set()
    for path in Path(moving.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "reached":
                name = node.args[1]
                found.add(name.value if isinstance(name, ast.Constant) else ast.unparse(name))  # type: ignore[arg-type]
    of_tables = {"f'copy {table.name}'", "f'copied {table.name}'"}
    assert found == {name for name in (*INSTANTS, *UNDOING) if "taquba_" not in name} | of_tables


@pytest.mark.parametrize(("direction", "instant"), BOTH_WAYS, indirect=["direction"])
def test_a_move_that_was_killed_goes_on(pair: Pair, instant: str) -> None:
    before = _told(pair.source)
    _kill(pair, instant)
    assert (is_open(pair.source), is_open(pair.target)) == INSTANTS[instant]
    if instant == "forgotten move":
        with pytest.raises(StoreMovedError):
            pair.move()
    else:
        pair.move()
    assert _told(pair.target) == before
    with pytest.raises(StoreMovedError):
        Queue.open(pair.source)


@pytest.mark.parametrize(("direction", "instant"), BOTH_WAYS, indirect=["direction"])
def test_a_move_that_was_killed_is_undone(pair: Pair, instant: str) -> None:
    before = _told(pair.source)
    _kill(pair, instant)
    if instant in _WHOLE:
        with pytest.raises(StorageError):
            pair.abort()
        assert not is_open(pair.source)
        return
    if instant == "claim target":
        with pytest.raises(StorageError, match="was begun"):
            pair.abort()
    else:
        pair.abort()
    assert _told(pair.source) == before
    with Queue.open(pair.target) as queue:
        assert queue.list_queues() == []
    pair.move()
    assert _told(pair.target) == before


@pytest.mark.parametrize("direction", ["to-postgres"], indirect=True)
@pytest.mark.parametrize("instant", UNDOING)
def test_an_undoing_that_was_killed_is_gone_on_with(pair: Pair, instant: str) -> None:
    before = _told(pair.source)
    _kill(pair, "copied taquba_job_4")
    _kill(pair, instant, "abort")
    assert is_open(pair.target) == (instant != "empty target")
    assert is_open(pair.source) == (instant == "opened source")
    if instant == "opened source":
        with pytest.raises(StorageError, match="was begun"):
            pair.abort()
    else:
        pair.abort()
    assert _told(pair.source) == before
    pair.move()
    assert _told(pair.target) == before


@pytest.mark.parametrize("direction", ["from-postgres"], indirect=True)
@pytest.mark.parametrize("instant", ["empty target", "emptied target", "open source"])
def test_after_an_undoing_that_was_killed_the_move_may_as_well_go_on(pair: Pair, instant: str) -> None:
    before = _told(pair.source)
    _kill(pair, "copied taquba_job_4")
    _kill(pair, instant, "abort")
    pair.move()
    assert _told(pair.target) == before
