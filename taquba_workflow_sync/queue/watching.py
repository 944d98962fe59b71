"""What a store tells those who watch it: a part of the queue."""

from __future__ import annotations

from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.queue.handle import QueueHandle
from taquba_workflow_sync.queue.metrics import MinuteActivity, StoreMetrics, activity_of, metrics_of
from taquba_workflow_sync.queue.workers import WorkerProcess, workers_of


class WatchedStore:
    """The part of an open store that tells what was counted, and who works."""

    handle: QueueHandle

    def metrics(self) -> StoreMetrics:
        """Return what the store has counted of its queues, from counters: totals, durations, what waits longest."""
        return metrics_of(self.handle.store)

    def recent_activity(self, queue_name: str) -> list[MinuteActivity]:
        """Return what happened in a queue in this minute and the 59 before, those in which anything did, in order."""
        validation.queue_name(queue_name)
        return self.recent_activities().get(queue_name, [])

    def recent_activities(self) -> dict[str, list[MinuteActivity]]:
        """Return the same of every queue in which anything happened, by its name, from one read."""
        return activity_of(self.handle.store)

    def workers(self) -> list[WorkerProcess]:
        """Return the processes that work on the store, by host and pid, and what each runs now. Writes nothing.

        Shown is who has a claim, and of the living whoever runs a loop of workers (``start``, ``run``, ``run_worker``)
        or has run one that claimed something through the same handle; not who only submits or reads. At most 1,000
        jobs in all: of each process the one whose lease ends first, then of each the next, so that of up to 1,000
        processes none that has a claim is shown without. It reads what is claimed, and nothing that waits. Who died a
        moment ago may still be shown as alive; on PostgreSQL ``alive`` is then None until a worker elsewhere is sure,
        which takes seconds.

        Raises:
            StorageError: the store, or who has it open, cannot be looked at.
        """
        return workers_of(self.handle.store)
