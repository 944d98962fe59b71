"""Pages out of templates: everything is escaped, and what cannot be seen is spelled out."""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from taquba_workflow_sync.console import texts
from taquba_workflow_sync.console.view import Page, View

_HERE: Final = "taquba_workflow_sync.console"
#: What the script and the style sheet are called, and what they are.
ASSETS: Final = {
    "console.css": "text/css; charset=utf-8",
    "console.js": "text/javascript; charset=utf-8",
    "console.svg": "image/svg+xml",
}


class Rendering:
    """The templates, and the files beside them."""

    def __init__(self) -> None:
        self._environment = Environment(
            loader=PackageLoader(_HERE),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=texts.visible,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update(
            moment=texts.moment,
            duration=texts.duration,
            number=texts.number,
            size=texts.size,
            said=said,
            exact=texts.exact,
        )
        directory = resources.files(_HERE) / "static"
        self.assets: dict[str, bytes] = {name: (directory / name).read_bytes() for name in ASSETS}
        # In their addresses, so that a browser keeps them for as long as they are these.
        self.version: str = hashlib.sha256(b"".join(self.assets.values())).hexdigest()[:12]

    def whole(self, page: Page, view: View) -> bytes:
        """Return a page as a document."""
        return self._filled("base.html", page, view)

    def main(self, page: Page, view: View) -> bytes:
        """Return what changes of a page while it is open."""
        return self._filled("bare.html", page, view)

    def problem(self, text: str) -> bytes:
        """Return what stands in the place of a page that cannot be made now."""
        return self._environment.get_template("problem.html").render(text=text).encode("utf-8", "backslashreplace")

    def _filled(self, layout: str, page: Page, view: View) -> bytes:
        values: dict[str, Any] = {
            **page.values,
            "layout": layout,
            "page": page,
            "view": view,
            "url": view.url,
            "version": self.version,
            "now": view.now,
        }
        text = self._environment.get_template(page.template).render(values)
        # Errors of users may hold lone surrogates; those outside of an expression cannot come here.
        return text.encode("utf-8", "backslashreplace")


def said(value: Any) -> str:
    """Return a name of the library as words: ``put_back`` is "put back"."""
    return str(value).replace("_", " ")
