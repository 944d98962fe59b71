"""The console as somebody uses it: pages are asked for, links followed, forms sent; each answer is looked through."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final
from urllib.parse import parse_qs, urlencode, urlsplit

from taquba_workflow_sync import Queue
from taquba_workflow_sync.console import ACT, Access
from taquba_workflow_sync.console.app import Console
from taquba_workflow_sync.console.messages import Csrf, Fields, Request
from taquba_workflow_sync.console.rendering import ASSETS
from tests.console.markup import Element, check_headers, parsed

BASE: Final = "/mounted/console"
_CSRF: Final = Csrf("csrf_token", "csrf-of-the-test")


@dataclass
class Answer:
    """What the console has answered."""

    status: int
    content_type: str
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @cached_property
    def page(self) -> Element:
        """The page that it is."""
        assert self.content_type == "text/html; charset=utf-8", self.text
        return parsed(self.text, BASE)

    @property
    def seen(self) -> str:
        """What somebody can see or hear of the page: its texts and attributes, but for what forms send.

        A field holds what is typed, each by itself: what turns the direction of text ends with it.
        """
        shown = [each for each in self.page.every() if each.get("type") != "hidden"]
        return self.page.raw + "".join(
            value or ""
            for each in shown
            for name, value in each.attributes.items()
            if not (name == "value" and each.tag in ("option", "input")) and name != "data-key"
        )

    @property
    def main(self) -> Element:
        return self.page.one("main")

    @property
    def problem(self) -> str:
        """What it says that is wrong."""
        if self.content_type.startswith("text/plain"):
            return self.text
        return self.page.one("p", role="alert").text


class Site:
    """Asks a console."""

    def __init__(self, stores: Mapping[str, Queue], access: Access = ACT) -> None:
        self.console = Console()
        self.stores = stores
        self.access = access

    def request(self, path: str, query: str = "", method: str = "GET", form: Fields | None = None) -> Request:
        return Request(
            method=method,
            path=path,
            query=Fields(parse_qs(query, keep_blank_values=True, errors="replace")),
            form=form or Fields({}),
            base=BASE,
            stores=self.stores,
            access=self.access,
            csrf=_CSRF,
            may_hold=False,
        )

    def ask(self, request: Request) -> Answer:
        """Return an answer, once its headers were looked at, and its page if it is one."""
        response = self.console.answer(request)
        body = response.body if isinstance(response.body, bytes) else b"".join(response.body)
        answer = Answer(response.status, response.content_type, response.headers, body)
        check_headers(response.headers, response.content_type, keeps=request.path in ASSETS)
        if response.content_type.startswith("text/html"):
            assert answer.page is not None
        return answer

    def get(self, address: str = "", *, status: int = 200, **query: str) -> Answer:
        """Return the page at an address below the console, as in a link or as in a test."""
        if address.startswith(BASE):
            address = address[len(BASE) + 1 :]
        parts = urlsplit(address)
        text = "&".join(filter(None, (parts.query, urlencode(query))))
        answer = self.ask(self.request(parts.path, text))
        assert answer.status == status, f"{answer.status}: {answer.text[:2000]}"
        return answer

    def post(self, pairs: Iterable[tuple[str, str]], *, status: int = 200, path: str = "act") -> Answer:
        """Return the answer to a form."""
        values: dict[str, list[str]] = {}
        for name, value in pairs:
            values.setdefault(name, []).append(value)
        answer = self.ask(self.request(path, method="POST", form=Fields(values)))
        assert answer.status == status, f"{answer.status}: {answer.text[:2000]}"
        return answer

    def click(self, answer: Answer, text: str) -> Answer:
        """Follow the one link that says so, or is called so."""
        (link,) = {each.get("href") for each in answer.page.all("a") if text in (each.text, each.get("aria-label"))}
        return self.get(link)

    def confirm(self, answer: Answer, **values: str) -> Answer:
        """Send the form of a page that asks whether something is to be done; with what the reader has filled in."""
        form = answer.page.one("form", method="post")
        assert form.get("action") == f"{BASE}/act"
        given = dict(form.fields())
        assert given[_CSRF.field] == _CSRF.token
        assert values.keys() <= given.keys(), f"it asks for {given.keys()}"
        return self.post([(name, values.get(name, value)) for name, value in form.fields()])

    def do(self, answer: Answer, text: str, **values: str) -> list[str]:
        """Follow a link that leads to a question, say yes, and return what is told to have come of it."""
        return told(self.confirm(self.click(answer, text), **values))

    def tick(self, answer: Answer, button: str, *names: str, **values: str) -> list[str]:
        """Tick some rows of a list, push a button below it, say yes, and return what is told to have come of it."""
        (form,) = [each for each in answer.main.all("form", method="get") if each.all("button", name="do")]
        (pushed,) = [each for each in form.all("button") if each.text == button]
        boxes = {each.get("aria-label"): each.get("value") for each in form.all("input", name="id")}
        pairs = [*form.fields(), *(("id", boxes[name]) for name in names), ("do", pushed.get("value"))]
        return told(self.confirm(self.get(f"{form.get('action')}?{urlencode(pairs)}"), **values))


def told(answer: Answer) -> list[str]:
    """Return what an answer tells of each thing that was to be done; what was refused begins with "refused: "."""
    lines = answer.main.one("ul", class_="done").all("li")
    return [f"{'refused: ' if 'bad' in each.get('class') else ''}{each.text}" for each in lines]
