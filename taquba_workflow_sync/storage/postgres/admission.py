"""Whether a server is one that a store can live on, as this role: asked once, when a store is opened."""

from __future__ import annotations

from contextlib import closing
from typing import Final, NamedTuple

from taquba_workflow_sync.errors import StoreAccessError
from taquba_workflow_sync.storage.postgres.address import Address
from taquba_workflow_sync.storage.postgres.connections import Connections
from taquba_workflow_sync.storage.postgres.errors import POOLED
from taquba_workflow_sync.storage.postgres.sessions import Session

_LEAST_VERSION: Final = 140000
_DOCS: Final = "docs/fleet/operating.md"
_FACTS: Final = """SELECT pg_backend_pid(), current_setting('server_version_num')::int,
    current_setting('server_encoding'), pg_is_in_recovery(), current_setting('transaction_read_only') = 'on',
    current_user, current_database()"""
#: Each right is asked for by itself: of a list of them, one would do.
_LACKING: Final = """SELECT c.relname FROM pg_catalog.pg_class AS c
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = ? AND CASE c.relkind
        WHEN 'r' THEN NOT (has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
            AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE'))
        WHEN 'S' THEN NOT has_sequence_privilege(c.oid, 'USAGE') ELSE FALSE END
    ORDER BY c.relname"""


class Facts(NamedTuple):
    """What a server says of itself and of a session on it."""

    backend_pid: int
    version: int
    encoding: str
    is_replica: bool
    is_read_only: bool
    role: str
    database: str


def admit(session: Session, address: Address) -> Facts:
    """Check that a store can live where a session leads.

    Raises:
        StoreAccessError: why it cannot.
        psycopg.Error: it cannot be asked.
    """
    facts = Facts(*session.run(_FACTS)[0])
    why = _refusal(facts)
    if why is None and address.direct_dsn is None and is_pooled(session, facts.backend_pid):
        why = POOLED
    if why is not None:
        raise StoreAccessError(f"cannot open the store {address.shown}: {why}")
    return facts


def is_pooled(session: Session, backend_pid: int) -> bool:
    """Whether the server process that a session was greeted by is another one than that which answers."""
    return session.raw.info.backend_pid != backend_pid


def _refusal(facts: Facts) -> str | None:
    if facts.version < _LEAST_VERSION:
        return f"the server is PostgreSQL {facts.version // 10000}; 14 is the least that will do: upgrade it"
    if facts.encoding != "UTF8":
        return (
            f"the database {facts.database!r} has the encoding {facts.encoding}, which cannot hold every text; make one"
            " with CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
        )
    if facts.is_replica:
        return "the server is a read-only replica; give the address of the primary (target_session_attrs=read-write)"
    if facts.is_read_only:
        return (
            f"sessions of role {facts.role!r} in database {facts.database!r} are read-only; set"
            " default_transaction_read_only to off for them"
        )
    return None


def admit_directly(connections: Connections, store_id: str) -> None:
    """Check that the address past the pooler leads to the same store, and through no other pooler.

    Raises:
        StoreAccessError: it does not.
        psycopg.Error: the server cannot be reached there.
    """
    address = connections.address
    if address.direct_dsn is None:
        return
    with closing(connections.open("direct")) as session:
        facts = Facts(*session.run(_FACTS)[0])
        why = None
        if is_pooled(session, facts.backend_pid):
            why = "leads through a pooler, too"
        else:
            (there,) = session.execute("SELECT to_regclass(?) IS NOT NULL", (f'"{address.schema}".store',)).fetchall()[
                0
            ]
            found = session.run(f'SELECT id FROM "{address.schema}".store') if there else []
            if found != [(store_id,)]:
                why = f"leads to another store, in database {facts.database!r}"
    if why is not None:
        text = f"cannot open the store {address.shown}: liveness_dsn {why}; it must be the address of the server itself"
        raise StoreAccessError(text)


def check_rights(session: Session, address: Address, facts: Facts) -> None:
    """Check that the role may do with the store's tables what a worker does.

    Raises:
        StoreAccessError: it may not; says what to grant.
        psycopg.Error: it cannot be asked.
    """
    lacking = [name for (name,) in session.execute(_LACKING, (address.schema,)).fetchall()]
    if lacking:
        shown = ", ".join(lacking[:5]) + (f" and {len(lacking) - 5} more" if len(lacking) > 5 else "")
        raise StoreAccessError(f"cannot open the store {address.shown}: {what_to_grant(facts, address.schema, shown)}")


def what_to_grant(facts: Facts, schema: str, lacking: str) -> str:
    """Return what to tell of rights that a role lacks."""
    return (
        f"role {facts.role!r} may not work with {lacking} of schema {schema!r} in database {facts.database!r}; have"
        f" their owner GRANT USAGE ON SCHEMA, SELECT, INSERT, UPDATE, DELETE ON ALL TABLES and USAGE ON ALL SEQUENCES"
        f" ({_DOCS})"
    )
