"""How a store is, and the server it lives on, told to an operator: read, and nothing done about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from taquba_workflow_sync.storage.port.finding import Finding
from taquba_workflow_sync.storage.postgres.schema import VERSION
from taquba_workflow_sync.storage.postgres.sessions import Session
from taquba_workflow_sync.storage.relational import reads
from taquba_workflow_sync.storage.relational.checking.findings import hooks

_SETTINGS: Final = """SELECT current_setting('server_version'), current_database(), current_user,
    current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit'),
    current_setting('autovacuum'), extract(epoch FROM current_setting('autovacuum_naptime')::interval)::float8,
    current_setting('max_connections')::int"""
#: Seconds since the oldest snapshot that keeps dead rows from being cleared away was taken, and who has it.
_OLDEST: Final = """SELECT extract(epoch FROM clock_timestamp() - a.xact_start)::float8, a.pid,
    coalesce(a.application_name, ''), a.state
    FROM pg_catalog.pg_stat_activity AS a
    WHERE a.datname = current_database() AND a.xact_start IS NOT NULL AND a.pid <> pg_backend_pid()
        AND (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL OR a.state LIKE 'idle in transaction%')
    ORDER BY a.xact_start LIMIT 1"""
_PREPARED: Final = """SELECT count(*) FROM pg_catalog.pg_prepared_xacts WHERE database = current_database()
    AND prepared < clock_timestamp() - interval '60 seconds'"""
_SLOTS: Final = """SELECT count(*) FROM pg_catalog.pg_replication_slots WHERE xmin IS NOT NULL AND NOT active"""
_SESSIONS: Final = """SELECT count(*) FILTER (WHERE application_name LIKE 'taquba %'), count(*)
    FROM pg_catalog.pg_stat_activity WHERE datname IS NOT NULL"""
_DEAD_ROWS: Final = """SELECT coalesce(sum(n_dead_tup), 0)::bigint, coalesce(sum(n_live_tup), 0)::bigint,
    pg_size_pretty(coalesce(sum(pg_total_relation_size(relid)), 0)) FROM pg_catalog.pg_stat_user_tables
    WHERE schemaname = ?"""
_VERSION: Final = 'SELECT version, min_reader FROM "{schema}".store'
_OWNERS: Final = "SELECT owner, host, pid FROM taquba_live ORDER BY host, pid"

_LONG_S: Final = 60.0
_NAPTIME_S: Final = 15.0
_MANY_DEAD: Final = 100_000
_NEARLY: Final = 0.8


def examine(session: Session, lives: Callable[[Session, str], bool | None], own: str) -> list[Finding]:
    """Return what was looked at, and what is to be done. ``lives``: whether an owner does; ``own``: who asks."""
    return [
        *_server(session),
        *_schema(session),
        *_sessions(session),
        *_transactions(session),
        *_dead_rows(session),
        *hooks(session),
        *_owners(session, lives, own),
    ]


def _server(session: Session) -> Iterator[Finding]:
    version, database, role, fsync, pages, commit, vacuums, naptime, _ = session.run(_SETTINGS)[0]
    yield Finding("PostgreSQL", f"{version}, database {database!r} as role {role!r}")
    wrong = []
    if fsync != "on":
        wrong.append("set fsync to on: a power cut may leave nothing that can be read")
    if pages != "on":
        wrong.append("set full_page_writes to on, unless the filesystem writes whole pages")
    if commit == "off":
        wrong.append("set synchronous_commit to on, or local: what was acknowledged may be lost")
    if vacuums != "on":
        wrong.append("set autovacuum to on: dead rows would slow down every claim")
    elif naptime > _NAPTIME_S:
        wrong.append(f"set autovacuum_naptime to {_NAPTIME_S:.0f}s (it is {naptime:.0f}s), or dead rows pile up")
    says = f"fsync {fsync}, full_page_writes {pages}, synchronous_commit {commit}, autovacuum {vacuums}"
    yield Finding("settings", f"{says} every {naptime:.0f} s", "; ".join(wrong) or None)


def _schema(session: Session) -> Iterator[Finding]:
    version, min_reader = session.run(_VERSION.format(schema=session.schema))[0]
    todo = "upgrade taquba-workflow-sync: others here are newer" if version > VERSION else None
    yield Finding("schema", f"{session.schema!r}, version {version}, for programs from {min_reader} on", todo)


def _sessions(session: Session) -> Iterator[Finding]:
    ours, everybodys = session.run(_SESSIONS)[0]
    most = session.run(_SETTINGS)[0][-1]
    todo = None
    if everybodys > _NEARLY * most:
        todo = "raise max_connections, run fewer processes, or put a pooler in between (docs/fleet/operating.md)"
    yield Finding("sessions", f"{ours} of this library's, {everybodys} of all, of {most} that there may be", todo)


def _transactions(session: Session) -> Iterator[Finding]:
    rows = session.run(_OLDEST)
    ((prepared,),), ((slots,),) = session.run(_PREPARED), session.run(_SLOTS)
    todo = []
    says = "none is open for long"
    if rows and rows[0][0] > _LONG_S:
        seconds, pid, application, state = rows[0]
        says = f"the oldest is open for {seconds:.0f} s, in server process {pid} ({application or 'unnamed'}, {state})"
        todo.append(f"end it, or SELECT pg_terminate_backend({pid}): dead rows cannot be cleared away beside it")
    if prepared:
        todo.append(f"end the {prepared} prepared transactions (pg_prepared_xacts)")
    if slots:
        todo.append(f"drop the {slots} replication slots that nobody uses (pg_replication_slots)")
    ((sees_all,),) = session.run("SELECT pg_has_role('pg_read_all_stats', 'USAGE')")
    of = "" if sees_all else "; of those that this role sees: GRANT pg_read_all_stats to it"
    yield Finding("transactions", f"{says}{of}", "; ".join(todo) or None)


def _dead_rows(session: Session) -> Iterator[Finding]:
    ((dead, living, size),) = session.execute(_DEAD_ROWS, (session.schema,)).fetchall()
    is_bloated = dead > _MANY_DEAD and dead > living
    todo = "see that autovacuum keeps up, and that no transaction stays open; VACUUM the schema's tables"
    yield Finding("dead rows", f"{dead} beside {living}, {size} in all", todo if is_bloated else None)


def _owners(session: Session, lives: Callable[[Session, str], bool | None], own: str) -> Iterator[Finding]:
    living, dead = [], []
    for owner, host, pid in session.execute(_OWNERS).fetchall():
        if owner == own:
            continue
        if lives(session, owner):
            living.append(f"{pid} on {host}")
        elif reads.has_claims(session, owner):
            dead.append(f"{pid} on {host}")
    told = f" (process {', '.join(living)})" if living else ""
    yield Finding("open elsewhere", f"{len(living)} handles{told}")
    if dead:
        todo = "start a worker of their queues, which takes them over"
        yield Finding("dead owners", f"{len(dead)} have left claims: process {', '.join(dead)}", todo)
    else:
        yield Finding("dead owners", "none has left claims")
