"""The plugin as pytest has it: found by its entry point, under its name, on several workers, and importing nothing."""

from __future__ import annotations

import ast
import configparser
import os

import pytest

from taquba_workflow_sync import pytest_plugin
from tests.docs.pages import ROOT

pytest_plugins = ["pytester"]

SUITE = """
    import pytest
    from taquba_workflow_sync import ContinueAfter, Succeed

    def run_step(step):
        return ContinueAfter(b"", 3_600) if step.step_number == 0 else Succeed(b"done")

    @pytest.mark.parametrize("number", range(2))
    def test_run(taquba_run, taquba_hook, taquba_queue, taquba_clock, taquba_crash_at, tmp_path, number):
        with taquba_crash_at("after-settle") as crashes:
            assert taquba_run(run_step, b"", run_id="same").result == b"done"
        assert len(crashes.cut) == 2 and len(taquba_hook.outcomes) == 1
        assert taquba_queue.path.is_relative_to(tmp_path)
"""


@pytest.fixture
def installed(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A directory in which the package is installed, as far as entry points go."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    site = pytester.mkdir("site")
    info = site / "taquba_workflow_sync_here-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: taquba-workflow-sync-here\nVersion: 0\n")
    (info / "entry_points.txt").write_text(f"[pytest11]{config['options.entry_points']['pytest11']}\n")
    path = filter(None, [str(site), str(ROOT), os.environ.get("PYTHONPATH")])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    pytester.makepyfile(SUITE)
    return pytester


def test_it_is_there_where_the_package_is_installed_and_on_several_workers(installed: pytest.Pytester) -> None:
    installed.runpytest_subprocess("-n", "2", "-W", "error", timeout=60).assert_outcomes(passed=2)


def test_it_is_called_taquba_and_can_be_left_out(installed: pytest.Pytester) -> None:
    result = installed.runpytest_subprocess("-p", "no:taquba", timeout=60)

    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["*fixture 'taquba_run' not found"])


def test_a_suite_that_overrides_a_fixture_has_its_own(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import pytest
        from datetime import UTC, datetime
        from taquba_workflow_sync import Queue, QueueConfig
        from taquba_workflow_sync.testing import ManualClock
        from taquba_workflow_sync.pytest_plugin import *
        from taquba_workflow_sync.pytest_plugin import _taquba_crashes

        @pytest.fixture
        def taquba_clock():
            return ManualClock(datetime(2030, 1, 1, tzinfo=UTC))

        @pytest.fixture
        def taquba_queue(taquba_clock, tmp_path):
            config = QueueConfig(max_attempts=1)
            with Queue.open(tmp_path / "own", clock=taquba_clock, default_config=config) as queue:
                yield queue
        """
    )
    pytester.makepyfile(
        """
        def test_run(taquba_run):
            outcome = taquba_run(lambda step: 1 / 0, b"")
            assert (outcome.status, outcome.run.finished_at.year) == ("failed", 2030)
        """
    )
    pytester.runpytest_inprocess().assert_outcomes(passed=1)


def test_it_imports_nothing_but_pytest() -> None:
    tree = ast.parse((ROOT / "taquba_workflow_sync" / "pytest_plugin.py").read_text())
    names = {each.module for each in tree.body if isinstance(each, ast.ImportFrom)}
    names |= {alias.name for each in tree.body if isinstance(each, ast.Import) for alias in each.names}

    assert names == {"__future__", "collections.abc", "contextlib", "typing", "pytest"}


def test_its_fixtures_are_documented() -> None:
    fixtures = [value for name, value in vars(pytest_plugin).items() if name.startswith("taquba_")]

    assert len(fixtures) == 5 and all((each.__doc__ or "").strip() for each in fixtures)
