"""What is given as ``-``, ``@file``, JSON or text, as bytes; and bytes as people read them."""

from __future__ import annotations

import json
import sys
from typing import Any, Final

import click

from taquba_workflow_sync.cli.exit_codes import Failure
from taquba_workflow_sync.queue import readable
from taquba_workflow_sync.queue.readable import form_of
from taquba_workflow_sync.workflow.spec import RunSpec

_MOST_SHOWN: Final = 2_000
_MOST_DUMPED: Final = 256


def given_bytes(text: str | None) -> bytes:
    """Return what an option gives: stdin for ``-``, a file for ``@file``, else the text itself.

    Raises:
        Failure: the file cannot be read.
        click.UsageError: the text is none that UTF-8 can hold.
    """
    if text is None:
        return b""
    if text == "-":
        return sys.stdin.buffer.read()
    if text.startswith("@"):
        try:
            with open(text[1:], "rb") as file:
                return file.read()
        except OSError as error:
            raise Failure(f"cannot read {text[1:]}: {error.strerror}") from None
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise click.UsageError("the text holds bytes that are no UTF-8; give them in a file, as @file") from None


def checked_json(data: bytes, option: str) -> bytes:
    """Return what was given for a flow, which takes JSON.

    Raises:
        click.UsageError: it is none.
    """
    try:
        json.loads(data)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"{option} is no JSON, which a flow takes: {error}") from None
    return data


def spec_of_bytes(data: bytes, fields: dict[str, Any]) -> RunSpec:
    """Return a run with an input of bytes.

    Raises:
        click.UsageError: a field of it is senseless.
    """
    try:
        return RunSpec(input=data, **fields)
    except (TypeError, ValueError) as error:
        raise click.UsageError(str(error)) from None


def shown(data: bytes, *, is_full: bool = False) -> str:
    """Return bytes as people read them: JSON indented, text as it is, anything else as a hexdump."""
    if not data:
        return "(empty)"
    form = form_of(data)
    if form == "hex":
        cut = data if is_full else data[:_MOST_DUMPED]
        more = f"\n... {len(data)} bytes in all; --full shows them" if len(cut) < len(data) else ""
        return readable.shown(cut, form) + more
    text = readable.shown(data, form)
    if is_full or len(text) <= _MOST_SHOWN:
        return text
    return f"{text[:_MOST_SHOWN]}\n... {len(data)} bytes in all; --full shows them"
