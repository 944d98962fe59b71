"""A store, and the command line over it, in this process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from taquba_workflow_sync import Queue, WorkflowClient, WorkflowRuntime
from tests.cli import apps
from tests.postgres import store_url
from tests.storage.engines import EMBEDDED, ENGINES

if TYPE_CHECKING:
    from click.testing import Result

if find_spec("click") is None or find_spec("rich") is None:
    collect_ignore_glob = ["test_*.py"]  # without the extra [cli]

TARGET = "tests.cli.apps:runtime()"


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TAQUBA_STORE", "NO_COLOR", "NOTIFY_SOCKET"):
        monkeypatch.delenv(name, raising=False)


class Shell:
    """Calls commands on one store."""

    def __init__(self, store: Path | str) -> None:
        self.store: Any = store
        self.environment = {"TAQUBA_STORE": str(store)}

    @property
    def has_store(self) -> bool:
        """Whether the store is there."""
        return Queue.is_store(self.store)

    def __call__(self, *arguments: str, code: int = 0, input: str | bytes | None = None) -> Result:
        """Call a command that is expected to exit so."""
        from click.testing import CliRunner

        from taquba_workflow_sync.cli.main import cli

        result = CliRunner(env=self.environment).invoke(cli, arguments, input=input, catch_exceptions=False)
        assert result.exit_code == code, (arguments, result.exit_code, result.stdout, result.stderr)
        return result

    def json(self, *arguments: str, code: int = 0) -> list[dict[str, Any]]:
        """Return the objects that a command answers with."""
        return [json.loads(line) for line in self(*arguments, "--json", code=code).stdout.splitlines()]

    def one(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """Return the one object that a command answers with."""
        (answer,) = self.json(*arguments, code=code)
        return answer


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what has a store once on a directory, and once on a server unless it is marked ``embedded``."""
    if "engine" in metafunc.fixturenames:
        is_marked = metafunc.definition.get_closest_marker("embedded") is not None
        engines = [EMBEDDED] if is_marked else [engine for engine in ENGINES if engine.name != "memory"]
        metafunc.parametrize("engine", [engine.name for engine in engines])


@pytest.fixture
def shell(engine: str, tmp_path: Path) -> Shell:
    return Shell(store_url() if engine == "postgres" else tmp_path / "store")


@pytest.fixture
def client(shell: Shell) -> Iterator[WorkflowClient]:
    """A client beside the commands; its store is there before them."""
    with Queue.open(shell.store) as queue:
        yield WorkflowClient(queue)


@pytest.fixture
def work(client: WorkflowClient) -> Callable[[], None]:
    """Run all steps there are."""

    def work() -> None:
        WorkflowRuntime(client.queue, apps.step).run_until_idle()

    return work
