"""What a client does with the schedules of its queue; needs no runner."""

from __future__ import annotations

from datetime import datetime

from taquba_workflow_sync.queue.config import Duration
from taquba_workflow_sync.workflow.schedule import Schedule
from taquba_workflow_sync.workflow.scheduling import Scheduling
from taquba_workflow_sync.workflow.spec import RunSpec


class ScheduleCalls:
    """The part of a client that defines, shows and moves schedules; whoever serves the queue fires them."""

    _scheduling: Scheduling

    def schedule(
        self,
        name: str,
        *,
        cron: str | None = None,
        every: Duration | None = None,
        timezone: str = "UTC",
        spec: RunSpec,
        catch_up: str = "one",
        overlap: str = "allow",
        start: datetime | None = None,
        until: datetime | None = None,
    ) -> None:
        """Have a run submitted again and again by whichever runtime serves the queue; durable on return.

        ``cron``: five fields, with names, or a nickname like ``@daily``, in the IANA zone ``timezone``. ``every``: an
        interval of at least a second, from ``start`` on (default: one interval from now). ``until`` is exclusive.
        ``catch_up``: what becomes of the firings that nobody was there for, once somebody is, more than 60 s late:
        ``"one"``: of all that is due only the latest fires; ``"all"``: the last 1,000 do; ``"none"``: they are left
        out. ``overlap="skip"`` passes over a firing while the schedule's last run is active. A run is called
        ``<name>-20261122T031500Z``, after the time of its firing, and kept as long as this client keeps its runs.

        The same definition again is a no-op; another one replaces it in one commit and begins now. A pause stays.
        Of a flow, a version never replaces what a newer one has defined: that is left as it is.

        Raises:
            TypeError, ValueError, InvalidNameError: an argument is wrong; nothing was written.
            ImportError: ``cron`` was given, and the extra ``[cron]`` is not installed.
        """
        self._scheduling.define(
            name,
            cron=cron,
            every=every,
            timezone=timezone,
            spec=spec,
            catch_up=catch_up,
            overlap=overlap,
            start=start,
            until=until,
        )

    def schedules(self) -> list[Schedule]:
        """Return the queue's schedules by name; one whose stored row is damaged is logged and left out."""
        return self._scheduling.all()

    def unschedule(self, name: str) -> None:
        """Remove a schedule; its runs stay. Durable on return.

        Raises:
            ScheduleNotFoundError: the queue has none of that name.
        """
        self._scheduling.drop(name)

    def trigger(self, name: str) -> str:
        """Submit a run of a schedule now, paused or not, and return its run id; durable on return.

        It is called ``<name>-<ULID>``. When the schedule fires next stays as it is.

        Raises:
            ScheduleNotFoundError: the queue has none of that name.
        """
        return self._scheduling.trigger(name)

    def pause_schedule(self, name: str) -> None:
        """Have a schedule not fire until it is resumed; durable on return. A repeat is a no-op.

        Raises:
            ScheduleNotFoundError: the queue has none of that name.
        """
        self._scheduling.pause(name)

    def resume_schedule(self, name: str) -> None:
        """Have a paused schedule go on from now, without what it has missed; durable on return. A repeat is a no-op.

        Raises:
            ScheduleNotFoundError: the queue has none of that name.
        """
        self._scheduling.resume(name)
