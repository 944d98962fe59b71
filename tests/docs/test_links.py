"""Links lead somewhere, and the pages say nothing that only one machine knows."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import NAMES, REPOSITORY, ROOT, anchors, definitions, links, prose, read, references


def place_in_the_tree(page: str, target: str) -> str | None:
    """Return what a link leads to, relative to the root, if that is a file or directory of ours."""
    if found := re.match(rf"{re.escape(REPOSITORY)}/(blob|tree)/main/([^#]+)", target):
        kind, path = found.groups()
        assert (ROOT / path).is_dir() is (kind == "tree"), (
            f"{page} links to {target}: /blob/ is for files, /tree/ is not"
        )
        return path
    if target.startswith(REPOSITORY):
        assert target.removeprefix(REPOSITORY) in ("", "/issues"), f"{page} links to {target}: what is that?"
        return None
    if re.match(r"[a-z]+:", target):
        return None
    path = target.partition("#")[0]
    return ((ROOT / page).parent / path if path else ROOT / page).resolve().relative_to(ROOT).as_posix()


@pytest.mark.parametrize("name", NAMES)
def test_every_link_into_the_repository_leads_to_a_file_and_a_heading(name: str) -> None:
    for target in links(name):
        place = place_in_the_tree(name, target)
        if place is None:
            continue
        assert (ROOT / place).exists(), f"{name} links to {target}, which is not there"
        anchor = target.partition("#")[2]
        if anchor:
            assert anchor in anchors(place), f"{name} links to {target}; {place} has no such heading"


def test_a_link_into_the_repository_is_recognised_and_one_elsewhere_is_not() -> None:
    assert place_in_the_tree("docs/operations.md", "guarantees.md#attempts") == "docs/guarantees.md"
    assert place_in_the_tree("docs/operations.md", "../README.md") == "README.md"
    assert place_in_the_tree("README.md", f"{REPOSITORY}/blob/main/docs/guarantees.md#attempts") == "docs/guarantees.md"
    assert place_in_the_tree("README.md", f"{REPOSITORY}/tree/main/docs") == "docs"
    assert place_in_the_tree("README.md", "https://example.com/blob/main/docs") is None
    with pytest.raises(AssertionError, match="what is that"):
        place_in_the_tree("README.md", f"{REPOSITORY}/wiki")


def test_the_readme_has_no_relative_link_as_it_is_read_in_a_package_index_too() -> None:
    assert [target for target in links("README.md") if not target.startswith("https://")] == []


def test_what_stands_in_brackets_in_the_readme_has_a_target_and_each_target_is_used() -> None:
    assert references("README.md") == set(definitions(prose("README.md")))
    labels = re.findall(r"^(\[[^\]\n]+\]): ", prose("README.md"), re.MULTILINE)
    assert len(labels) == len(set(labels))


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
