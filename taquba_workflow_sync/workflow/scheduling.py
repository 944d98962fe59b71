"""The schedules of one queue, as a client defines, shows and moves them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any, Final

from taquba_workflow_sync.errors import ScheduleNotFoundError, StorageError
from taquba_workflow_sync.ids import new_ulid
from taquba_workflow_sync.queue.handle import QueueHandle
from taquba_workflow_sync.storage.port.job import NewJob
from taquba_workflow_sync.storage.port.schedule import Mark, NewSchedule, ScheduleRow
from taquba_workflow_sync.workflow.firing import Firing, find
from taquba_workflow_sync.workflow.schedule import (
    Definition,
    Schedule,
    checked_definition,
    checked_name,
    schedule_of,
)
from taquba_workflow_sync.workflow.spec import RunSpec, flow_version

_log = logging.getLogger(__name__)

#: So many schedules are read at once.
_PIECE: Final = 100


class Scheduling:
    """Defines and shows the schedules of a queue, and has them fired.

    ``keep_ms``: how long runs are kept of what is defined here. ``make_job`` makes a job of what is to be submitted;
    ``register`` is called before anything is, other than by a runtime, which has done so.
    """

    def __init__(
        self,
        handle: QueueHandle,
        queue_name: str,
        keep_ms: int | None,
        make_job: Callable[[RunSpec], NewJob],
        register: Callable[[], None],
    ) -> None:
        self._handle = handle
        self._queue_name = queue_name
        self._keep_ms = keep_ms
        self._make_job = make_job
        self._register = register
        self._firing = Firing(handle, queue_name, make_job)

    def define(self, name: str, *, spec: RunSpec, **given: Any) -> None:
        """Store a schedule that begins now, if it is not there already: the same, or of a newer version of its flow.

        While a new version is rolled out, processes of the older one still start.
        """
        checked_name(name)
        definition = checked_definition(spec=spec, keep_ms=self._keep_ms, **given)
        self._make_job(spec)  # what a submit would refuse
        text, payload = definition.encode(), spec.input
        while True:
            row, now_ms = find(self._handle, self._queue_name, name)
            if row is not None and row.damage is None and (row.definition, row.payload) == (text, payload):
                return
            newer = None if row is None else _newer_version(row, spec)
            if newer is not None:
                _log.info(
                    "schedule %s of queue %s stays as version %d of the flow has defined it; this process is older",
                    name,
                    self._queue_name,
                    newer,
                )
                return
            mark = Mark(now_ms, definition.rule(now_ms).after(now_ms))
            new = NewSchedule(self._queue_name, name, definition.kind, text, payload, now_ms, mark)
            if self._handle.define_schedule(new, None if row is None else row.seen.revision):
                return

    def all(self) -> list[Schedule]:
        """Return the queue's schedules by name; one that cannot be read is logged and left out."""
        return list(self._readable(self._rows()))

    def _rows(self) -> Iterator[ScheduleRow]:
        after = ""
        while True:
            rows = self._handle.find_schedules(self._queue_name, after=after, limit=_PIECE).rows
            yield from rows
            if not rows:
                return
            after = rows[-1].name

    def _readable(self, rows: Iterator[ScheduleRow]) -> Iterator[Schedule]:
        for row in rows:
            try:
                _refuse_damage(row)
                yield schedule_of(row)
            except (StorageError, TypeError, ValueError) as error:
                _log.error("schedule %s of queue %s cannot be shown: %s", row.name, self._queue_name, error)

    def drop(self, name: str) -> None:
        """Remove a schedule; its runs stay."""
        if not self._handle.drop_schedule(self._queue_name, checked_name(name)):
            raise self._unknown(name)

    def trigger(self, name: str) -> str:
        """Submit a run of a schedule now, whatever its times say; returns its name."""
        checked_name(name)
        self._register()
        run_id = f"{name}-{new_ulid()}"
        while True:
            row, _ = self._existing(name)
            if self._firing.submit(row, _definition_of(row), [run_id], None) is not None:
                return run_id

    def pause(self, name: str) -> None:
        """Have a schedule not fire until it is resumed; pausing it again is a no-op."""
        checked_name(name)
        while True:
            row, _ = self._existing(name)
            mark = Mark(row.seen.watermark_ms, row.next_ms)
            if row.is_paused or self._handle.move_schedule(self._queue_name, name, row.seen, mark, is_paused=True):
                return

    def resume(self, name: str) -> None:
        """Have a paused schedule go on from now; resuming one that is not paused is a no-op."""
        checked_name(name)
        while True:
            row, now_ms = self._existing(name)
            if not row.is_paused:
                return
            mark = Mark(now_ms, _definition_of(row).rule(row.defined_ms).after(now_ms))
            if self._handle.move_schedule(self._queue_name, name, row.seen, mark, is_paused=False):
                return

    def fire(self) -> float | None:
        """Fire what is due; see :meth:`Firing.fire`."""
        return self._firing.fire()

    def _existing(self, name: str) -> tuple[ScheduleRow, int]:
        row, now_ms = find(self._handle, self._queue_name, name)
        if row is None:
            raise self._unknown(name)
        _refuse_damage(row)
        return row, now_ms

    def _unknown(self, name: str) -> ScheduleNotFoundError:
        return ScheduleNotFoundError(f"queue {self._queue_name!r} has no schedule {name!r}")


def _newer_version(row: ScheduleRow, spec: RunSpec) -> int | None:
    """Return the version of the flow that defined a schedule, if that is newer than the one that made the spec."""
    version = flow_version(spec.headers)
    if version is None or row.damage is not None:
        return None
    try:
        stored = flow_version(Definition.decode(row.definition).spec.get("headers", {}))
    except (TypeError, ValueError, AttributeError):
        return None  # it cannot be read here: defining it anew is what mends it
    return stored if stored is not None and stored > version else None


def _refuse_damage(row: ScheduleRow) -> None:
    """Refuse a row that is not what was stored.

    Raises:
        StorageError: it is not.
    """
    if row.damage is not None:
        raise StorageError(f"the schedule {row.name!r} is damaged: {row.damage}; define it anew, or restore a backup")


def _definition_of(row: ScheduleRow) -> Definition:
    """Return a schedule's definition.

    Raises:
        StorageError: a newer program has written it.
    """
    try:
        return Definition.decode(row.definition)
    except (TypeError, ValueError) as error:
        raise StorageError(
            f"the schedule {row.name!r} cannot be read by this version of the library: {error}"
        ) from error
