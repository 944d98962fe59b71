"""What an import brings with it."""

from __future__ import annotations

import subprocess
import sys

import pytest


def loaded_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print('\\n'.join(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "names",
    [
        "from taquba_workflow_sync import *",
        "import taquba_workflow_sync.testing",
        "import taquba_workflow_sync.logs, taquba_workflow_sync.workflow.runtime",
    ],
)
def test_importing_the_package_imports_none_of_its_dependencies(names: str) -> None:
    loaded = loaded_after(names)

    assert "taquba_workflow_sync.workflow.runtime" in loaded
    assert not loaded & {"requests", "urllib3", "diskcache", "filelock", "sqlite3", "asyncio", "pickle5", "msgspec"}
    assert not loaded & {"prometheus_client", "opentelemetry", "sentry_sdk", "taquba_workflow_sync.contrib"}
    assert not loaded & {"jinja2", "taquba_workflow_sync.console"}


@pytest.mark.parametrize("framework", ["flask", "django"])
def test_who_does_not_mount_the_console_does_not_load_it(framework: str) -> None:
    pytest.importorskip(framework)
    before = loaded_after(f"import {framework}")  # Flask has templates of its own
    loaded = loaded_after(f"import taquba_workflow_sync.contrib.{framework}") - before

    assert f"taquba_workflow_sync.contrib.{framework}" in loaded
    assert not [name for name in loaded if name.startswith(("jinja2", "taquba_workflow_sync.console"))]
    assert f"taquba_workflow_sync.contrib.{framework}.console" not in loaded


@pytest.mark.parametrize(
    "statement",
    ["import taquba_workflow_sync.console", "from taquba_workflow_sync.contrib.flask import console_blueprint"],
)
def test_the_console_says_in_a_sentence_which_extra_it_needs(statement: str) -> None:
    pytest.importorskip("flask")
    code = f"import flask, sys; sys.modules['jinja2'] = None\n{statement}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)

    said = "ImportError: taquba_workflow_sync.console needs Jinja2: pip install 'taquba-workflow-sync[console]'"
    assert done.stderr.splitlines()[-1] == said


def test_what_of_the_console_is_public_is_who_may_and_the_ways_to_mount_it() -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("flask")
    from taquba_workflow_sync import console
    from taquba_workflow_sync.contrib import flask

    assert console.__all__ == ["ACT", "READ", "Access"]
    assert [each.name for each in console.Access] == ["READ", "ACT"]
    assert "console_blueprint" in flask.__all__ and callable(flask.console_blueprint)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = flask.no_such_name


def test_testing_runners_of_bytes_needs_nothing_that_flows_need() -> None:
    run = "run_to_end(queue, clock, lambda step: Succeed(), b'')"
    loaded = loaded_after(
        "from taquba_workflow_sync import *; from taquba_workflow_sync.testing import *; clock = ManualClock()\n"
        f"with Queue.temporary(clock=clock) as queue: {run}\nprint()"
    )

    assert "taquba_workflow_sync.testing.running" in loaded
    assert not loaded & {"msgspec", "taquba_workflow_sync.flow", "pytest"}


def test_opening_a_queue_does_not_import_requests() -> None:
    loaded = loaded_after("from taquba_workflow_sync import Queue; Queue.temporary().close()")

    assert "diskcache" in loaded or "sqlite3" in loaded
    assert not loaded & {"requests", "urllib3"}


def test_importing_the_package_starts_no_thread_and_opens_no_file() -> None:
    code = (
        "import os, threading; before = len(os.listdir('/proc/self/fd')) if os.path.isdir('/proc/self/fd') else 0\n"
        "import taquba_workflow_sync\n"
        "after = len(os.listdir('/proc/self/fd')) if os.path.isdir('/proc/self/fd') else 0\n"
        "assert threading.active_count() == 1 and before == after, (before, after)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_what_is_public_is_imported_when_it_is_first_used_and_not_before() -> None:
    ours = {each for each in loaded_after("import taquba_workflow_sync") if each.startswith("taquba")}
    assert ours == {"taquba_workflow_sync"}
    before = loaded_after("import pytest, ast")
    plugin = loaded_after("import pytest, ast, taquba_workflow_sync.pytest_plugin")
    assert plugin - before == {"taquba_workflow_sync", "taquba_workflow_sync.pytest_plugin"}


def test_a_name_that_is_not_public_is_none() -> None:
    import taquba_workflow_sync

    for name in ("no_such_name", "_no_such_name", "__no_such_name__"):
        assert not hasattr(taquba_workflow_sync, name)
    assert set(taquba_workflow_sync.__all__) <= set(dir(taquba_workflow_sync))
    with pytest.raises(ImportError, match="no_such_name"):
        exec("from taquba_workflow_sync import no_such_name")


def test_the_public_names_are_those_that_type_checkers_are_shown() -> None:
    import taquba_workflow_sync
    from taquba_workflow_sync import _public

    # Not what pytest adds to the modules of a package that has a plugin: no identifiers.
    shown = {name for name in vars(_public) if name.isidentifier() and not name.startswith("__")}
    assert shown == set(taquba_workflow_sync.__all__)
