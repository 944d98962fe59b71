"""``move``: what it prints, and what it exits with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from taquba_workflow_sync import Queue
from taquba_workflow_sync.storage.moving import calls
from tests.cli.conftest import Shell
from tests.postgres import store_url

pytestmark = pytest.mark.embedded  # one of the two is a directory


class _Killed(BaseException):
    pass


def _stop(name: str) -> None:
    if name == "copied":
        raise _Killed


@pytest.fixture(params=["to-postgres"])
def target(request: pytest.FixtureRequest) -> str:
    """A store on the server, in the name of the mark that all of its tests bear."""
    return store_url()


def test_a_store_is_moved_and_says_where_it_is(shell: Shell, target: str) -> None:
    with Queue.open(shell.store) as queue:
        queue.enqueue("q", b"")
    moved = shell("move", str(shell.store), target)
    assert moved.stdout.startswith("moved ")
    with Queue.open(target) as queue:
        assert queue.stats("q").pending == 1
    again = shell("queues", code=1)
    assert f"was moved to {target.partition('?')[0]}" in again.stderr


def test_a_store_in_use_exits_with_75_and_names_who_uses_it(shell: Shell, target: str) -> None:
    with Queue.open(shell.store) as queue:
        queue.enqueue("q", b"", job_id="held")
        claim = queue.claim("q", lease=60)
        assert claim is not None
        refused = shell("move", str(shell.store), target, "--wait", "100ms", code=75)
        assert "job held of q still runs" in refused.stderr
        queue.ack(claim)
        told = shell("move", str(shell.store), target, "--json")
        assert json.loads(told.stdout)["rows"] > 0


def test_a_move_is_undone(shell: Shell, target: str) -> None:
    with Queue.open(shell.store) as queue:
        queue.enqueue("q", b"")
    with pytest.raises(_Killed):
        calls.move(str(shell.store), target, 10, _stop)
    assert "is being moved to" in shell("queues", code=1).stderr
    assert "was undone" in shell("move", "--abort", str(shell.store), target).stdout
    assert "q" in shell("queues").stdout
    assert "was begun" in shell("move", "--abort", str(shell.store), target, code=1).stderr


def test_what_cannot_be_moved_is_wrong_usage_or_not_there(shell: Shell, tmp_path: Path, target: str) -> None:
    assert "there is no store" in shell("move", str(shell.store), target, code=4).stderr
    Queue.open(shell.store).close()
    assert "are of one kind" in shell("move", str(shell.store), str(tmp_path / "other"), code=2).stderr
