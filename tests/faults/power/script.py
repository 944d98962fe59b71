"""What the processes of a recording do, and what is demanded of a disk beside what every store must hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taquba_workflow_sync import Queue
from tests.faults.figures import Figures
from tests.faults.journal import Event, Journal
from tests.faults.lab import LabRunner, hook_of


def _nothing_more(store: Path, events: Sequence[Event], figures: Figures, *, is_idle: bool) -> None:
    """Runs alone have no rules of their own."""


@dataclass(frozen=True)
class Script:
    """``module``: of the processes; ``runner`` and ``hook``: who goes on after a cut; ``tend``: what they leave to do;
    ``look``: the rules of its own.
    """

    module: str
    runner: Callable[[Journal], Any]
    hook: Callable[[Journal], Any]
    tend: Callable[[Queue], None]
    look: Callable[..., None]


RUNS = Script("tests.faults.power.scenario", LabRunner, hook_of, lambda queue: None, _nothing_more)
