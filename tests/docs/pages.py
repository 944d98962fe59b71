"""The Markdown of the project, taken apart: fenced blocks, code spans, links, headings."""

from __future__ import annotations

import configparser
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONFIG = configparser.ConfigParser()
CONFIG.read(ROOT / "setup.cfg", encoding="utf-8")
PROJECT_URLS = dict(re.findall(r"^(\w+) = (\S+)$", CONFIG["metadata"]["project_urls"], re.MULTILINE))
REPOSITORY = PROJECT_URLS["Source"]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md"), *(ROOT / "examples").glob("**/*.md")],
    key=lambda path: path.relative_to(ROOT).as_posix(),
)
NAMES = [path.relative_to(ROOT).as_posix() for path in PAGES]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"!?\[[^\]\n]*(?:\n[^\]\n]*)?\]\(([^)\s]+)\)")
_DEFINITION = re.compile(r"^\[([^\]\n]+)\]: (\S+)$", re.MULTILINE)
_REFERENCE = re.compile(r"\[([^\]]+)\](?![(:])")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One fenced block; ``line`` is the number of its first line inside the page."""

    language: str
    line: int
    text: str

    @property
    def file(self) -> str | None:
        """The name of the file that the block is, if its first line says so: ``# worker.py``."""
        found = re.match(r"# (\w+\.py)\n", self.text)
        return found[1] if found else None


@cache
def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str) -> list[Block]:
    text = read(name)
    return [Block(each[1], text.count("\n", 0, each.start(2)) + 1, each[2]) for each in _FENCE.finditer(text)]


def prose(name: str) -> str:
    """Return a page without its fenced blocks."""
    return without_blocks(read(name))


def without_blocks(text: str) -> str:
    return _FENCE.sub("", text)


def code_spans(name: str) -> list[str]:
    return spans(prose(name))


def spans(text: str) -> list[str]:
    return _CODE_SPAN.findall(text)


def links(name: str) -> Iterator[str]:
    """Return the targets of a page's links; those in code spans are none."""
    return targets(read(name))


def targets(text: str) -> Iterator[str]:
    """Return the targets of the links of a text: ``[text](target)``, and ``[text]: target`` for a ``[text]``."""
    text = _without_code(text)
    yield from _LINK.findall(text)
    yield from definitions(text).values()


def definitions(text: str) -> dict[str, str]:
    """Return where each ``[text]`` leads that a line ``[text]: target`` gives a target."""
    return dict(_DEFINITION.findall(text))


def references(name: str) -> set[str]:
    """Return what stands in brackets without a target beside it, line ends made spaces as the renderers do."""
    return {" ".join(each.split()) for each in _REFERENCE.findall(_without_code(read(name)))}


def _without_code(text: str) -> str:
    return _CODE_SPAN.sub("``", without_blocks(text))


def anchors(name: str) -> set[str]:
    """Return the anchors of a page's headings, as the usual renderers make them."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in _HEADING.findall(prose(name))
    }
