"""Every Python block of the pages runs, as a reader would run it, and prints what its comments say."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from taquba_workflow_sync.workflow.cron import Crontab
from tests.docs.pages import NAMES, ROOT, blocks, read

TIMEOUT = 60
WITH_PYTHON = [name for name in NAMES if any(block.language == "python" for block in blocks(name))]
PROGRAMS = {"jobs.py", "worker.py", "app.py", "views.py", "nightly.py", "orders.py", "test_orders.py",
            "census.py"}  # fmt: skip
#: Those of a Django project, which tests/django/test_page.py runs.
OF_DJANGO = {"settings.py", "models.py", "workflows.py", "urls.py", "tests.py"}
#: Those that need a server, which tests/storage/postgres/test_page.py runs.
OF_POSTGRES = {"shop.py"}

# Runs the blocks of a page one after the other in one namespace; line numbers are those of the page.
DRIVER = """
import sys
sys.path.insert(0, "")
from tests.docs.pages import ROOT, blocks
page = sys.argv[1]
space = {"__name__": "page"}
for block in blocks(page):
    if block.language == "python" and block.file is None:
        exec(compile("\\n" * (block.line - 1) + block.text, str(ROOT / page), "exec"), space)
"""

# Just enough of two web frameworks to run the views of the page.
STAND_INS = {
    "flask.py": """
class Flask:
    def __init__(self, name): self.views = {}
    def route(self, rule):
        def keep(view):
            self.views[rule] = view
            return view
        return keep
    get = post = route
""",
    "django/__init__.py": "",
    "django/db/__init__.py": "from . import transaction",
    "django/db/transaction.py": "def on_commit(call): call()",
    "django/http.py": """
class JsonResponse:
    def __init__(self, data, status=200): self.data, self.status_code = data, status
""",
}


def environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path}


def python(*arguments: str, cwd: Path) -> str:
    """Run Python with warnings as errors; return what it printed, having demanded that it succeeded in silence."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0 and done.stderr == "", f"{done.stdout}\n{done.stderr}"
    return done.stdout


def save(directory: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text, encoding="utf-8")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory with the files that the page on applications tells to write."""
    save(tmp_path, {block.file: block.text for block in blocks("docs/application.md") if block.file is not None})
    return tmp_path


@pytest.mark.parametrize("name", WITH_PYTHON)
def test_the_blocks_of_a_page_run_and_print_what_they_say(name: str, tmp_path: Path) -> None:
    run = [block for block in blocks(name) if block.file is None]
    expected = [line for block in run for line in re.findall(r"# -> (.+)$", block.text, re.MULTILINE)]
    assert python("-c", DRIVER, name, cwd=tmp_path).splitlines() == expected


def test_no_block_is_left_out() -> None:
    fences = {block.language for name in NAMES for block in blocks(name)}
    assert fences <= {"python", "sh", "console", "text", "py"}, "a block of another kind would not be run"
    files = {block.file for name in NAMES for block in blocks(name) if block.language == "python"}
    assert files == {None, *PROGRAMS, *OF_DJANGO, *OF_POSTGRES}
    assert {"README.md", "docs/operations.md", "docs/runner.md", "docs/features/README.md"} <= set(WITH_PYTHON)


def test_what_is_shown_of_other_libraries_is_python_and_stands_where_it_is_expected() -> None:
    theirs = [(name, block) for name in NAMES for block in blocks(name) if block.language == "py"]
    assert {name for name, _ in theirs} == {"docs/migrating/celery.md", "docs/migrating/huey.md"}
    for name, block in theirs:
        compile(block.text, f"{name}:{block.line}", "exec", ast.PyCF_ONLY_AST)


def test_lines_of_crontab_on_a_page_are_what_cron_takes() -> None:
    pytest.importorskip("cronsim")
    lines = [
        line for name in NAMES for block in blocks(name) if block.language == "text" for line in block.text.splitlines()
    ]
    jobs = [found for line in lines if (found := re.match(r"((?:[\d*][\d*/,-]* +){5})\S", line))]
    assert len(jobs) >= 2
    for found in jobs:
        Crontab(found[1].strip())
        assert "%" not in found.string, "cron takes it for the end of the line"


def test_the_worker_runs_what_the_views_submit_and_stops_on_sigterm(project: Path) -> None:
    save(project, STAND_INS)
    submit = """
import app, views
print(app.app.views["/orders/<int:number>/invoice"](7), app.show("nobody")[1])
print(views.create(None, 8).data)
"""
    printed = python("-c", submit, cwd=project)
    assert printed.splitlines() == ["({'run': 'invoice-7'}, 202) 404", "{'run': 'invoice-8'}"]

    worker = subprocess.Popen([sys.executable, "-W", "error", "worker.py"], cwd=project, env=environment())
    try:
        wait = """
import app
for run in ("invoice-7", "invoice-8"):
    print(app.client().wait(run, timeout=30).result)
answer, status = app.show("invoice-7")
print(answer["state"], status)
"""
        printed = python("-c", wait, cwd=project)
        assert printed.splitlines() == ["b'invoice-7.pdf'", "b'invoice-8.pdf'", "succeeded 200"]
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=30) == 0
    finally:
        if worker.poll() is None:
            worker.kill()
            worker.wait()


def test_cron_may_start_the_nightly_job_again_and_again(project: Path) -> None:
    assert python("nightly.py", cwd=project) == "2 0 0\n"
    assert python("nightly.py", cwd=project) == "0 0 0\n"


def test_the_first_block_of_the_readme_has_exactly_two_lines() -> None:
    first = blocks("README.md")[0]
    assert first.language == "sh"
    quickstart, tests = first.text.splitlines()
    for command in (quickstart, tests):
        steps = command.split(" && ")
        assert steps[0] == "python3 -m venv .venv", "each line sets itself up"
        assert steps[1].startswith(".venv/bin/pip install")
        assert not command.endswith("\\")
    assert quickstart.endswith(" .venv/bin/python examples/quickstart.py")
    assert tests.endswith(" -m pytest -n 4") and "'.[test]'" in tests


def test_the_kill_demonstration_uses_options_that_the_quickstart_has() -> None:
    usage = python(str(ROOT / "examples" / "quickstart.py"), "--help", cwd=ROOT)
    page = "docs/tutorial/README.md"
    commands = re.findall(r"quickstart\.py(.*)", "".join(block.text for block in blocks(page)))
    shown = {option for line in commands for option in re.findall(r"--\w+", line)}
    assert shown == {"--pause"} and "`--fresh`" in read(page)
    assert all(option in usage for option in (*shown, "--fresh"))
