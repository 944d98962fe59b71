"""A filter as conditions of a statement."""

from __future__ import annotations

from taquba_workflow_sync.storage.port.headers import encode_headers
from taquba_workflow_sync.storage.port.reads import Filter
from taquba_workflow_sync.storage.port.status import Verdict
from taquba_workflow_sync.storage.port.texts import storable_error
from taquba_workflow_sync.storage.relational import sql


def conditions(which: Filter, now_ms: int) -> tuple[str, list[object]]:
    """Return what narrows a page, and the values of its placeholders.

    But for the parent, which is the page's to narrow: whose child a run is does not change.
    """
    parts: list[str] = [sql.IS_SHOWN]
    values: list[object] = []
    if which.status is not None:
        parts.append(sql.IS_IN_STATUS[which.status])
    if which.verdict is not None:
        parts.append(sql.HAS_VERDICT[which.verdict])
    if which.cancel_requested is not None:
        parts.append(sql.IS_ASKED_TO_STOP[which.cancel_requested])
    if which.is_waiting:
        parts.append(sql.IS_WAITING)
    if which.is_active or may_be_cancelling(which):
        parts.append(sql.IS_ACTIVE)
    if which.runs_only:
        parts.append(sql.IS_RUN)
    if which.visible_only:
        parts.append(sql.IS_VISIBLE)
        values += (now_ms, now_ms)
    for condition, given in (
        (sql.HAS_PREFIX, None if which.prefix is None else bounds_of(which.prefix)),
        (sql.HAS_HEADER, None if which.header is None else _places_of(*which.header)),
        (sql.HAS_ERROR, None if which.failed_with is None else (storable_error(which.failed_with),)),
        (sql.IS_SINCE, None if which.since_ms is None else (which.since_ms,)),
        (sql.IS_BEFORE, None if which.until_ms is None else (which.until_ms,)),
        (sql.HAS_ENDED_BY, None if which.ended_for_ms is None else (now_ms - which.ended_for_ms,)),
    ):
        if given is not None:
            parts.append(condition)
            values += given
    if which.failed_with is not None and which.verdict is not Verdict.FAILED:
        parts.append(sql.HAS_VERDICT[Verdict.FAILED])
    return " ".join(parts), values


def bounds_of(prefix: str) -> tuple[str, str]:
    """Return the bounds of the names that begin so."""
    return prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1)


def _places_of(name: str, value: str) -> tuple[str, str]:
    """Return how headers look where one of that name and value comes first, or after another.

    A quote inside of a name or a value is escaped, so neither can stand in the middle of one.
    """
    member = encode_headers({name: value})[1:-1]
    return "{" + member, "," + member


def may_be_cancelling(which: Filter) -> bool:
    """Whether only rows are wanted that were asked to stop and have not ended."""
    is_active = which.is_active or which.is_waiting or (which.status is not None and not which.status.is_finished)
    return which.cancel_requested is True and is_active
