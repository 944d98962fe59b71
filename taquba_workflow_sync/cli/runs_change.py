"""``runs cancel``, ``retry``, ``signal`` and ``wake``."""

from __future__ import annotations

import json
from itertools import islice
from typing import Any, Final

import click

from taquba_workflow_sync.cli.exit_codes import DONE, ERROR, Failure
from taquba_workflow_sync.cli.options import filter_options, queue_option, target_option, yes_option
from taquba_workflow_sync.cli.output import Output, confirm
from taquba_workflow_sync.cli.payloads import checked_json, given_bytes
from taquba_workflow_sync.cli.runs_list import found
from taquba_workflow_sync.cli.store import client_of
from taquba_workflow_sync.cli.targets import work_of
from taquba_workflow_sync.errors import RunNotFoundError
from taquba_workflow_sync.storage.port.signals import SignalOutcome
from taquba_workflow_sync.workflow.client import WorkflowClient

_COUNTED: Final = 1000
_FAILED: Final = "failed"
_ACTIVE: Final = ("pending", "running", "cancelling")


def _named(run_ids: tuple[str, ...], filters: dict[str, Any], every: bool) -> bool:
    """Whether runs are named by their ids; else by filters, or all of them."""
    given = any(value is not None for value in filters.values())
    if bool(run_ids) + given + every != 1:
        raise click.UsageError("say which runs: by their ids, by filters, or --all; one of the three")
    return bool(run_ids)


def _ask(client: WorkflowClient, filters: dict[str, Any], states: tuple[str, ...], do: str, *, is_agreed: bool) -> None:
    if is_agreed:
        return
    runs = (run for run in found(client, **filters) if run.state in states)
    many = sum(1 for _ in islice(runs, _COUNTED + 1))
    count = f"more than {_COUNTED}" if many > _COUNTED else str(many)
    confirm(f"{do} {count} run{'s' * (many != 1)} of queue {client.queue_name}?", is_agreed=False)


@click.command()
@click.argument("run_ids", metavar="[RUN]...", nargs=-1)
@filter_options
@click.option("--all", "every", is_flag=True, help="Every run of the queue.")
@click.option("--reason", metavar="TEXT", help="Why; becomes the error of the run.")
@yes_option
@queue_option
def cancel(
    run_ids: tuple[str, ...],
    every: bool,
    reason: str | None,
    yes: bool,
    store: str | None,
    queue_name: str | None,
    as_json: bool,
    **filters: Any,
) -> int:
    """Cancel runs: those named, or all that the filters find; that asks first.

    A waiting run ends at once; a running one when its step returns. Exit codes: 4 a run that was named is not there, 1
    one of them has ended already; the others are cancelled all the same.
    """
    out = Output(as_json=as_json)
    with client_of(store, queue_name) as client:
        if not _named(run_ids, filters, every):
            _ask(client, filters, _ACTIVE, "Cancel", is_agreed=yes)
            many = client.cancel_many(reason=reason, all=every, **filters)
            out.record({"cancelled": many}, f"cancelled {many}")
            return DONE
        missing = [run_id for run_id in run_ids if client.status(run_id) is None]
        if missing:
            raise RunNotFoundError(f"queue {client.queue_name!r} has no run {missing[0]!r}; nothing was changed")
        code = DONE
        for run_id in run_ids:
            is_new = client.cancel(run_id, reason=reason)
            out.record({"run_id": run_id, "cancelled": is_new}, f"{run_id} {'cancelled' if is_new else 'has ended'}")
            code = code if is_new else ERROR
        return code


@click.command()
@click.argument("run_ids", metavar="[RUN]...", nargs=-1)
@filter_options
@click.option("--all", "every", is_flag=True, help="Every failed run of the queue.")
@click.option(
    "--payload", metavar="-|@FILE|JSON|TEXT", help="What the step gets in place of what it had; one run only."
)
@click.option("--memo", type=click.Choice(("keep", "clear")), default="keep", show_default=True, help="What it noted.")
@yes_option
@queue_option
def retry(
    run_ids: tuple[str, ...],
    every: bool,
    payload: str | None,
    memo: str,
    yes: bool,
    store: str | None,
    queue_name: str | None,
    as_json: bool,
    **filters: Any,
) -> int:
    """Have failed runs go on at the step that failed: those named, or all that the filters find; that asks first."""
    out = Output(as_json=as_json)
    with client_of(store, queue_name) as client:
        if not _named(run_ids, filters, every):
            if payload is not None or memo != "keep":
                raise click.UsageError("--payload and --memo are for runs that are named")
            _ask(client, filters, (_FAILED,), "Retry", is_agreed=yes)
            many = client.retry_many(all=every, **filters)
            out.record({"retried": many}, f"retried {many}")
            return DONE
        if payload is not None and len(run_ids) != 1:
            raise click.UsageError("--payload is for one run")
        data = None if payload is None else given_bytes(payload)
        for run_id in run_ids:
            client.retry(run_id, payload=data, memo=memo)
            out.record({"run_id": run_id, "retried": True}, f"{run_id} is in line again")
        return DONE


def _send(
    target: str | None,
    store: str | None,
    queue_name: str | None,
    run_id: str,
    name: str,
    payload: str | None,
    signal_id: str | None,
) -> SignalOutcome:
    data = given_bytes(payload)
    if target is None:
        with client_of(store, queue_name) as client:
            return client.signal(run_id, name, data, signal_id=signal_id)
    with work_of(target, store, creates=False) as work:
        client = work.client(queue_name)
        flow = work.flow(client.queue_name)
        if flow is None:
            return client.signal(run_id, name, data, signal_id=signal_id)
        value = None if payload is None else json.loads(checked_json(data, "--payload"))
        try:
            outcome: SignalOutcome = flow.signal(run_id, name, value, queue=work.queue, signal_id=signal_id)
        except TypeError as error:
            raise Failure(f"the payload cannot be sent to flow {flow.name!r}: {error}") from None
        return outcome


@click.command()
@click.argument("run_id", metavar="RUN")
@click.argument("name", metavar="NAME")
@click.option("--payload", metavar="-|@FILE|JSON|TEXT", help="What the signal says; - is stdin.")
@click.option("--signal-id", metavar="ID", help="Makes sending safe to repeat.")
@target_option
@queue_option
def signal(
    run_id: str,
    name: str,
    payload: str | None,
    signal_id: str | None,
    target: str | None,
    store: str | None,
    queue_name: str | None,
    as_json: bool,
) -> int:
    """Send the signal NAME to RUN, and print what became of it: delivered, buffered or duplicate."""
    out = Output(as_json=as_json)
    outcome = _send(target, store, queue_name, run_id, name, payload, signal_id)
    out.record({"run_id": run_id, "name": name, "outcome": outcome}, outcome.value)
    return DONE


@click.command()
@click.argument("run_id", metavar="RUN")
@queue_option
def wake(run_id: str, store: str | None, queue_name: str | None, as_json: bool) -> int:
    """Have RUN, which waits for a time (a delay, --run-at, a backoff), be due now."""
    out = Output(as_json=as_json)
    with client_of(store, queue_name) as client:
        status = client.status(run_id)
        if status is None:
            raise RunNotFoundError(f"queue {client.queue_name!r} has no run {run_id!r}")
        if not client.wake(run_id):
            what = status.waiting_for or f"nothing, it is {status.state.value}"
            raise Failure(f"run {run_id} waits for no time; it waits for {what}")
        out.record({"run_id": run_id, "woken": True}, f"{run_id} is due now")
        return DONE
