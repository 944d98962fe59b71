"""What is published: the sdist is the project, the wheel the package, and both say where the rest is to be found."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

import taquba_workflow_sync
from tests.docs.pages import PROJECT_URLS, REPOSITORY, ROOT, read, targets

PACKAGE = "taquba_workflow_sync"
FOLDERS = [PACKAGE, ".ci", "benchmarks", "docs", "examples", "tests"]
FILES = [
    "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "MANIFEST.in", "README.md", "SECURITY.md", "pyproject.toml",
    "setup.cfg",
]  # fmt: skip
LEFT_BY_TOOLS = shutil.ignore_patterns("__pycache__", "*.py[cod]", ".*_cache", ".hypothesis", ".benchmarks-*", "var")


def run(*arguments: str, cwd: Path) -> str:
    """Run Python there, and there only: nothing is imported from where the tests run."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTEST_ADDOPTS")}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(kind: str, source: Path, into: Path) -> Path:
    """Call the build backend itself, as a frontend does, without the frontend's downloads."""
    code = f"import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])"
    run("-c", code, str(into), cwd=source)
    (built,) = into.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project, since building writes beside what it builds."""
    tree = tmp_path_factory.mktemp("tree")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, tree / folder, ignore=LEFT_BY_TOOLS)
    for file in FILES:
        shutil.copy(ROOT / file, tree / file)
    return tree


@pytest.fixture(scope="module")
def unpacked(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, unpacked."""
    into = tmp_path_factory.mktemp("sdist")
    before = files_below(tree)
    with tarfile.open(build("sdist", tree, into)) as archive:
        archive.extractall(into / "unpacked", filter="data")
    (top,) = (into / "unpacked").iterdir()
    made = {name for name in files_below(top) if name == "PKG-INFO" or f"{PACKAGE}.egg-info/" in name}
    assert files_below(top) - made == before
    return top


@pytest.fixture(scope="module")
def wheel(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel that is built from the sdist."""
    return zipfile.ZipFile(build("wheel", unpacked, tmp_path_factory.mktemp("wheel")))


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(wheel.read(name).decode())


def test_the_sdist_is_the_project(unpacked: Path) -> None:
    assert set(FILES) <= files_below(unpacked)
    for file in (
        "tests/faults/interpose/interpose.c",
        "docs/state-machine.svg",
        "examples/data/airports.csv",
        ".ci/run",
    ):
        assert (unpacked / file).is_file()
    assert os.access(unpacked / ".ci" / "run", os.X_OK)


def test_the_wheel_is_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    inside = {f"{PACKAGE}/{name}" for name in files_below(ROOT / PACKAGE) if not name.endswith((".pyc", ".pyo"))}

    assert f"{PACKAGE}/py.typed" in names
    assert {name for name in names if ".dist-info/" not in name} == inside
    assert any(name.endswith("/LICENSE") for name in names)


def test_the_tests_of_the_sdist_can_be_collected(unpacked: Path) -> None:
    printed = run(
        "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "tests/api", "tests/docs", cwd=unpacked
    )

    assert f"{Path(__file__).name}::{test_the_tests_of_the_sdist_can_be_collected.__name__}" in printed


def test_the_metadata_say_where_things_are(metadata: Message) -> None:
    urls = dict(each.split(", ", 1) for each in metadata.get_all("Project-URL", []))

    assert urls == PROJECT_URLS
    assert set(urls) == {"Source", "Documentation", "Changelog", "Issues", "Security"}
    assert all(url.startswith(REPOSITORY) for url in urls.values())
    for url in urls.values():
        if found := re.search(r"/(?:blob|tree)/main/(.+)", url):
            assert (ROOT / found[1]).exists(), url


def test_the_long_description_is_the_readme_and_has_no_relative_link(metadata: Message) -> None:
    description = metadata.get_payload()
    assert isinstance(description, str)

    assert metadata["Description-Content-Type"] == "text/markdown"
    assert description.strip() == read("README.md").strip()
    assert [target for target in targets(description) if not target.startswith("https://")] == []


def test_the_package_knows_the_version_that_is_published(metadata: Message) -> None:
    assert metadata["Version"] == taquba_workflow_sync.__version__


def test_the_package_knows_the_version_that_is_installed() -> None:
    assert importlib.metadata.version("taquba-workflow-sync") == taquba_workflow_sync.__version__
