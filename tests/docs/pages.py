"""The Markdown of the project, taken apart: fenced blocks, code spans, links, headings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("**/*.md")],
    key=lambda path: path.relative_to(ROOT).as_posix(),
)
NAMES = [path.relative_to(ROOT).as_posix() for path in PAGES]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"!?\[[^\]\n]*(?:\n[^\]\n]*)?\]\(([^)\s]+)\)")
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
    return _FENCE.sub("", read(name))


def code_spans(name: str) -> list[str]:
    return _CODE_SPAN.findall(prose(name))


def links(name: str) -> Iterator[str]:
    """Return the targets of a page's links; those in code spans are none."""
    yield from _LINK.findall(_CODE_SPAN.sub("``", prose(name)))


def anchors(name: str) -> set[str]:
    """Return the anchors of a page's headings, as the usual renderers make them."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in _HEADING.findall(prose(name))
    }
