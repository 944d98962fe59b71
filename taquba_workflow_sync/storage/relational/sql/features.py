"""The tables of what a run can do beside its steps: each feature's own, defined beside its statements."""

from __future__ import annotations

from typing import Final

from taquba_workflow_sync.storage.relational.sql import (
    child,
    effects,
    event,
    garbage,
    group,
    kv,
    limit,
    memo,
    meter,
    owner,
    progress,
    schedule,
    settings,
    signals,
    timing,
    trace,
)

SCHEMA: Final = (
    *garbage.SCHEMA_OF_GARBAGE,
    *memo.SCHEMA_OF_MEMO,
    *kv.SCHEMA_OF_KV,
    *effects.SCHEMA_OF_EFFECTS,
    *signals.SCHEMA_OF_SIGNALS,
    *timing.SCHEMA_OF_TIMING,
    *settings.SCHEMA_OF_SETTINGS,
    *schedule.SCHEMA_OF_SCHEDULE,
    *owner.SCHEMA_OF_OWNER,
    *event.SCHEMA_OF_EVENT,
    *progress.SCHEMA_OF_PROGRESS,
    *limit.SCHEMA_OF_LIMIT,
    *group.SCHEMA_OF_GROUP,
    *child.SCHEMA_OF_CHILD,
    *meter.SCHEMA_OF_METER,
    *trace.SCHEMA_OF_TRACE,
)
