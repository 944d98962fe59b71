"""The source closed: nothing more is claimed, what runs ends, and then nobody works on it."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Final

from taquba_workflow_sync.errors import StoreInUseError
from taquba_workflow_sync.storage.moving.side import Side
from taquba_workflow_sync.storage.moving.stages import At, reached
from taquba_workflow_sync.storage.port.claim import ClaimRequest, LaneClaim
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.moved import MoveState
from taquba_workflow_sync.wakeup import WakeUp

_LOOK_AGAIN: Final = 0.05
_NAMED: Final = 5
#: Nothing is claimed, so the lease is of no claim.
_LEASE_MS: Final = 1000


def close_source(source: Side, deadline: float, at: At | None) -> None:
    """Have nothing more be claimed, wait for what is, and put the tables away.

    ``deadline``: until when, by the monotonic clock. Submits go through until the tables are gone; what programs' own
    transactions have committed until then is in them.

    Raises:
        StoreInUseError: steps still run then, or others' transactions hold the tables; they are named.
    """
    pause = WakeUp()
    is_closed = has_arrivals = False
    while True:
        try:
            _await_claims(source, deadline)
            with source.no_submits():
                if has_arrivals:
                    _take_over(source)
                with source.transaction():
                    source.connection.execute(sql.HOLD_QUEUES)
                    has_arrivals = source.has_arrivals()
                    if not has_arrivals and not _held(source):
                        source.hide()
                        source.connection.execute(sql.MOVE_STATE, (MoveState.COPYING,))
                        reached(at, "close source")
                        is_closed = True
            if is_closed:
                reached(at, "closed source")
                return
            if has_arrivals and time.monotonic() >= deadline:
                raise StoreInUseError(
                    f"{source.shown} is not moved, it goes on as before: programs' own transactions go on putting runs,"
                    " signals or values in; stop them, or give more time"
                )
        except StoreInUseError:
            if time.monotonic() >= deadline:
                raise  # who still runs, or which transactions hold the tables
        pause.wait(_LOOK_AGAIN)


def _take_over(source: Side) -> None:
    """Have what programs' own transactions have put in be in the tables that are copied, as by any read."""
    with closing(source.open()) as store:
        store.counts()


def _held(source: Side) -> list[tuple[object, ...]]:
    return source.read(sql.HELD_CLAIMS, (_NAMED + 1,))


def _await_claims(source: Side, deadline: float) -> None:
    """Wait until nothing is claimed; what the dead and the late have left is taken back meanwhile, as a worker does."""
    if not _held(source):
        return
    pause = WakeUp()
    with closing(source.open()) as store:
        while held := _held(source):
            _take_back(store)
            if time.monotonic() >= deadline and (held := _held(source)):
                raise StoreInUseError(f"{source.shown} is not moved, it goes on as before: {_named(held)}")
            with source.transaction():
                source.connection.execute(sql.HOLD_QUEUES)
            pause.wait(_LOOK_AGAIN)


def _take_back(store: Store) -> None:
    lanes = tuple(LaneClaim(queue, _LEASE_MS) for queue in store.counts())
    store.settle_and_claim((), [ClaimRequest(lanes, 0, abandoned=store.abandoned_claims())])


def _named(held: list[tuple[object, ...]]) -> str:
    told = []
    for job_id, run_id, queue, host, pid in held[:_NAMED]:
        what = f"job {job_id}" if run_id is None else f"run {run_id}"
        told.append(f"{what} of {queue}{'' if pid is None else f' in process {pid} on {host}'}")
    more = " and others" if len(held) > _NAMED else ""
    return f"{', '.join(told)}{more} still {'runs' if len(held) == 1 else 'run'}; let them end, or give more time"
