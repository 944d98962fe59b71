"""An answer of the console, read by a parser that knows nothing of the console, and what holds for every one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Final

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'"
)
_VOID: Final = {"meta", "link", "img", "input", "br", "hr"}
_TAGS: Final = {
    "html", "head", "meta", "title", "link", "script", "body", "a", "header", "nav", "img", "span", "main", "footer",
    "code", "b", "q", "ul", "ol", "li", "dl", "div", "dt", "dd", "p", "h1", "h2", "h3", "section", "form", "label",
    "input", "select", "option", "button", "table", "thead", "tbody", "tr", "th", "td", "details", "summary", "pre",
    "time", "progress", "br", "small", "strong", "em", "fieldset", "legend", "caption", "textarea", "dialog",
    "svg", "g", "line", "rect", "text", "path", "defs", "marker", "circle", "polygon", "polyline", "tspan", "desc",
}  # fmt: skip
_URLS: Final = ("href", "src", "action", "formaction", "data-events")


@dataclass
class Element:
    """An element by its name and attributes, with what is in it."""

    tag: str
    attributes: dict[str, str | None]
    parent: Element | None = None
    inside: list[Element | str] = field(default_factory=list)

    def get(self, name: str) -> str:
        return self.attributes.get(name) or ""

    @property
    def text(self) -> str:
        """The text of it and of all in it, white space as one blank."""
        return " ".join("".join(self._texts()).split())

    @property
    def raw(self) -> str:
        return "".join(self._texts())

    def _texts(self) -> Iterator[str]:
        for each in self.inside:
            if isinstance(each, str):
                yield each
            else:
                yield from each._texts()
                yield " " if each.tag not in ("b", "code", "span", "a") else ""

    def all(self, tag: str, **attributes: str) -> list[Element]:
        """Return the elements of that name in it, in order; ``class_`` is one of its classes."""
        found = []
        for each in self.inside:
            if isinstance(each, str):
                continue
            if each.tag == tag and all(each._has(name, value) for name, value in attributes.items()):
                found.append(each)
            found += each.all(tag, **attributes)
        return found

    def _has(self, name: str, value: str) -> bool:
        if name == "class_":
            return value in self.get("class").split()
        return self.get(name.replace("_", "-")) == value

    def one(self, tag: str, **attributes: str) -> Element:
        (found,) = self.all(tag, **attributes)
        return found

    def every(self) -> Iterator[Element]:
        for each in self.inside:
            if isinstance(each, Element):
                yield each
                yield from each.every()

    def rows(self) -> list[list[str]]:
        """Return the texts of the cells of all bodies of tables."""
        return [
            [cell.text for cell in row.inside if isinstance(cell, Element)]
            for body in self.all("tbody")
            for row in body.all("tr")
        ]

    def fields(self) -> list[tuple[str, str]]:
        """Return what a form sends if nobody touches it: the hidden ones, texts, and the first choices."""
        found = []
        for each in self.every():
            if each.tag == "input" and each.get("type") not in ("checkbox", "radio", "submit") and each.get("name"):
                found.append((each.get("name"), each.get("value")))
            if each.tag == "select":
                options = each.all("option")
                chosen = next((option for option in options if "selected" in option.attributes), options[0])
                value = chosen.get("value") if "value" in chosen.attributes else chosen.text
                found.append((each.get("name"), value))
        return found


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("", {})
        self._now = self.root

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> has an attribute twice: {names}"
        element = Element(tag, dict(attrs), self._now)
        self._now.inside.append(element)
        if tag not in _VOID:
            self._now = element

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._now.tag == tag, f"</{tag}> ends <{self._now.tag}>"
        assert self._now.parent is not None
        self._now = self._now.parent

    def handle_data(self, data: str) -> None:
        self._now.inside.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data!r}")

    def handle_pi(self, data: str) -> None:
        raise AssertionError(f"a processing instruction: {data!r}")

    def unknown_decl(self, data: str) -> None:
        raise AssertionError(f"a declaration: {data!r}")

    def close(self) -> None:
        super().close()
        assert self._now is self.root, f"<{self._now.tag}> is not ended"


def parsed(text: str, base: str) -> Element:
    """Return a page as a tree, once it is sure that nothing in it came out of data."""
    parser = _Parser()
    parser.feed(text)
    parser.close()
    for each in parser.root.every():
        check(each, base)
    ids = [each.get("id") for each in parser.root.every() if "id" in each.attributes]
    # One arrow head stands in each picture of a flow.
    assert len(ids) == len(set(ids)), f"ids twice: {sorted(each for each in ids if ids.count(each) > 1)}"
    return parser.root


def check(element: Element, base: str) -> None:
    """Have an element be one that a template has made: of a known kind, without code, style or a foreign address."""
    assert element.tag in _TAGS, f"<{element.tag}> came out of data"
    for name, value in element.attributes.items():
        assert not name.startswith(("on", "x-")), f"{name}= came out of data"
        assert name not in ("style", "srcdoc", "target", "ping", "srcset"), f"{name}= is not allowed here"
        if name in _URLS:
            is_ours = value is not None and (value.startswith((f"{base}/", "#")) and not value.startswith("//"))
            assert is_ours, f"{name}={value!r} leads out of the console"
        if value is not None and name != "value" and name != "placeholder":
            assert "javascript:" not in value.lower() or name in ("aria-label", "title", "data-key"), (
                f"{name}={value!r}"
            )
    if element.tag == "script":
        assert element.get("src") and not element.raw.strip(), "an inline script"
    assert element.tag not in ("style", "iframe", "object", "embed", "base"), f"<{element.tag}>"


def check_headers(headers: dict[str, str], content_type: str, *, keeps: bool = False) -> None:
    """Have an answer say all that keeps browsers from mischief."""
    named = {name.lower(): value for name, value in headers.items()}
    assert len(named) == len(headers), "a header twice"
    assert named["content-security-policy"] == POLICY
    assert named["x-content-type-options"] == "nosniff"
    assert named["x-frame-options"] == "DENY"
    assert named["referrer-policy"] in ("same-origin", "no-referrer")
    assert named["cross-origin-opener-policy"] == "same-origin"
    assert named["cross-origin-resource-policy"] == "same-origin"
    assert named["cache-control"] == ("private, max-age=31536000, immutable" if keeps else "no-store")
    if content_type.startswith("text/"):
        assert content_type.endswith("; charset=utf-8") or content_type == "text/event-stream"
    for name, value in headers.items():
        assert not any(each in name + value for each in "\r\n\0"), f"{name}: {value!r}"
