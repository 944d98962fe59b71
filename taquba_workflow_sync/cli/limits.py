"""``limits``: how much of a queue, or of its keys, may run at once."""

from __future__ import annotations

from typing import Any, Final

import click

from taquba_workflow_sync.cli.group import Lazy, LazyGroup
from taquba_workflow_sync.cli.options import ParameterType, queue_option
from taquba_workflow_sync.cli.output import Column, Output
from taquba_workflow_sync.cli.store import client_of
from taquba_workflow_sync.queue.durations import seconds_of
from taquba_workflow_sync.workflow.limit import Limit

_COMMANDS: Final = {
    "list": Lazy("limits", "list_limits", "List the limits of a queue."),
    "set": Lazy("limits", "set_limit", "Set a limit, in the place of the one of its key."),
    "clear": Lazy("limits", "clear", "Remove a limit."),
}


@click.group(cls=LazyGroup, lazy=_COMMANDS)
def limits() -> None:
    """List, set and clear the limits of a queue, or of the keys of its runs. They hold over all processes."""


class _RateType(ParameterType):
    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, float]:
        if isinstance(value, tuple):
            return value
        number, _, window = value.partition("/")
        seconds = seconds_of(window if window[:1].isdigit() else f"1{window}")
        if not (number.isascii() and number.isdecimal()) or not seconds:
            self.fail(f"{value!r} is no rate; write claims and seconds, like 100/60s or 5/m", param, ctx)
        return int(number), seconds


@click.command("list")
@queue_option
def list_limits(store: str | None, queue_name: str | None, as_json: bool) -> None:
    """List the limits of a queue: its own, then by key. With --json each line has the fields of Limit."""
    out = Output(as_json=as_json)
    with client_of(store, queue_name) as client:
        out.table(client.limits(), _COLUMNS, empty="no limits")


@click.command("set")
@click.option("--key", metavar="KEY", help="Of runs with this limit key, or with each that begins so: customer-*.")
@click.option("--concurrency", type=click.IntRange(1), help="So many steps at once.")
@click.option("--rate", type=_RateType(), metavar="N/D", help="So many claims in any window of that length: 100/60s.")
@click.option("--max-waiting", type=click.IntRange(0), help="So many pending runs; more are refused at submit.")
@click.option("--hold", type=click.Choice(("step", "run")), default="step", show_default=True, help="Hold a slot for.")
@queue_option
def set_limit(
    key: str | None,
    concurrency: int | None,
    rate: tuple[int, float] | None,
    max_waiting: int | None,
    hold: str,
    store: str | None,
    queue_name: str | None,
    as_json: bool,
) -> None:
    """Set the limit of a queue, or of a --key; the whole limit of that key is replaced. In force on return."""
    out = Output(as_json=as_json)
    with client_of(store, queue_name, creates=True) as client:
        try:
            client.set_limit(key=key, concurrency=concurrency, rate=rate, hold=hold, max_waiting=max_waiting)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        limit = next(each for each in client.limits() if each.key == key)
        out.record(limit, f"limit of {_name(limit)} is set")


@click.command()
@click.option("--key", metavar="KEY", help="Of which key; default: the queue's own.")
@queue_option
def clear(key: str | None, store: str | None, queue_name: str | None, as_json: bool) -> None:
    """Remove the limit of a queue, or of a --key; what it kept waiting is in line on return."""
    out = Output(as_json=as_json)
    with client_of(store, queue_name) as client:
        try:
            client.clear_limit(key)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        out.record({"key": key, "cleared": True}, f"limit of {key or 'the queue'} is cleared")


def _name(limit: Limit) -> str:
    return limit.key or "the queue"


def _rate(limit: Limit) -> str:
    return "" if limit.rate is None else f"{limit.rate[0]} in {limit.rate[1]:g} s"


_COLUMNS: Final = (
    Column("KEY", _name),
    Column("CONCURRENCY", lambda limit: limit.concurrency),
    Column("RATE", _rate),
    Column("HOLD", lambda limit: limit.hold),
    Column("MAX WAITING", lambda limit: limit.max_waiting),
)
