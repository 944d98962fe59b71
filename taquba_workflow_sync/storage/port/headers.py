"""Headers: the reserved names, and the one codec. Stored, they are a JSON object, or empty text for none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

RESERVED_HEADER_PREFIX: Final = "workflow."
HEADER_RUN_ID: Final = "workflow.run_id"
HEADER_STEP: Final = "workflow.step"
HEADER_JOB_ID: Final = "workflow.job_id"
HEADER_STATUS: Final = "workflow.status"
HEADER_TERMINATION: Final = "workflow.termination"
HEADER_FINISHED_MS: Final = "workflow.finished_at_ms"
HEADER_ERROR: Final = "workflow.error"


def encode_headers(headers: Mapping[str, str]) -> str:
    """Return headers as they are stored; JSON escapes U+0000."""
    return json.dumps(headers, ensure_ascii=False, separators=(",", ":")) if headers else ""


def decode_headers(text: str | None, run_id: str | None = None, step: int = 0) -> dict[str, str]:
    """Return stored headers, of a run with the two that each of its steps carries.

    None of a row whose headers cannot be read: :func:`are_headers` tells it before anything acts on them.
    """
    found = _object(text)
    headers = {} if found is None else {name: value for name, value in found.items() if isinstance(value, str)}
    if run_id is not None:
        headers[HEADER_RUN_ID] = run_id
        headers[HEADER_STEP] = str(step)
    return headers


def are_headers(text: str) -> bool:
    """Whether a stored text can be read as headers: running a step with guessed ones could do harm unnoticed."""
    found = _object(text)
    return found is not None and all(isinstance(value, str) for value in found.values())


def _object(text: str | None) -> dict[str, object] | None:
    try:
        found = json.loads(text) if text else {}
        if text and "\\u" in text:
            json.dumps(found, ensure_ascii=False).encode()  # half a surrogate pair cannot be stored again
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
