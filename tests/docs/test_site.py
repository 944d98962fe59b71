"""The site is built without a warning, loads nothing from elsewhere, leads to what is there, and is complete."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.parse
from html.parser import HTMLParser
from pathlib import Path

import pytest

import taquba_workflow_sync
from taquba_workflow_sync import console, flow, logs, pytest_plugin, testing
from taquba_workflow_sync.cli.main import cli
from taquba_workflow_sync.contrib import django as contrib_django
from taquba_workflow_sync.contrib import flask as contrib_flask
from taquba_workflow_sync.contrib import health, otel, prometheus, sentry
from tests.docs.pages import NAMES, ROOT

InventoryFile = pytest.importorskip("sphinx.util.inventory", reason="needs the extra [docs]").InventoryFile
pytestmark = [
    pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the site is made with Python 3.11"),
    pytest.mark.timeout(300),
]

#: What loads what it names, by element and attribute; a link that a reader may follow is none.
LOADS = {
    ("script", "src"), ("img", "src"), ("source", "src"), ("source", "srcset"), ("img", "srcset"), ("iframe", "src"),
    ("object", "data"), ("embed", "src"), ("audio", "src"), ("video", "src"), ("use", "href"), ("image", "href"),
}  # fmt: skip
#: A link element that only says something; every other one loads.
ONLY_SAYS = {"next", "prev", "index", "search", "canonical", "author", "copyright", "up"}


class Page(HTMLParser):
    """What a page loads, where it leads, and the places in it that can be led to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.leads: list[str] = []
        self.places: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if "id" in given:
            self.places.add(given["id"])
        if tag == "a" and "href" in given:
            self.leads.append(given["href"])
        if tag == "link" and not ONLY_SAYS & set(given.get("rel", "").split()):
            self.loads.append(given["href"])
        self.loads += [value for name, value in given.items() if (tag, name) in LOADS]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built by the command that CONTRIBUTING has."""
    into = tmp_path_factory.mktemp("site") / "html"
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "-n", "--keep-going", "-q", "docs", str(into)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return into


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    """What each page of it has."""
    return {path: Page(path) for path in site.rglob("*.html")}


def test_every_page_of_docs_is_there(site: Path, pages: dict[Path, Page]) -> None:
    expected = {site / f"{name[5:-3]}.html" for name in NAMES if name.startswith("docs/")}
    assert expected <= pages.keys()


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        for url in page.loads:
            assert not re.match(r"[a-z]+:|//", url) or url.startswith("data:"), f"{path} loads {url}"
    for style in site.rglob("*.css"):
        found = re.findall(r"""(?:url\(|@import)\s*['"]?((?:https?:)?//[^'")]*)""", style.read_text(encoding="utf-8"))
        assert found == [], f"{style} loads {found}"


def test_every_link_leads_to_a_page_and_a_place_in_it(site: Path, pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        for href in page.leads:
            url = urllib.parse.urlsplit(href)
            if url.scheme:
                assert url.scheme == "mailto" or (url.scheme == "https" and "." in url.netloc), f"{path}: {href}"
                continue
            target = (path.parent / urllib.parse.unquote(url.path)).resolve() if url.path else path
            assert target.is_file() and target.is_relative_to(site), f"{path} leads to {href}"
            # A place that a script makes, such as the top of the page, is the page's own business.
            if url.fragment and target in pages:
                assert urllib.parse.unquote(url.fragment) in pages[target].places, f"{path} leads to {href}"


def _public_names() -> set[str]:
    listed = (taquba_workflow_sync, flow, testing, contrib_django, contrib_flask, console)
    names = {f"{module.__name__}.{name}" for module in listed for name in module.__all__}
    for module in (logs, health, otel, prometheus, sentry):
        own = {name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__}
        names |= {f"{module.__name__}.{name}" for name in own if not name.startswith("_")}
    names |= {f"{pytest_plugin.__name__}.{name}" for name in vars(pytest_plugin) if name.startswith("taquba_")}
    names |= {f"{contrib_django.__name__}.tasks.TaqubaBackend", f"{contrib_django.__name__}.test.TaqubaTestCase"}
    return names - {f"{flow.__name__}.Cancel", f"{flow.__name__}.Fail"}  # they stand where they are a step's


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    with (site / "objects.inv").open("rb") as file:
        inventory = InventoryFile.load(file, "", urllib.parse.urljoin)
    found = {name for kind, names in inventory.items() if kind.startswith("py:") for name in names}
    assert _public_names() - found == set()


def test_every_command_is_in_the_reference(site: Path, pages: dict[Path, Page]) -> None:
    places = pages[site / "reference" / "command-line.html"].places
    for name in cli.list_commands(None):  # type: ignore[arg-type]  # it needs none
        assert f"taquba-workflow-{name}" in places
