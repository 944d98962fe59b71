"""What some queues of an open store stand before: work now, work at a time, or nothing that a clock could bring."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from taquba_workflow_sync.queue.handle import QueueHandle
from taquba_workflow_sync.storage.port.reads import DueIn, Ready
from taquba_workflow_sync.wakeup import WakeUp


class Outlook(NamedTuple):
    """What was seen. ``is_busy``: a step runs, or could be claimed. ``due_ms``: in how long one could; None: never."""

    version: object
    is_busy: bool
    due_ms: int | None


def look(handle: QueueHandle, queue_names: Collection[str]) -> Outlook:
    """Return the outlook of some queues, of one moment: what changes while it is read counts as busy."""
    store = handle.store
    version = store.wait_for_changes(None, 0.0, WakeUp()).version
    found = [store.next_work(name) for name in queue_names]
    counts = store.counts()
    is_busy = any(isinstance(each, Ready) for each in found)
    is_busy = is_busy or any(counts[name].claimed for name in queue_names if name in counts)
    is_busy = is_busy or store.wait_for_changes(version, 0.0, WakeUp()).are_new
    return Outlook(version, is_busy, min((each.ms for each in found if isinstance(each, DueIn)), default=None))


def wait_for_change(handle: QueueHandle, since: Outlook, timeout: float) -> None:
    """Return once something was committed after an outlook was seen, or after ``timeout`` seconds."""
    handle.store.wait_for_changes(since.version, timeout, WakeUp())
