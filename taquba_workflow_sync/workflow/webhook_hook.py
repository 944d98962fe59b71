"""A terminal hook that turns each outcome into a durable webhook job."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from taquba_workflow_sync.errors import DuplicateJobIdError, StepError
from taquba_workflow_sync.outcome import RunOutcome, TerminalStatus
from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.queue.config import Duration
from taquba_workflow_sync.queue.queue import Queue
from taquba_workflow_sync.webhooks import (
    WebhookRequest,
    WebhookTarget,
    WebhookWorker,
    enqueue_webhook,
    merge_headers,
    passed_through,
)

HEADER_WEBHOOK_RUN_ID: Final = "Workflow-Run-Id"
HEADER_WEBHOOK_STATUS: Final = "Workflow-Run-Status"


class WebhookTerminalHook:
    """Posts a run's outcome to the URL in its header ``callback_url``; runs without that header are not observed.

    The body is the result's bytes, or the error's text; the run's headers named ``http.<Name>`` become headers of the
    request. The webhook is a job of ``target_queue``, delivered by the runtime that has this hook (or by a
    ``WebhookWorker`` of your own), signed per Standard Webhooks if ``secret`` is given, and sent to no address that
    ``allow`` refuses (see ``WebhookWorker``). The same terminal outcome always has the same ``Webhook-Id``.

    Raises:
        TypeError, ValueError, InvalidNameError: an argument is wrong.
    """

    def __init__(
        self,
        queue: Queue,
        target_queue: str = "webhooks",
        *,
        url_header: str = "callback_url",
        timeout: Duration | None = None,
        secret: str | bytes | Sequence[str | bytes] | None = None,
        allow: Callable[[WebhookTarget], bool] | None = None,
    ) -> None:
        validation.instance(queue, Queue, "queue")
        validation.queue_name(target_queue)
        validation.instance(url_header, str, "url_header")
        if timeout is not None:
            validation.duration_ms(timeout, "timeout", least=1)
        self.queue = queue
        self.target_queue = target_queue
        self.url_header = url_header
        self.timeout = timeout
        #: Delivers what the hook puts in line; made here, so that a bad argument is refused at once.
        self.worker: WebhookWorker = WebhookWorker(secret=secret, allow=allow)

    def observes(self, outcome: RunOutcome) -> bool:
        """Whether the run asked for a webhook."""
        return self.url_header in outcome.headers

    def on_termination(self, outcome: RunOutcome) -> None:
        """Put the webhook in line; a repeat finds it there.

        Raises:
            StepError: permanent, if the run's URL is none.
        """
        try:
            request = WebhookRequest(
                outcome.headers[self.url_header],
                headers=merge_headers(
                    passed_through(outcome.headers),
                    {HEADER_WEBHOOK_RUN_ID: outcome.run_id, HEADER_WEBHOOK_STATUS: outcome.status.value},
                ),
                timeout=self.timeout,
            )
        except ValueError as error:
            raise StepError.permanent(f"header {self.url_header!r} of run {outcome.run_id}: {error}") from error
        body = outcome.result or b"" if outcome.status is TerminalStatus.SUCCEEDED else (outcome.error or "").encode()
        with suppress(DuplicateJobIdError):
            enqueue_webhook(
                self.queue,
                self.target_queue,
                request,
                body,
                job_id=f"{outcome.job_id}-{outcome.termination}-webhook",
            )
