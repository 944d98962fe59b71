"""Durable workflows for synchronous Python: each step's result is stored before the next begins; no server to run.

What is no class or function:

``PRIORITY_HIGH``, ``PRIORITY_NORMAL``, ``PRIORITY_LOW``: priorities of jobs and runs; lower numbers go first, any
integer will do. ``PRIORITY_NORMAL`` is the default.
``HEADER_RUN_ID``, ``HEADER_STEP``: the headers of a step's job in which the library writes the id of the run and the
number of the step. ``RESERVED_HEADER_PREFIX``: what they begin with; a submit with such a header is refused.
``__version__``: the version, as it is published.
"""

import logging

from taquba_workflow_sync.clock import Clock
from taquba_workflow_sync.errors import (
    CancelRequestedError,
    ClaimLostError,
    DuplicateJobIdError,
    InputMismatchError,
    InvalidNameError,
    InvalidRunIdError,
    InvalidStateError,
    InvalidStepHeaderError,
    JobNotFoundError,
    MissingHeaderError,
    PayloadTooLargeError,
    PermanentFailure,
    ReservedHeaderError,
    RunCancelledError,
    RunFailedError,
    RunNotFoundError,
    SchemaVersionError,
    StepError,
    StepErrorKind,
    StorageError,
    StoreClosedError,
    StoreInUseError,
    TaqubaError,
    UnsupportedFilesystemError,
)
from taquba_workflow_sync.outcome import RunOutcome, TerminalStatus
from taquba_workflow_sync.queue import (
    PRIORITY_HIGH,
    PRIORITY_LOW,
    PRIORITY_NORMAL,
    AttemptOutcome,
    CancelOutcome,
    CheckReport,
    Claim,
    JobAttempt,
    JobPage,
    JobRecord,
    JobStatus,
    Queue,
    QueueConfig,
    QueueStats,
    Worker,
    run_worker,
)
from taquba_workflow_sync.storage.port.headers import HEADER_RUN_ID, HEADER_STEP, RESERVED_HEADER_PREFIX
from taquba_workflow_sync.storage.port.run import IfFinished
from taquba_workflow_sync.webhooks import WebhookRequest, WebhookTarget, WebhookWorker, enqueue_webhook
from taquba_workflow_sync.workflow.client import RunHandle, WorkflowClient
from taquba_workflow_sync.workflow.hooks import NoopTerminalHook, TerminalHook
from taquba_workflow_sync.workflow.outcomes import Cancel, Continue, ContinueAfter, Fail, StepOutcome, Succeed
from taquba_workflow_sync.workflow.runner import Step, StepRunner
from taquba_workflow_sync.workflow.runtime import WorkflowRuntime, WorkflowRuntimeBuilder
from taquba_workflow_sync.workflow.spec import RunSpec, StepOrder
from taquba_workflow_sync.workflow.status import RunCounts, RunPage, RunState, RunStatus
from taquba_workflow_sync.workflow.webhook_hook import WebhookTerminalHook

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
    "DuplicateJobIdError",
    "Fail",
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
    "MissingHeaderError",
    "NoopTerminalHook",
    "PayloadTooLargeError",
    "PermanentFailure",
    "Queue",
    "QueueConfig",
    "QueueStats",
    "ReservedHeaderError",
    "RunCancelledError",
    "RunCounts",
    "RunFailedError",
    "RunHandle",
    "RunNotFoundError",
    "RunOutcome",
    "RunPage",
    "RunSpec",
    "RunState",
    "RunStatus",
    "SchemaVersionError",
    "Step",
    "StepError",
    "StepErrorKind",
    "StepOrder",
    "StepOutcome",
    "StepRunner",
    "StorageError",
    "StoreClosedError",
    "StoreInUseError",
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
    "WorkflowClient",
    "WorkflowRuntime",
    "WorkflowRuntimeBuilder",
    "enqueue_webhook",
    "run_worker",
]

__version__ = "0.1.0"

logging.getLogger(__name__).addHandler(logging.NullHandler())
