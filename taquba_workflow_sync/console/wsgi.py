"""Requests and answers of the console as WSGI has them."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

from taquba_workflow_sync.console.messages import Fields, Response

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

#: A form of ours is far smaller: so many names of runs fit in.
MOST_BODY: Final = 1_048_576
_FORM: Final = "application/x-www-form-urlencoded"


class TooLargeError(Exception):
    """The body is larger than any form of ours."""


def query_of(environ: WSGIEnvironment) -> Fields:
    """Return the query of a request."""
    return Fields(parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True, errors="replace"))


def form_of(environ: WSGIEnvironment) -> Fields:
    """Return the form that a request brings; empty if it brings none.

    Raises:
        TooLargeError: it is none of ours.
    """
    if environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower() != _FORM:
        return Fields({})
    try:
        length = int(environ.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return Fields({})
    if not 0 <= length <= MOST_BODY:
        raise TooLargeError(f"a form has {MOST_BODY} bytes at most")
    text = environ["wsgi.input"].read(length).decode("utf-8", "replace")
    try:
        return Fields(parse_qs(text, keep_blank_values=True, errors="replace", max_num_fields=10_000))
    except ValueError as error:
        raise TooLargeError(str(error)) from None


def headers_of(environ: WSGIEnvironment) -> dict[str, str]:
    """Return the headers of a request by their names in lower case."""
    return {name[5:].replace("_", "-").lower(): value for name, value in environ.items() if name.startswith("HTTP_")}


def start(response: Response, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Begin an answer, and return its body."""
    status = f"{response.status} {HTTPStatus(response.status).phrase}"
    headers = [("Content-Type", response.content_type), *response.headers.items()]
    if isinstance(response.body, bytes):
        headers.append(("Content-Length", str(len(response.body))))
    start_response(status, headers)
    if environ.get("REQUEST_METHOD") == "HEAD":
        return [b""]
    return [response.body] if isinstance(response.body, bytes) else response.body
