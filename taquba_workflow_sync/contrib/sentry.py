"""Errors for Sentry; needs the extra ``[sentry]``.

Sentry's own logging integration makes one event of each ERROR record, and of a dead letter the library writes one, with
its exception. This integration says of which queue, step and run the event is.
"""

from __future__ import annotations

import logging
from typing import Any, Final

import sentry_sdk
from sentry_sdk.integrations import Integration
from sentry_sdk.scope import add_global_event_processor

from taquba_workflow_sync.logs import STEP_FIELDS

_LOGGERS: Final = "taquba_workflow_sync"


class TaqubaIntegration(Integration):
    """Tags events of the library's own records: ``sentry_sdk.init(..., integrations=[TaqubaIntegration()])``.

    Tags: ``taquba.queue``, ``taquba.step``, ``taquba.label``, ``taquba.run_id``, ``taquba.job_id``,
    ``taquba.attempt``. The fingerprint, unless one is set, is Sentry's own with queue and label, or the step's number:
    the same error of two steps is two issues, of two runs of one step it is one. Payloads and results are never sent by
    the library; what a traceback's frames show, Sentry's ``include_local_variables`` decides.
    """

    identifier = "taquba"

    @staticmethod
    def setup_once() -> None:
        """Have events looked at; called by the SDK, once a process."""
        add_global_event_processor(_tagged)


def _tagged(event: Any, hint: dict[str, Any]) -> Any:
    """Return an event with tags and a fingerprint, if it is of a record of this library about a step."""
    if sentry_sdk.get_client().get_integration(TaqubaIntegration) is None:
        return event
    record = hint.get("log_record")
    if not isinstance(record, logging.LogRecord) or not f"{record.name}.".startswith(f"{_LOGGERS}."):
        return event
    fields = {name: value for name in STEP_FIELDS if (value := getattr(record, name, None)) is not None}
    if "job_id" not in fields:
        return event
    tags = event.setdefault("tags", {})
    tags.update({f"taquba.{name}": str(value) for name, value in fields.items()})
    where = fields.get("label", fields.get("step", ""))
    # One that the user has set, on a scope, is the user's.
    event.setdefault("fingerprint", ["{{ default }}", str(fields.get("queue", "")), str(where)])
    return event
