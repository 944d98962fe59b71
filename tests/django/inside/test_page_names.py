"""What the page on Django names of ours is there."""

from __future__ import annotations

import re
from pathlib import Path

from django.core.management import get_commands

from taquba_workflow_sync.contrib import django as contrib
from taquba_workflow_sync.contrib.django import checks, conf, test
from taquba_workflow_sync.contrib.django.models import Run
from taquba_workflow_sync.contrib.django.tasks import TaqubaBackend
from tests.docs.pages import code_spans, read

PAGE = "docs/django.md"


def test_every_command_is_on_the_page_and_every_one_of_the_page_is_there() -> None:
    ours = {name for name, app in get_commands().items() if app == contrib.__name__}
    assert ours == {word for span in code_spans(PAGE) for word in re.findall(r"taquba_(?!workflow)\w+", span)}


def test_names_permissions_and_keys_are_those_of_the_code() -> None:
    spans = set(code_spans(PAGE))
    assert {name for name in contrib.__all__ if name in spans or f'{name}("reports")' in spans} == set(contrib.__all__)
    assert {"TaqubaTestCase", "OwnStore"} <= spans and test.TaqubaTestCase and test.OwnStore
    permissions = [codename for codename, _ in Run._meta.permissions]
    assert {"view_run", *permissions} <= spans
    keys = set(re.findall(r'^ +"([A-Z_]+)":', read(PAGE), re.MULTILINE)) | {"STORE", "IMMEDIATE"}
    assert keys <= set(conf.KEYS)
    assert f"{TaqubaBackend.__module__}.{TaqubaBackend.__name__}" in read(PAGE)
    assert checks.TAG == "taquba"


def test_every_id_of_a_check_is_on_the_page() -> None:
    package = Path(checks.__file__).parent
    sources = "".join(path.read_text() for path in package.glob("*.py"))
    ids = set(re.findall(r'(?:Problem\(\s*|taquba\.)"?([EW]\d{3})"', sources))
    assert len(ids) >= 16
    assert ids == set(re.findall(r"\b([EW]\d{3})`", read(PAGE)))
