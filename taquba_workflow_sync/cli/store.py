"""Which store a command means, opened; what only looks makes none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import click

from taquba_workflow_sync.cli.exit_codes import NOT_FOUND, Failure
from taquba_workflow_sync.queue import opening
from taquba_workflow_sync.queue.queue import Queue
from taquba_workflow_sync.workflow.client import WorkflowClient
from taquba_workflow_sync.workflow.new_run import DEFAULT_QUEUE_NAME

STORE_VARIABLE: Final = "TAQUBA_STORE"


def given_store(store: str | None) -> str | None:
    """Return the store that the arguments name, before the command or after it; None: they name none."""
    if store is not None:
        return store
    ctx = click.get_current_context(silent=True)
    before = None if ctx is None else ctx.find_root().obj
    return before if isinstance(before, str) else None


def store_path(store: str | None) -> str:
    """Return the store's directory or URL: from the arguments, else from the environment.

    Raises:
        click.UsageError: neither names one.
    """
    path = given_store(store) or os.environ.get(STORE_VARIABLE)
    if not path:
        raise click.UsageError(f"no store is named: give --store DIR (or a postgresql:// URL), or set {STORE_VARIABLE}")
    return path


def is_url(store: str | None) -> bool:
    """Whether a store is named by a URL, in which there may be a password.

    Raises:
        ValueError: it is one that belongs to no engine.
    """
    return store is not None and opening.is_url(store)


def shown(store: str) -> str:
    """Return a store's name as it may be shown: of a URL without the password.

    Raises:
        TypeError, ValueError: it names none.
    """
    return opening.shown(store) if is_url(store) else store


@contextmanager
def opened(store: str | None, *, creates: bool = False) -> Iterator[Queue]:
    """Open the store for a command, and close it.

    Raises:
        Failure: there is none, and the command does not make one.
    """
    path = store_path(store)
    if not creates and not Queue.is_store(path):
        raise Failure(f"there is no store at {shown(path)}", NOT_FOUND)
    with Queue.open(path) as queue:
        yield queue


@contextmanager
def client_of(store: str | None, queue_name: str | None, *, creates: bool = False) -> Iterator[WorkflowClient]:
    """Open the store, as a client of one queue."""
    with opened(store, creates=creates) as queue:
        yield WorkflowClient(queue, queue_name=queue_name or DEFAULT_QUEUE_NAME)
