"""One queue that a runtime serves: its lanes, its hook's notifications, its schedules."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from taquba_workflow_sync.errors import StorageError
from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.queue.dispatch.lane import Lane
from taquba_workflow_sync.queue.effects import Site
from taquba_workflow_sync.queue.handle import QueueHandle
from taquba_workflow_sync.queue.running import Inside
from taquba_workflow_sync.workflow.endings import Endings
from taquba_workflow_sync.workflow.hooks import NoopTerminalHook, Notifier
from taquba_workflow_sync.workflow.new_run import LANE_SUFFIX
from taquba_workflow_sync.workflow.served import Service
from taquba_workflow_sync.workflow.steps import StepLane

Fire = Callable[[], float | None]


class Serving:
    """One service of a runtime. ``endings`` is to be its client's, so that a cancel there tells the hook here."""

    def __init__(self, handle: QueueHandle, service: Service, owner: object, *, keeps_place: bool) -> None:
        self._handle = handle
        self._service = service
        self._keeps_place = keeps_place
        self._keep_ms = None if service.keep_runs is None else validation.duration_ms(service.keep_runs, "keep_runs")
        self._inside = Inside(owner, handle.address, service.queue_name)
        self._notifier: Notifier | None = None
        self.queue_name: str = service.queue_name
        self.endings: Endings = Endings(handle, service.queue_name)
        if service.hook is not None and not isinstance(service.hook, NoopTerminalHook):
            lane = service.queue_name + LANE_SUFFIX
            site = Site(handle, service.queue_name, self._keep_ms)
            self._notifier = Notifier(handle, service.hook, lane, self._inside, site)
            self.endings = Endings(
                handle, service.queue_name, lane, self._notifier.deliver, self._notifier.after_refusal
            )

    def lanes(self) -> tuple[StepLane, list[Lane]]:
        """Return the lane of steps, made anew, and that of notifications, which goes first, if there is one."""
        steps = StepLane(
            self._handle,
            self.queue_name,
            self._service.run_step,
            keeps_place=self._keeps_place,
            inside=self._inside,
            keep_ms=self._keep_ms,
        )
        if self._notifier is None:
            return steps, []
        return steps, [self._notifier.lane(lambda: sum(steps.ended.values()))]


def fire_all(fires: Sequence[Fire]) -> Fire:
    """Return what fires the schedules of several queues; one that the store refuses does not keep others waiting.

    What it returns raises the first refusal, once all were called.
    """
    if len(fires) == 1:
        return fires[0]

    def fire() -> float | None:
        waits: list[float] = []
        refused: StorageError | None = None
        for each in fires:
            try:
                wait = each()
            except StorageError as error:
                refused = refused or error
            else:
                waits += [] if wait is None else [wait]
        if refused is not None:
            raise refused
        return min(waits, default=None)

    return fire
