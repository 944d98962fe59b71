"""What is counted of an open store, a line each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeVar

from taquba_workflow_sync.storage.port.meter import Added, MinuteRow, Series
from tests.storage.memory import meters
from tests.storage.memory.state import State
from tests.storage.memory.transaction import Transaction

_T = TypeVar("_T")


class MeterMethods(ABC):
    """The methods of ``Meters`` and ``Traces``."""

    _now: Callable[[], int]

    @abstractmethod
    def _write(self, change: Callable[[Transaction], _T]) -> _T: ...

    @abstractmethod
    def _state(self) -> State: ...

    def traces(self, job_id: str) -> dict[int, str]:
        row = self._state().rows.get(job_id)
        return {} if row is None else dict(row.traces)

    def add_to_meters(self, added: Added) -> None:
        self._write(lambda tx: meters.add(tx, added))

    def read_meters(self) -> dict[Series, int]:
        return meters.read(self._state())

    def recent_minutes(self) -> list[MinuteRow]:
        return meters.recent_minutes(self._state(), self._now())

    def ready_ages_ms(self) -> dict[str, int]:
        return meters.ready_ages_ms(self._state(), self._now())

    def log_bytes(self) -> int:
        return 0
