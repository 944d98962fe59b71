"""Headers: the reserved names, and the one codec."""

from __future__ import annotations

import json
from typing import Final


def readable_headers(text: str | None) -> dict[str, str]:
    """Return stored headers; none of a row whose headers are damaged, since one row must never block the others."""
    try:
        headers = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    if not isinstance(headers, dict):
        return {}
    return {name: value for name, value in headers.items() if isinstance(value, str)}


RESERVED_HEADER_PREFIX: Final = "workflow."


HEADER_RUN_ID: Final = "workflow.run_id"


HEADER_STEP: Final = "workflow.step"


HEADER_JOB_ID: Final = "workflow.job_id"


HEADER_STATUS: Final = "workflow.status"


HEADER_TERMINATION: Final = "workflow.termination"


HEADER_FINISHED_MS: Final = "workflow.finished_at_ms"


HEADER_ERROR: Final = "workflow.error"
