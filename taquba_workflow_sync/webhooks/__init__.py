"""Durable delivery of webhooks: jobs that carry a request, and the worker that sends them."""

from taquba_workflow_sync.webhooks.errors import RetryLater
from taquba_workflow_sync.webhooks.request import (
    HEADER_ID,
    HEADER_METHOD,
    HEADER_TIMEOUT_MS,
    HEADER_URL,
    PASS_THROUGH_PREFIX,
    WebhookRequest,
    enqueue_webhook,
    merge_headers,
    passed_through,
    webhook_headers,
)
from taquba_workflow_sync.webhooks.target import WebhookTarget
from taquba_workflow_sync.webhooks.worker import WebhookWorker

__all__ = [
    "HEADER_ID",
    "HEADER_METHOD",
    "HEADER_TIMEOUT_MS",
    "HEADER_URL",
    "PASS_THROUGH_PREFIX",
    "RetryLater",
    "WebhookRequest",
    "WebhookTarget",
    "WebhookWorker",
    "enqueue_webhook",
    "merge_headers",
    "passed_through",
    "webhook_headers",
]
