"""What a command says: an answer on stdout, for people or for programs; everything else on stderr."""

from __future__ import annotations

import base64
import dataclasses
import enum
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple, TextIO

import click

from taquba_workflow_sync.cli.exit_codes import Failure
from taquba_workflow_sync.queue.readable import spelled_out

_STYLES: Final = {
    "succeeded": "green", "done": "green", "ok": "green", "failed": "red", "dead": "red", "bad": "bold red",
    "cancelled": "yellow", "cancelling": "yellow", "running": "cyan", "claimed": "cyan", "warn": "yellow",
}  # fmt: skip


def plain(value: Any) -> Any:
    """Return a value as JSON can say it: a record by its fields, a time in ISO 8601, a duration in seconds.

    Bytes that are UTF-8 become that text, others an object with ``base64``.
    """
    if isinstance(value, enum.Enum):
        return value.value
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value) if not field.name.startswith("_")]
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, Iterable):
        return [plain(each) for each in value]
    return str(value)


def when(moment: datetime | None) -> str:
    """Return a moment as people read it, in local time."""
    return "" if moment is None else f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"


def is_plain(stream: TextIO) -> bool:
    """Whether a stream is to get no colour and nothing that moves."""
    return not stream.isatty() or bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"


class Column(NamedTuple):
    """A column of a table: its head, and what a record shows there."""

    head: str
    cell: Callable[[Any], object]


class Output:
    """How one command answers."""

    def __init__(self, *, as_json: bool, is_quiet: bool = False) -> None:
        self.as_json = as_json
        self.is_quiet = is_quiet

    def record(self, record: object, text: str | None = None) -> None:
        """Answer with one record: as JSON, else as ``text``."""
        if self.as_json:
            click.echo(json.dumps(plain(record)))
        elif text is not None:
            click.echo(text)

    def table(self, records: Iterable[Any], columns: Sequence[Column], *, empty: str) -> None:
        """Answer with many records; ``empty`` is said, on stderr, where there are none."""
        if self.as_json:
            for record in records:
                self.record(record)
            return
        rows = [[_cell(column.cell(record)) for column in columns] for record in records]
        heads = [column.head for column in columns]
        if not rows:
            self.note(empty)
        elif is_plain(sys.stdout):
            for line in _aligned([heads, *rows]):
                click.echo(line)
        else:
            _print_rich(heads, rows)

    def note(self, text: str) -> None:
        """Say something beside the answer."""
        if not self.is_quiet:
            click.echo(text, err=True)


def style_of(cell: str) -> str:
    """Return the colour of a state's name; none for other text."""
    return _STYLES.get(cell, "")


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return when(value)
    text = spelled_out(str(value)).replace("\n", "\\n")
    return text if len(text) <= 80 else f"{text[:77]}..."


def _aligned(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _print_rich(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console  # on a terminal only: its import takes longer than looking does

    Console().print(rich_table(heads, rows))


def rich_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    """Return a table for a terminal."""
    from rich.table import Table
    from rich.text import Text

    table = Table(*heads, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(Text(cell, style=style_of(cell)) for cell in row))
    return table


def confirm(question: str, *, is_agreed: bool) -> None:
    """Ask before something is done to many; returns if it is agreed to.

    Raises:
        Failure: the answer is no.
        click.UsageError: there is nobody to ask.
    """
    if is_agreed:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise click.UsageError(f"{question} There is no terminal to ask on; say --yes.")
    if not click.confirm(question, err=True):
        raise Failure("nothing was changed")
