"""The durable task queue: what a job is, its transitions, claiming, and the dispatcher that runs workers."""

from taquba_workflow_sync.queue.config import PRIORITY_HIGH, PRIORITY_LOW, PRIORITY_NORMAL, QueueConfig
from taquba_workflow_sync.queue.kv import KeyValueStore, KeyValueView
from taquba_workflow_sync.queue.metrics import Histogram, MinuteActivity, QueueMetrics, StoreMetrics
from taquba_workflow_sync.queue.queue import Queue
from taquba_workflow_sync.queue.records import (
    CheckReport,
    Claim,
    JobAttempt,
    JobPage,
    JobRecord,
    KeyValuePage,
    QueueStats,
)
from taquba_workflow_sync.queue.worker import Worker, run_worker
from taquba_workflow_sync.queue.workers import RunningJob, WorkerProcess
from taquba_workflow_sync.storage.port.cancellation import CancelOutcome
from taquba_workflow_sync.storage.port.status import AttemptOutcome, JobStatus

__all__ = [
    "PRIORITY_HIGH",
    "PRIORITY_LOW",
    "PRIORITY_NORMAL",
    "AttemptOutcome",
    "CancelOutcome",
    "CheckReport",
    "Claim",
    "Histogram",
    "JobAttempt",
    "JobPage",
    "JobRecord",
    "JobStatus",
    "KeyValuePage",
    "KeyValueStore",
    "KeyValueView",
    "MinuteActivity",
    "Queue",
    "QueueConfig",
    "QueueMetrics",
    "QueueStats",
    "RunningJob",
    "StoreMetrics",
    "Worker",
    "WorkerProcess",
    "run_worker",
]
