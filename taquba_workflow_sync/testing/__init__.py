"""What users need to test their own runs: a clock set by hand, stand-ins, runs driven to their end, and cut on the way.

The fixtures over it are in ``taquba_workflow_sync.pytest_plugin``.
"""

from taquba_workflow_sync.testing.clock import ManualClock
from taquba_workflow_sync.testing.crashes import Crashes, CrashPoint, SimulatedCrash
from taquba_workflow_sync.testing.doubles import RecordingHook, ScriptedRunner
from taquba_workflow_sync.testing.idempotence import assert_idempotent
from taquba_workflow_sync.testing.running import Outcome, RunToEnd, run_to_end

__all__ = [
    "CrashPoint",
    "Crashes",
    "ManualClock",
    "Outcome",
    "RecordingHook",
    "RunToEnd",
    "ScriptedRunner",
    "SimulatedCrash",
    "assert_idempotent",
    "run_to_end",
]
