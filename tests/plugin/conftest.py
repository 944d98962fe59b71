"""The plugin's fixtures, whether the package is installed (then pytest knows them) or only on the path."""

from __future__ import annotations

from taquba_workflow_sync.pytest_plugin import (
    _taquba_crashes,
    taquba_clock,
    taquba_crash_at,
    taquba_hook,
    taquba_queue,
    taquba_run,
)

__all__ = ["_taquba_crashes", "taquba_clock", "taquba_crash_at", "taquba_hook", "taquba_queue", "taquba_run"]
