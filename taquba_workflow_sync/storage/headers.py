"""The reserved header names, which a step's record and a notification carry."""

from __future__ import annotations

from typing import Final

RESERVED_HEADER_PREFIX: Final = "workflow."
HEADER_RUN_ID: Final = "workflow.run_id"
HEADER_STEP: Final = "workflow.step"
HEADER_JOB_ID: Final = "workflow.job_id"
HEADER_STATUS: Final = "workflow.status"
HEADER_TERMINATION: Final = "workflow.termination"
HEADER_FINISHED_MS: Final = "workflow.finished_at_ms"
HEADER_ERROR: Final = "workflow.error"
