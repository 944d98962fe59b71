"""Durable workflows for synchronous Python: each step's result is stored before the next begins; no server to run.

What is no class or function:

``PRIORITY_HIGH``, ``PRIORITY_NORMAL``, ``PRIORITY_LOW``: priorities of jobs and runs; lower numbers go first, any
integer will do. ``PRIORITY_NORMAL`` is the default.
``HEADER_RUN_ID``, ``HEADER_STEP``: the headers of a step's job in which the library writes the id of the run and the
number of the step. ``RESERVED_HEADER_PREFIX``: what they begin with; a submit with such a header is refused.
``__version__``: the version, as it is published.
"""

import importlib
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taquba_workflow_sync._public import *

__all__ = [
    "HEADER_RUN_ID",
    "HEADER_STEP",
    "PRIORITY_HIGH",
    "PRIORITY_LOW",
    "PRIORITY_NORMAL",
    "RESERVED_HEADER_PREFIX",
    "AttemptOutcome",
    "Cancel",
    "CancelOutcome",
    "CancelRequestedError",
    "CheckReport",
    "Claim",
    "ClaimLostError",
    "Clock",
    "Continue",
    "ContinueAfter",
    "ContinueOnGroup",
    "ContinueOnSignal",
    "DuplicateJobIdError",
    "EffectConflictError",
    "Effects",
    "EffectsSealedError",
    "EventKind",
    "Fail",
    "Group",
    "GroupMismatchError",
    "GroupNotFoundError",
    "GroupPage",
    "GroupStatus",
    "Histogram",
    "IfFinished",
    "InputMismatchError",
    "InvalidNameError",
    "InvalidRunIdError",
    "InvalidStateError",
    "InvalidStepHeaderError",
    "JobAttempt",
    "JobNotFoundError",
    "JobPage",
    "JobRecord",
    "JobStatus",
    "KeyValuePage",
    "KeyValueStore",
    "KeyValueView",
    "Limit",
    "LimitUsage",
    "Memo",
    "MemoFullError",
    "MinuteActivity",
    "MissingHeaderError",
    "NoopTerminalHook",
    "PayloadTooLargeError",
    "PermanentFailure",
    "Queue",
    "QueueConfig",
    "QueueFullError",
    "QueueMetrics",
    "QueueStats",
    "ReservedHeaderError",
    "RunCancelledError",
    "RunCounts",
    "RunEvent",
    "RunFailedError",
    "RunHandle",
    "RunNotFoundError",
    "RunOutcome",
    "RunPage",
    "RunProgress",
    "RunSpec",
    "RunState",
    "RunStatus",
    "RunningJob",
    "Schedule",
    "ScheduleNotFoundError",
    "SchemaVersionError",
    "Signal",
    "SignalBufferFullError",
    "SignalOutcome",
    "Step",
    "StepError",
    "StepErrorKind",
    "StepOrder",
    "StepOutcome",
    "StepRunner",
    "StorageError",
    "StoreAccessError",
    "StoreClosedError",
    "StoreInUseError",
    "StoreMismatchError",
    "StoreMovedError",
    "StoreMetrics",
    "Succeed",
    "TaqubaError",
    "TerminalHook",
    "TerminalStatus",
    "UnsupportedFilesystemError",
    "WebhookRequest",
    "WebhookTarget",
    "WebhookTerminalHook",
    "WebhookWorker",
    "Worker",
    "WorkerProcess",
    "WorkflowClient",
    "WorkflowRuntime",
    "WorkflowRuntimeBuilder",
    "content_key",
    "enqueue_webhook",
    "run_worker",
]

__version__ = "0.1.0"

logging.getLogger(__name__).addHandler(logging.NullHandler())

if not TYPE_CHECKING:  # or a type checker would take any name for one of ours

    def __getattr__(name: str) -> object:
        """Import all that is public when something of it is first asked for.

        Until then who needs none of it, or one module, does not pay for the rest: pytest, which imports the plugin of
        an installed package at every start; a command that only looks.
        """
        if not name.startswith("_"):
            public = vars(importlib.import_module("taquba_workflow_sync._public"))
            globals().update((each, public[each]) for each in __all__)
            if name in globals():  # or a part of the package, which the others have brought along
                return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
