"""Older stores brought to this version: each step one commit, in order, while nobody else has the store open."""

from __future__ import annotations

import logging
import sqlite3
from dataclasses import dataclass
from typing import Final

from taquba_workflow_sync.failpoints import Failpoint, between
from taquba_workflow_sync.storage.relational import sql

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Step:
    """What makes a store of the version before one of ``version``."""

    version: int
    statements: tuple[str, ...]


STEPS: Final = (Step(2, sql.TO_VERSION_2), Step(3, sql.TO_VERSION_3), Step(4, sql.TO_VERSION_4))


def migrate(connection: sqlite3.Connection, version: int, failpoint: Failpoint | None = None) -> None:
    """Take every step after ``version``; the caller holds the opening lock and has seen that nobody has it open.

    A step and the version that it leads to are one commit: killed at any instant, the store is of the one version or
    of the other, and the next open goes on from there.
    """
    for step in STEPS:
        if step.version > version:
            _take(connection, step, failpoint)
            _log.info("the store was upgraded to schema version %d", step.version)


def _take(connection: sqlite3.Connection, step: Step, failpoint: Failpoint | None) -> None:
    execute = between(failpoint, f"migrate-{step.version}", connection.execute)
    try:
        for statement in (sql.BEGIN, *step.statements):
            execute(statement)
        execute(sql.WRITE_META, ("schema", step.version))
        execute(sql.COMMIT)
    except BaseException:
        if connection.in_transaction:
            connection.execute(sql.ROLLBACK)
        raise
