"""Every call that writes, each by itself: what makes it ready in a store, and the one call that is then looked at."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from taquba_workflow_sync import Queue, RunSpec, TaqubaError, WorkflowClient
from taquba_workflow_sync.storage.port.claim import ClaimedRow, ClaimRequest, LaneClaim
from taquba_workflow_sync.storage.port.notification import Subscription
from taquba_workflow_sync.storage.port.settlement import Ack, Action, Settlement
from taquba_workflow_sync.storage.relational.sql.names import META
from tests.faults.disk.feature_calls import feature_calls
from tests.faults.lab import open_queue
from tests.support import wait_until
from tests.transitions import THROUGH_THE_PORT, Scene, case_of

BARE = "bare"
STEPS = "workflow-steps"
WIDE = bytes(3000)  # so large that it has a row of its own

#: What is looked at: given the open queue, it makes the call.
Act = Callable[[Queue], object]


class WallScene(Scene):
    """A store by the wall clock, where what takes time takes it."""

    soon_ms = 300


def _case(name: str) -> Callable[[Queue], Act]:
    """Make a transition as the catalogue does."""

    def prepare(queue: Queue) -> Act:
        _, act = case_of(name).prepare(WallScene(queue.handle.store, _pass_ms))
        return lambda queue: act(queue.handle.store)

    return prepare


def _pass_ms(ms: int) -> None:
    until = datetime.now(UTC) + timedelta(milliseconds=ms + 2)
    wait_until(lambda: datetime.now(UTC) > until, "a moment later")


def _enqueue_batch(_: Queue) -> Act:
    return lambda queue: queue.enqueue_batch(BARE, [WIDE, b"2", b"3"])


def _submit(_: Queue) -> Act:
    return lambda queue: WorkflowClient(queue).submit(run_id="r", input=b"x", headers={"plan": "go"})


def _submit_many(_: Queue) -> Act:
    specs = [RunSpec(run_id=f"r{number}", input=WIDE, headers={"plan": "go"}) for number in range(4)]
    return lambda queue: WorkflowClient(queue).submit_many(specs)


def _claim_beside_the_dead(queue: Queue) -> Act:
    """The claim clears away what a process has left that died without a claim."""

    def act(queue: Queue) -> object:
        left = queue.path / "owners" / "1-dead.lock"
        if not left.exists():
            left.hardlink_to(queue.path / "open.lock")  # not opened: what is opened here may be made to fail
        return queue.claim(BARE, lease=3600)

    queue.enqueue(BARE, b"x")
    return act


def _claimed_run(queue: Queue) -> ClaimedRow:
    _subscribe(queue)
    WorkflowClient(queue).submit(run_id="r", headers={"plan": "go"})
    _, rows = queue.handle.store.settle_and_claim((), [ClaimRequest((LaneClaim(STEPS, 3_600_000),), 1, is_bare=True)])
    return rows[0]


def _settle(queue: Queue, row: ClaimedRow, action: Action) -> None:
    refusals, _ = queue.handle.store.settle_and_claim([Settlement(row.id, row.token, action)], ())
    for refusal in refusals:
        if refusal is not None:
            raise refusal


def _notify(queue: Queue) -> Act:
    row = _claimed_run(queue)
    return lambda queue: _settle(queue, row, Ack(result=WIDE))


def _cancel_run(queue: Queue) -> Act:
    _subscribe(queue)
    WorkflowClient(queue).submit(run_id="r", headers={"plan": "go"})
    return lambda queue: WorkflowClient(queue).cancel("r")


def _enter_boot(queue: Queue) -> Act:
    """A delay that was begun in another boot of the machine; the first call that writes sees to it."""
    queue.enqueue(BARE, b"x", job_id="j")
    claim = queue.claim(BARE, lease=3600)
    assert claim is not None
    queue.advance(claim, b"y", delay=3600)
    queue.close()
    with closing(sqlite3.connect(queue.path / "db" / "cache.db", isolation_level=None)) as connection:
        connection.execute(f"UPDATE {META} SET value = 1 WHERE key = 'boot'")
    return lambda queue: queue.enqueue(BARE, b"x", job_id="k")


def _subscribe(queue: Queue) -> None:
    queue.handle.store.subscribe(STEPS, Subscription(f"{STEPS}.terminal", 3, None))


def _unsubscribe(queue: Queue) -> Act:
    _subscribe(queue)
    return lambda queue: WorkflowClient(queue).unregister_hook()


#: By name: transitions as the catalogue makes them, and what callers do that is more than one of them.
CALLS: dict[str, Callable[[Queue], Act]] = {
    **{case.name: _case(case.name) for case in THROUGH_THE_PORT if case.name == case.transition},
    "advance_large": _case("advance with a large payload"),
    "enqueue_batch": _enqueue_batch,
    "submit": _submit,
    "submit_many": _submit_many,
    "claim_beside_the_dead": _claim_beside_the_dead,
    "notify": _notify,
    "cancel_run": _cancel_run,
    "enter_boot": _enter_boot,
    "subscribe": lambda _: _subscribe,
    "unsubscribe": _unsubscribe,
    "enrol": lambda _: lambda queue: queue.handle.store.enrol(),
    **feature_calls(_pass_ms),
}


def prepare(name: str, template: Path) -> Act:
    """Make a closed store that is ready for the call."""
    with open_queue(template) as queue:
        return CALLS[name](queue)


def copy(template: Path, root: Path, **options: Any) -> Queue:
    """Open a copy of a closed store."""
    shutil.copytree(template, root)
    return open_queue(root, **options)


def answer_of(act: Callable[[], object]) -> dict[str, str]:
    """Make the call; say what came of it."""
    try:
        act()
    except Exception as error:
        kind = "refused" if isinstance(error, TaqubaError) else "raw"
        return {"came": kind, "type": type(error).__name__, "text": str(error)}
    return {"came": "done", "type": "", "text": ""}


def judge(answer: dict[str, str], before: object, after: object, found: object) -> str | None:
    """Return what is wrong with an answer, given what the store held before, holds after such a call, and holds."""
    said = json.dumps(answer)
    if answer["came"] == "raw":
        return f"not an error of the library: {said}"
    if answer["came"] == "done":
        return None if found == after else f"it returned, and is not stored: {said}"
    if answer["type"] != "StorageError":
        return f"not a StorageError: {said}"
    if "unknown" in answer["text"]:
        return None if found in (before, after) else f"half of it is stored: {said}"
    return None if found == before else f"something was written: {said}"
