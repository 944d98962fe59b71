"""The schema of a store in PostgreSQL: made under a lock, one commit, by whoever opens it first."""

from __future__ import annotations

import uuid
from typing import Final

from taquba_workflow_sync.errors import SchemaVersionError
from taquba_workflow_sync.storage.postgres.address import Address
from taquba_workflow_sync.storage.postgres.dialect import definition
from taquba_workflow_sync.storage.postgres.moved import refuse_if_closed
from taquba_workflow_sync.storage.postgres.sessions import Session
from taquba_workflow_sync.storage.relational import sql

#: The version of the tables here, and the least that a program must know to work on them.
VERSION: Final = 1
MIN_READER: Final = 1

_OWN: Final = (
    f'CREATE TABLE {sql.GRAPH} (queue TEXT COLLATE "C" PRIMARY KEY, graph TEXT NOT NULL)',
    # Who has the store open: ``lock_key`` is of the advisory lock that the owner's liveness session holds.
    """CREATE TABLE taquba_live (
        owner TEXT COLLATE "C" PRIMARY KEY,
        lock_key BIGINT NOT NULL,
        host TEXT NOT NULL,
        pid BIGINT NOT NULL,
        is_exclusive BOOLEAN NOT NULL DEFAULT FALSE,
        state TEXT NOT NULL DEFAULT 'live'
    )""",
    "CREATE SEQUENCE taquba_live_key",
    """CREATE TABLE store (
        one BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (one),
        version INTEGER NOT NULL,
        min_reader INTEGER NOT NULL,
        id TEXT NOT NULL
    )""",
)


def prepare(session: Session, address: Address, *, migrate: bool = True) -> str:
    """Leave the schema as this version has it; returns the store's id.

    Raises:
        SchemaVersionError: there is no schema and it is not to be made, or only newer programs may work on it.
        StoreMovedError: it was moved elsewhere.
        psycopg.Error: the rights are missing.
    """
    found = _version(session, address)
    if found is None:
        if not migrate:
            raise SchemaVersionError(
                f"{address.shown} has no schema {address.schema!r} of a store; open it with migrate=True, or make it"
                " with the command line as a role that may"
            )
        _make(session, address)
        found = _version(session, address)
        assert found is not None
    version, min_reader, id = found
    if min_reader > VERSION:
        raise SchemaVersionError(
            f"{address.shown} has schema version {version}, which only programs that know version {min_reader} may"
            f" work on; this is version {VERSION}: upgrade taquba-workflow-sync"
        )
    refuse_if_closed(session, address)
    return id


def is_there(session: Session, address: Address) -> bool:
    """Whether there is a store's schema."""
    return _version(session, address) is not None


def _version(session: Session, address: Address) -> tuple[int, int, str] | None:
    (there,) = session.execute("SELECT to_regclass(?) IS NOT NULL", (f'"{address.schema}".store',)).fetchall()[0]
    if not there:
        return None
    rows = session.execute(f'SELECT version, min_reader, id FROM "{address.schema}".store').fetchall()
    return None if not rows else (rows[0][0], rows[0][1], rows[0][2])


def _make(session: Session, address: Address) -> None:
    session.run("BEGIN")
    try:
        session.execute("SELECT pg_advisory_xact_lock(?)", (address.key("schema"),))
        if _version(session, address) is None:
            session.run(f'CREATE SCHEMA IF NOT EXISTS "{address.schema}"; SET LOCAL search_path = "{address.schema}"')
            session.run(";".join(text for text in (*map(definition, sql.SCHEMA), *_OWN) if text is not None))
            session.execute("INSERT INTO taquba_meta (key, value) VALUES ('next_seq', 1), ('commits', 0)")
            session.execute(
                f'INSERT INTO "{address.schema}".store (version, min_reader, id) VALUES (?, ?, ?)',
                (VERSION, MIN_READER, uuid.uuid4().hex),
            )
        session.run("COMMIT")
    except BaseException:
        if session.in_transaction:
            session.run("ROLLBACK")
        raise
