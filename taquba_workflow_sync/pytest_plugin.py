"""The pytest plugin ``taquba``: a store of the test's own, its clock, and runs driven to their end on it.

It imports nothing but pytest until a fixture is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from taquba_workflow_sync import Queue
    from taquba_workflow_sync.testing import Crashes, ManualClock, RecordingHook, RunToEnd


@pytest.fixture
def taquba_clock() -> ManualClock:
    """The clock of ``taquba_queue``: it stands still until it is advanced, or a run has nothing else to do."""
    from taquba_workflow_sync.testing import ManualClock

    return ManualClock()


@pytest.fixture
def taquba_queue(tmp_path: Path, taquba_clock: ManualClock) -> Iterator[Queue]:
    """An open store in the test's ``tmp_path``, closed at the test's end."""
    from taquba_workflow_sync import Queue

    with Queue.open(tmp_path / "taquba", clock=taquba_clock, durability="relaxed") as queue:
        yield queue


@pytest.fixture
def taquba_hook() -> RecordingHook:
    """A terminal hook that is told how each run of ``taquba_run`` ended, in ``outcomes``."""
    from taquba_workflow_sync.testing import RecordingHook

    return RecordingHook()


@pytest.fixture
def _taquba_crashes() -> list[Crashes]:
    """What cuts the steps that run now; the blocks of ``taquba_crash_at`` put it here."""
    return []


@pytest.fixture
def taquba_run(
    taquba_queue: Queue, taquba_clock: ManualClock, taquba_hook: RecordingHook, _taquba_crashes: list[Crashes]
) -> RunToEnd:
    """Run a flow to its end: ``taquba_run(flow, state, signals={name: value})``; see ``testing.run_to_end``."""
    from taquba_workflow_sync.testing import run_to_end

    def run(flow: Any, state: Any = None, **options: Any) -> Any:
        return run_to_end(
            taquba_queue, taquba_clock, flow, state, hook=taquba_hook, crashes=tuple(_taquba_crashes), **options
        )

    return run


@pytest.fixture
def taquba_crash_at(_taquba_crashes: list[Crashes]) -> Callable[..., AbstractContextManager[Crashes]]:
    """Cut the first attempt of each step that ``taquba_run`` runs in a block: ``with taquba_crash_at(point): ...``.

    The points are those of ``testing.CrashPoint``; ``nth``: at which note of the step, for those at ``once``. The
    block gets a :class:`Crashes`, whose ``cut`` are the steps that were.
    """
    from taquba_workflow_sync.testing.crashes import Crashes, checked_point

    @contextmanager
    def crash_at(point: str, *, nth: int = 1) -> Iterator[Crashes]:
        crashes = Crashes(checked_point(point), nth=nth)
        _taquba_crashes.append(crashes)
        try:
            yield crashes
        finally:
            _taquba_crashes.remove(crashes)

    return crash_at
