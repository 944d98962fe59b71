"""Submits the runs that should exist and do not: what a process left that died between a commit and its submit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from taquba_workflow_sync.flow import Flow
from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.workflow.client import WorkflowClient


@dataclass(frozen=True, slots=True)
class Repaired:
    """One run that was missing; ``error``: why it could not be submitted.

    ``run_id`` is None where ``@flow.missing`` itself failed, and so did not say which run is next.
    """

    flow: str
    run_id: str | None
    error: str | None = None


def repair(flow: Flow[Any, Any], *, dry_run: bool = False) -> Iterator[Repaired]:
    """Submit each run that ``@flow.missing`` yields and that there is none of; yields those, as they are submitted.

    A run that was submitted meanwhile is left as it is; one that has ended and is kept is none that is missing. What is
    wrong with one is told of that one, and the others are submitted all the same.
    """
    if flow.find_missing is None:
        return
    try:
        client = flow.client()
        for row in flow.find_missing():
            found = _repaired(flow, client, row, dry_run=dry_run)
            if found is not None:
                yield found
    except Exception as error:  # of the user's function, after which it yields nothing more, or of the store
        yield Repaired(flow.name, None, _told(error))


def _repaired(flow: Flow[Any, Any], client: WorkflowClient, row: Any, *, dry_run: bool) -> Repaired | None:
    run_id = None
    try:
        run_id, state, fields = _parts(row)
        if client.status(run_id) is not None:
            return None
        spec = flow.spec(state, run_id=run_id, **fields)
        if not dry_run and not client.submit(spec).newly_submitted:
            return None
    except Exception as error:  # a state may do anything when it is encoded; the other rows must not pay for it
        return Repaired(flow.name, run_id if isinstance(run_id, str) else validation.shown(row), _told(error))
    return Repaired(flow.name, run_id)


def _parts(row: Any) -> tuple[Any, Any, Any]:
    if not isinstance(row, (tuple, list)) or len(row) not in (2, 3):
        raise TypeError(f"missing yields (run_id, state) or (run_id, state, fields), not {validation.shown(row)}")
    return row[0], row[1], row[2] if len(row) == 3 else {}


def _told(error: Exception) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # its text cannot be made
        return type(error).__name__
