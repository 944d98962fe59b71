"""The state machine's picture and table are what the generator makes of the transition table."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from types import ModuleType
from xml.etree import ElementTree

import pytest

from taquba_workflow_sync import JobStatus
from taquba_workflow_sync.storage.port.transitions import TRANSITIONS
from tests.docs.pages import ROOT, read


@pytest.fixture(scope="module")
def generator() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("make_state_machine", ROOT / "docs" / "make_state_machine.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        del sys.modules[spec.name]


def test_picture_and_table_are_up_to_date(generator: ModuleType) -> None:
    assert generator.stale() == [], "run docs/make_state_machine.py"


def test_a_transition_without_a_place_is_refused(generator: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    routes = dict(generator.ROUTES)
    del routes["pending", "claimed"]
    monkeypatch.setattr(generator, "ROUTES", routes)
    with pytest.raises(SystemExit, match=r"pending.*claimed"):
        generator.svg()


def test_the_picture_shows_every_state_and_every_transition() -> None:
    picture = ElementTree.fromstring(read("docs/state-machine.svg"))
    texts = {(element.text or "").rstrip("*") for element in picture.iter("{http://www.w3.org/2000/svg}text")}
    assert {status.value for status in JobStatus} <= texts
    assert {transition.name for transition in TRANSITIONS if transition.is_drawn} <= texts


def test_the_table_of_the_page_has_one_row_for_each_transition() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", read("docs/architecture.md"), re.MULTILINE)
    assert rows == [transition.name for transition in TRANSITIONS]
