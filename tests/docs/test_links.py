"""Links lead somewhere, and the pages say nothing that only one machine knows."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import NAMES, ROOT, anchors, links, read


@pytest.mark.parametrize("name", NAMES)
def test_every_relative_link_leads_to_a_file_and_a_heading(name: str) -> None:
    for target in links(name):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / name).parent / path if path else ROOT / name
        assert file.exists(), f"{name} links to {target}, which is not there"
        if anchor:
            page = file.resolve().relative_to(ROOT).as_posix()
            assert anchor in anchors(page), f"{name} links to {target}; {page} has no such heading"


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("docs/")])
def test_a_table_of_contents_is_complete(name: str) -> None:
    listed = re.findall(r"^- \[.+\]\(#(.+)\)$", read(name), re.MULTILINE)
    if listed:
        assert listed == [
            re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
            for heading in re.findall(r"^## (.+)$", read(name), re.MULTILINE)
        ]


@pytest.mark.parametrize("name", NAMES)
def test_a_page_names_no_directory_of_a_machine(name: str) -> None:
    assert not re.findall(r"(?<![\w.])/(?:home|root|work|Users)/\S*", read(name))
