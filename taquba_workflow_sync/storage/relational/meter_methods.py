"""What is counted of an open store, and what is told of it beside: each method is one transaction, or one read."""

from __future__ import annotations

from taquba_workflow_sync.storage.port.meter import Added, MinuteRow, Series
from taquba_workflow_sync.storage.relational.reading import meter as read_meter
from taquba_workflow_sync.storage.relational.reading import trace as read_trace
from taquba_workflow_sync.storage.relational.reading_access import Reading
from taquba_workflow_sync.storage.relational.reads import Now
from taquba_workflow_sync.storage.relational.transitions import meter


class MeterMethods:
    """The methods of ``Meters`` and ``Traces`` of the port."""

    _access: Reading
    _now: Now

    def traces(self, job_id: str) -> dict[int, str]:
        """Return the tracebacks of a job's attempts."""
        return self._access.read(read_trace.traces, job_id)

    def add_to_meters(self, added: Added) -> None:
        """Add to series."""
        self._access.write(lambda tx: meter.add(tx, added))

    def read_meters(self) -> dict[Series, int]:
        """Return every series."""
        return self._access.read(read_meter.meters)

    def recent_minutes(self) -> list[MinuteRow]:
        """Return what was added in each of the last minutes."""
        return self._access.read(read_meter.recent_minutes, self._now)

    def ready_ages_ms(self) -> dict[str, int]:
        """Return for how long what is longest ready in each queue has been."""
        return self._access.read(read_meter.ready_ages_ms, self._now)
