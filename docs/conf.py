"""How the site is made of the pages here: ``sphinx-build -W -n docs build/site``, with what the extra [docs] brings.

The pages are plain Markdown that a code host shows as well. Added here is what only the site needs: the tree of pages,
and links that leave ``docs`` for the code host.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.ext.napoleon import Config, GoogleDocstring
from sphinx.pycode import ModuleAnalyzer

import taquba_workflow_sync
from taquba_workflow_sync import pytest_plugin

if sys.version_info[:2] != (3, 11):
    raise SystemExit("the site is made with Python 3.11: signatures look different under each")

HERE = Path(__file__).parent
REPOSITORY = "https://github.com/taquba/taquba-workflow-sync"

project = "taquba-workflow-sync"
release = version = taquba_workflow_sync.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_click"]
root_doc = "index"

smartquotes_action = "D"  # dashes; quotation marks stay as they are written

html_theme = "furo"
html_title = project
pygments_dark_style = "a11y-high-contrast-dark"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
html_theme_options = {"navigation_with_keys": True}

myst_heading_anchors = 4  # as a code host makes them

add_module_names = False
toc_object_entries_show_parents = "hide"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {
    "members": True,
    "undoc-members": True,  # fields and members of enumerations, which their class explains
    # Shown is what a class has from bases that are not public; not what it has from these, or from the language.
    "inherited-members": "WorkflowClient, RunHandle, Step, StepOutcome, KeyValueView, TaqubaError, BaseException, "
    "StrEnum, Enum, str, int, tuple, object, TestCase, BaseTaskBackend, Integration, Filter, Formatter",
}
nitpick_ignore_regex = [
    (r"py:.*", r"(?!taquba_workflow_sync\.).*"),  # other projects' names are not looked up
    (r"py:(class|obj)", r".*\._\w+|.*FlowStep\[.*"),  # type variables, and what is made of them
    # What signatures show and nobody writes: strings and dicts do, or decorators and protocols stand behind it.
    (
        r"py:class",
        r".*\.(Definition|Delivery\w+|\w+Decorator|Enqueues|Finding|GivenOptions|GoesOn|MemoScope|OnFailure|RunFields"
        r"|Served|Service|StagedEffects|Target|TaskQueue|TerminalHookWithEffects)",
    ),
]

#: Which pages stand below which, in order. A star is what is there beside those that are named somewhere, so that a new
#: page has a place at once; what is named and not there is left out.
TREE = {
    "index": ["tutorial/README", "how-to", "reference/README", "explanation"],
    "tutorial/README": ["tutorial/script", "tutorial/django", "tutorial/flask", "tutorial/*"],
    "how-to": ["flows", "runner", "features/README", "django", "flask", "application", "command-line", "cron",
               "console", "testing", "monitoring", "operations", "fleet/README", "migrating/README", "*"],
    "features/README": ["features/*"],
    "fleet/README": ["fleet/*"],
    "migrating/README": ["migrating/*"],
    "reference/README": [*(f"reference/{each}" for each in ("flow", "runs", "steps", "features", "queue", "webhooks",
                         "errors", "testing", "django", "flask", "monitoring", "command-line", "changelog")),
                         "reference/*"],
    "explanation": ["why", "guarantees", "architecture", "fleet/choosing", "fleet/partition", "comparison",
                    "stability"],
}  # fmt: skip


def below(page: str, pages: set[str]) -> Iterator[str]:
    """Return the pages that stand below one."""
    named = {"index", *(each for entries in TREE.values() for each in entries)}
    for entry in TREE.get(page, []):
        if entry.endswith("*"):
            yield from sorted(
                each for each in pages - named if fnmatchcase(each, entry) and each.count("/") == entry.count("/")
            )
        elif entry in pages:
            yield entry


def outdated(app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
    """Return the pages that have others below them, if there are others now."""
    return [page for page in TREE if page in env.found_docs] if added or removed else []


def read_page(app: Sphinx, page: str, content: list[str]) -> None:
    """Put the tree below a page, and have links that leave ``docs`` lead to the code host."""
    folder = (HERE / page).parent

    def host(found: re.Match[str]) -> str:
        path = (folder / found[2]).resolve()
        if path.is_relative_to(HERE) or not path.exists():
            return found[0]
        return f"{found[1]}{REPOSITORY}/{'tree' if path.is_dir() else 'blob'}/main/{path.relative_to(HERE.parent)}"

    if app.env.doc2path(page).suffix == ".md":
        content[0] = re.sub(r"(\]\(|^\[[^\]\n]+\]: )(\.\./[^)#\s]+)", host, content[0], flags=re.MULTILINE)
    if tree := list(below(page, app.env.found_docs)):
        content[0] += "\n```{toctree}\n:hidden:\n\n" + "\n".join(f"/{each}" for each in tree) + "\n```\n"


def read_docstring(app: Sphinx, what: str, name: str, kind: object, options: Any, lines: list[str]) -> None:
    """Make of ``Raises:`` what Sphinx knows, and of a page that is named a link; a property's colon is no type's."""
    if what not in ("property", "attribute", "data"):
        lines[:] = GoogleDocstring(lines, Config(), app, what, name, kind, options).lines()
    lines[:] = [re.sub(r"``docs/([\w/-]+)\.md``", r":doc:`/\1`", line) for line in lines]


def hide_constructor(
    app: Sphinx, what: str, name: str, kind: object, options: object, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Show no constructor that takes what is not public, or of a Protocol: such objects are had from calls."""
    pattern = r"\b(QueueHandle|StepClaim|ClaimedRow|Node|Definition|TaskQueue)\b|^\(\*args, \*\*kwargs\)$"
    inside = re.search(pattern, signature or "")
    return ("", returns) if what == "class" and inside else (signature, returns)


def escape_help(app: Sphinx, context: object, lines: list[str]) -> None:
    """Have a command's help be text: an asterisk is one, an option is code, and so is what stands in backquotes."""

    def mark(found: re.Match[str]) -> str:
        return r"\*" if found[0] == "*" else f"``{found[0].strip('`')}``"

    for place, line in enumerate(lines):
        if not line.lstrip().startswith(("..", ":")):
            lines[place] = re.sub(r"`[^`]+`|(?<!\S)--[\w-]+|\*", mark, line)


def find_public(app: Sphinx, env: BuildEnvironment, node: pending_xref, shown: nodes.TextElement) -> nodes.Node | None:
    """Return a link to what is documented where it is public, for a reference to where it is written."""
    if node.get("refdomain") != "py":
        return None
    domain, name = env.domains.python_domain, node["reftarget"].rpartition(".")[2]
    for module in (node.get("py:module"), "taquba_workflow_sync", "taquba_workflow_sync.flow"):
        if f"{module}.{name}" in domain.objects:
            return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", f"{module}.{name}", node, shown)
    return None


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    for name, fixture in vars(pytest_plugin).items():
        if name.startswith("taquba_"):
            setattr(pytest_plugin, name, inspect.unwrap(fixture))  # or autodoc does not see the functions
    # A flow's decorators have overloads for type checkers; a reader is told in words what they take.
    decorators = ModuleAnalyzer.for_module("taquba_workflow_sync.flow.flow")
    decorators.analyze()
    decorators.overloads.clear()
    app.connect("env-get-outdated", outdated)
    app.connect("source-read", read_page)
    app.connect("autodoc-process-docstring", read_docstring)
    app.connect("autodoc-process-signature", hide_constructor)
    app.connect("missing-reference", find_public)
    for part in ("description", "options", "epilog"):
        app.connect(f"sphinx-click-process-{part}", escape_help)
