"""Runs that are submitted when the transaction that they belong to has been committed."""

from __future__ import annotations

from typing import Any, TypeVar, Unpack

from django.db import transaction

from taquba_workflow_sync.flow import Flow
from taquba_workflow_sync.flow.submitting import RunFields

_In = TypeVar("_In")


def submit_on_commit(
    flow: Flow[_In, Any], state: _In, *, run_id: str, using: str | None = None, **fields: Unpack[RunFields]
) -> str:
    """Submit a run of a flow once the transaction is committed, at once where there is none; return its run id.

    Everything that a submit checks before it writes is checked now, the store's bounds among it, so that what cannot be
    submitted is an error before the commit. ``using`` is the database. A process that dies between the commit and the
    submit has submitted nothing: the run id is demanded so that ``manage.py taquba_repair`` can make up for it, with
    the run ids and states that ``@flow.missing`` yields. A submit that the store refuses (another input has the run id,
    a limit is full, the disk is) raises from where the commit is made: the transaction is committed then.

    Raises:
        TypeError: the state does not fit, and names the path; or there is no run id.
        ValueError, InvalidRunIdError, ReservedHeaderError: a field is wrong.
        PayloadTooLargeError: the state, or an effect, is larger than the store's ``max_payload_bytes``.
        ImproperlyConfigured, StorageError: the flow's store cannot be opened.
        FlowDefinitionError, FlowNotBoundError: the flow cannot run, or knows no store.
    """
    if not isinstance(flow, Flow):
        raise TypeError(f"flow must be a Flow, not {type(flow).__name__}")
    if not isinstance(run_id, str):
        raise TypeError(
            f"run_id must be a str, not {type(run_id).__name__}: name the run after the row that it is for, such as"
            " f'order-{order.pk}', so that a repeat is no second run"
        )
    spec = flow.spec(state, run_id=run_id, **fields)
    client = flow.client()
    client._insert_of(spec)  # all that a submit checks before it writes; what is made of it is made anew then
    transaction.on_commit(lambda: client.submit(spec) and None, using=using)
    return run_id
