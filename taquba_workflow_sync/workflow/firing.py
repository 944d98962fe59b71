"""What fires the schedules of a queue: called by whoever serves it, when something is due."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from taquba_workflow_sync.errors import StorageError, StoreClosedError, TaqubaError
from taquba_workflow_sync.queue.handle import QueueHandle
from taquba_workflow_sync.storage.port.job import NewJob
from taquba_workflow_sync.storage.port.schedule import (
    FAR_AHEAD_MS,
    MOST_BYTES,
    MOST_FIRED,
    DueSchedule,
    Fired,
    Mark,
    ScheduleKind,
    ScheduleRow,
    Seen,
)
from taquba_workflow_sync.workflow.cron import CronUnavailable, can_parse
from taquba_workflow_sync.workflow.recurrence import Recurrence, due
from taquba_workflow_sync.workflow.schedule import Definition, run_id_at
from taquba_workflow_sync.workflow.spec import RunSpec

_log = logging.getLogger(__name__)

#: So many schedules are looked for at once.
_PIECE: Final = 100
#: What is due and cannot be fired here is looked at again after so long.
_LOOK_AGAIN_S: Final = 5.0
#: So many schedules in a row that the store refuses are the store's fault, not theirs.
_MOST_REFUSALS: Final = 5


class Firing:
    """Fires the schedules of a queue. ``make_job``: how a client makes a job of what it submits."""

    def __init__(self, handle: QueueHandle, queue_name: str, make_job: Callable[[RunSpec], NewJob]) -> None:
        self._handle = handle
        self._queue_name = queue_name
        self._make_job = make_job
        self._kinds: tuple[ScheduleKind, ...] = tuple(ScheduleKind)
        #: What cannot be fired here as it stands, by name.
        self._left_alone: dict[str, Seen] = {}

    def fire(self) -> float | None:
        """Fire what is due; returns in how many seconds something will be, None: when the schedules have changed.

        Raises:
            StorageError: the store refuses.
        """
        waits: list[float] = []
        for kind in self._kinds:
            following = self._handle.next_firing(self._queue_name, kind)
            if following is None:
                continue
            if kind is ScheduleKind.CRON and not self._can_parse():
                continue
            if following.is_due:
                waits.append(0.0 if self._fire_due(kind) else _LOOK_AGAIN_S)
            if following.in_ms is not None:
                waits.append(following.in_ms / 1000)
        return min(waits, default=None)

    def _can_parse(self) -> bool:
        if can_parse():
            return True
        self._kinds = (ScheduleKind.EVERY,)
        _log.warning(
            "queue %s has cron schedules, which this process leaves alone: it lacks the extra"
            " 'taquba-workflow-sync[cron]'",
            self._queue_name,
        )
        return False

    def _fire_due(self, kind: ScheduleKind) -> bool:
        """Fire each schedule of a kind that is due, once; whether any was seen to."""
        has_fired = False
        refusals = 0
        seen: set[str] = set()
        place: DueSchedule | None = None
        while True:
            piece = self._handle.due_schedules(self._queue_name, kind, place, _PIECE)
            fresh = [each for each in piece if each.name not in seen]
            if not fresh:
                return has_fired
            for each in fresh:
                seen.add(each.name)
                try:
                    has_fired |= self._fire_one(each.name)
                except StorageError as error:
                    refusals += 1
                    if refusals >= _MOST_REFUSALS:
                        raise
                    _log.error("schedule %s of queue %s was not fired: %s", each.name, self._queue_name, error)
            place = piece[-1]

    def _fire_one(self, name: str) -> bool:
        """Fire one schedule as it stands now; whether it was seen to, by this process or by another one."""
        row, now_ms = find(self._handle, self._queue_name, name)
        if row is None or row.is_paused:
            return True
        if self._left_alone.get(name) == row.seen:
            return False
        if row.damage is not None:
            return self._leave_alone(row, row.damage)
        is_ahead = row.seen.watermark_ms > now_ms + FAR_AHEAD_MS
        if not is_ahead and (row.next_ms is None or row.next_ms > now_ms):
            return True
        try:
            definition = Definition.decode(row.definition)
            rule = definition.rule(row.defined_ms)
            if is_ahead:
                self._reset(row, rule, now_ms)
            else:
                self._fire_all(row, definition, rule, now_ms)
        except (StorageError, StoreClosedError):
            raise
        except (TaqubaError, CronUnavailable, TypeError, ValueError) as error:
            return self._leave_alone(row, error)
        return True

    def _leave_alone(self, row: ScheduleRow, why: object) -> bool:
        """Do not try again in this process, until the schedule is defined anew or another one has fired it."""
        self._left_alone[row.name] = row.seen
        _log.error("schedule %s of queue %s is left alone by this process: %s", row.name, self._queue_name, why)
        return False

    def _reset(self, row: ScheduleRow, rule: Recurrence, now_ms: int) -> None:
        mark = Mark(now_ms, rule.after(now_ms))
        if self._handle.move_schedule(self._queue_name, row.name, row.seen, mark, is_paused=False):
            _log.warning(
                "schedule %s of queue %s had fired %d s ahead of the clock; it goes on from now",
                row.name,
                self._queue_name,
                (row.seen.watermark_ms - now_ms) // 1000,
            )

    def _fire_all(self, row: ScheduleRow, definition: Definition, rule: Recurrence, now_ms: int) -> None:
        """Fire what is due in bounded commits, each with its watermark; ends where another process was quicker."""
        moments = due(rule, row.seen.watermark_ms, now_ms, definition.catch_up)
        size = max(1, min(MOST_FIRED, MOST_BYTES // max(1, len(row.payload))))
        last = Mark(now_ms, rule.after(now_ms))
        pieces = [moments[begin : begin + size] for begin in range(0, len(moments), size)] or [[]]
        for number, piece in enumerate(pieces, start=1):
            mark = last if number == len(pieces) else Mark(piece[-1], pieces[number][0])
            names = [run_id_at(row.name, moment) for moment in piece]
            fired = self.submit(row, definition, names, mark)
            if fired is None:
                return
            self._tell(row.name, fired)
            row = row._replace(seen=row.seen._replace(watermark_ms=mark.watermark_ms))

    def submit(self, row: ScheduleRow, definition: Definition, run_ids: list[str], mark: Mark | None) -> Fired | None:
        """Submit runs of a schedule and move its mark (None: leave it), if it still is as it was read."""
        spec = definition.spec_of(row.payload)
        jobs = [
            # Kept as by the client that defined the schedule, whoever fires it.
            replace(self._make_job(replace(spec, run_id=run_id)), keep_done_ms=definition.keep_ms)
            for run_id in run_ids
        ]
        skips_active = definition.overlap == "skip" and mark is not None
        return self._handle.fire(self._queue_name, row.name, row.seen, jobs, mark, skips_active=skips_active)

    def _tell(self, name: str, fired: Fired) -> None:
        for run_id in fired.taken:
            _log.warning(
                "schedule %s of queue %s passed over %s: a run with another input has that name",
                name,
                self._queue_name,
                run_id,
                extra={"run_id": run_id, "queue": self._queue_name},
            )
        for run_id in fired.skipped:
            _log.info(
                "schedule %s of queue %s passed over %s: its last run is active",
                name,
                self._queue_name,
                run_id,
                extra={"run_id": run_id, "queue": self._queue_name},
            )


def find(handle: QueueHandle, queue_name: str, name: str) -> tuple[ScheduleRow | None, int]:
    """Return a schedule, and the store's time."""
    view = handle.find_schedules(queue_name, name=name)
    return (view.rows[0] if view.rows else None), view.now_ms
