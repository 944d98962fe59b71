"""What keeps a store on a server from being opened is told: who, where, and what to do; never a password."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from taquba_workflow_sync import (
    Queue,
    RunSpec,
    SchemaVersionError,
    StorageError,
    StoreAccessError,
    StoreInUseError,
    Succeed,
    TaqubaError,
    WorkflowClient,
    WorkflowRuntime,
)
from tests.postgres import Server, server_url, start, store_url
from tests.storage.postgres.pooler import pooled

PASSWORD = "s3cr3t-Pa%ss"
_QUOTED = "s3cr3t-Pa%25ss"
_ROWS = 40


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server that asks everybody but its owner for a password."""
    psycopg = pytest.importorskip("psycopg")
    directory = Path(tempfile.mkdtemp(prefix="taquba-pg-"))
    rules = ["local all all trust", "host all taquba 127.0.0.1/32 trust", "host all all 127.0.0.1/32 scram-sha-256"]
    (directory / "hba").write_text("\n".join(rules) + "\n")
    server = start({"hba_file": str(directory / "hba")}, directory=directory)
    if server is None:
        pytest.skip("no PostgreSQL here")
    with psycopg.connect(server.url, autocommit=True) as connection:
        for role in ("worker", "stranger", "reader"):
            connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
        connection.execute("ALTER ROLE reader SET default_transaction_read_only = on")
        connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    yield server
    server.stop()


def sql(server: Server, text: str) -> list[Any]:
    import psycopg

    with psycopg.connect(server.url, autocommit=True) as connection:
        found = connection.execute(text.encode())
        return found.fetchall() if found.description else []


def url(
    server: Server, role: str, schema: str = "opened", *, password: str = _QUOTED, database: str = "postgres"
) -> str:
    return f"postgresql://{role}:{password}@127.0.0.1:{server.port}/{database}?schema={schema}"


def refused(kind: type[Exception], open_it: Callable[[], Queue], caplog: pytest.LogCaptureFixture) -> str:
    """Return what is said of an open that fails; nothing of it has the password."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises(kind) as caught:
        open_it().close()
    assert type(caught.value) is kind
    told = [*_chain(caught.value), *traceback.format_exception(caught.value), caplog.text]
    for secret in (PASSWORD, _QUOTED, "s3cr3t"):
        assert not [each for each in told if secret in each]
    return str(caught.value)


def _chain(error: BaseException | None) -> Iterator[str]:
    """Everything that an error says of itself and of what it comes of, also of what its traceback leaves out."""
    while error is not None:
        yield from (str(error), repr(error), repr(error.args))
        error = error.__cause__ or error.__context__


def test_a_wrong_password_is_permanent_and_never_told(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    said = refused(StoreAccessError, lambda: Queue.open(url(server, "worker", password=f"{_QUOTED}2")), caplog)
    assert 'password authentication failed for user "worker"' in said
    assert f"postgresql://worker@127.0.0.1:{server.port}/postgres?schema=opened" in said
    with pytest.raises(TaqubaError) as caught:
        Queue.open(url(server, "worker", password="other"))
    assert caught.value.is_permanent


def test_a_database_or_a_role_that_is_not_there_is_permanent(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    missing = url(server, "taquba", database="nowhere")
    assert 'database "nowhere" does not exist' in refused(StoreAccessError, lambda: Queue.open(missing), caplog)
    nobody = f"postgresql://nobody@/postgres?host={server.directory}&port={server.port}"
    assert 'role "nobody" does not exist' in refused(StoreAccessError, lambda: Queue.open(nobody), caplog)


def test_a_server_that_is_away_is_a_transient_error_that_names_it(caplog: pytest.LogCaptureFixture) -> None:
    away = f"postgresql://worker:{_QUOTED}@127.0.0.1:1/postgres"
    said = refused(StorageError, lambda: Queue.open(away), caplog)
    assert "127.0.0.1" in said
    assert "port 1 " in said
    assert not StorageError.is_permanent


@pytest.mark.parametrize(
    ("address", "names"),
    [
        ("postgresql://u:s3cr3t%zz@h/db", "libpq"),
        ("postgresql://u:s3cr3t/x@h/db", "%2F"),
        ("postgresql://u:s3cr3t#x@h/db", "%23"),
        ("postgresql://u:s3cr3t@h:99999/db", "port"),
        ("postgresql://u:s3cr3t@[h/db", "cannot be read"),
        ("postgresql://u:s3cr3t@h/db#s3cr3t", "fragment"),
        ("postgresql://u@h/db?colour=1", "'colour'"),
        ("postgresql://u@h/db?password=a&s3cr3t=1", "unknown option"),
        ("postgresql://u:s3cr3t@h/db?schema=no-name", "'no-name'"),
        ("mysql://u:s3cr3t@h/db", "'mysql'"),
    ],
)
def test_what_is_no_url_of_a_store_is_a_value_error(address: str, names: str, caplog: pytest.LogCaptureFixture) -> None:
    assert names in refused(ValueError, lambda: Queue.open(address), caplog)
    if address.startswith("postgresql"):
        said = refused(ValueError, lambda: Queue.open("postgresql://h/db", liveness_dsn=address), caplog)
        assert "liveness_dsn" in said


def test_what_an_open_store_shows_has_no_password(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    from taquba_workflow_sync.contrib.flask.config import StoreConfig
    from taquba_workflow_sync.queue import opening
    from taquba_workflow_sync.storage.port.store import OpenOptions
    from taquba_workflow_sync.storage.postgres.address import parsed

    caplog.set_level(logging.DEBUG)
    address = url(server, "taquba", "shown_here")
    checked = opening.checked(
        address,
        default_config=None,
        queue_configs=None,
        durability="full",
        exclusive=False,
        max_payload_bytes=1,
        wait=None,
        clock=None,
        liveness_dsn=address,
    )
    with Queue.open(address) as queue:
        shown = [repr(queue), str(queue.path), queue.address, *map(str, queue.examine())]
        with pytest.raises(TypeError) as caught:
            queue.__reduce__()
        shown += [str(caught.value), repr(queue.handle), repr(checked), repr(OpenOptions(direct_address=address))]
        shown += [repr(parsed(address, address)), repr(StoreConfig(address, {"liveness_dsn": address}))]
    with pytest.raises(TaqubaError) as closed:
        queue.enqueue("q", b"")
    for each in (*shown, str(closed.value), caplog.text):
        assert "s3cr3t" not in each
    assert queue.address == f"postgresql://taquba@127.0.0.1:{server.port}/postgres?schema=shown_here"


def test_a_database_whose_encoding_is_not_utf8_is_refused(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    said = refused(StoreAccessError, lambda: Queue.open(url(server, "taquba", database="latin")), caplog)
    assert "'latin' has the encoding LATIN1" in said
    assert "ENCODING 'UTF8'" in said


def test_a_role_whose_sessions_are_read_only_is_refused(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    said = refused(StoreAccessError, lambda: Queue.open(url(server, "reader")), caplog)
    assert "role 'reader' in database 'postgres' are read-only" in said


def test_a_read_only_replica_is_refused(
    server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the server answers that is one; a real one is promoted elsewhere."""
    from taquba_workflow_sync.storage.postgres import admission

    as_replica = admission._FACTS.replace("pg_is_in_recovery()", "TRUE")
    monkeypatch.setattr(admission, "_FACTS", as_replica)
    assert "read-only replica" in refused(StoreAccessError, lambda: Queue.open(url(server, "taquba")), caplog)


def test_a_server_that_is_too_old_is_refused(
    server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from taquba_workflow_sync.storage.postgres import admission

    monkeypatch.setattr(
        admission, "_FACTS", admission._FACTS.replace("current_setting('server_version_num')", "'130009'")
    )
    assert "PostgreSQL 13; 14 is the least" in refused(
        StoreAccessError, lambda: Queue.open(url(server, "taquba")), caplog
    )


def test_a_role_that_may_make_no_schema_is_told_so(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    said = refused(StoreAccessError, lambda: Queue.open(url(server, "stranger", "not_made")), caplog)
    assert "permission denied for database postgres" in said
    assert "'stranger'" in said
    assert "taquba-workflow migrate" in said


def test_nothing_is_made_without_migrating(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    address = url(server, "taquba", "not_made")
    said = refused(SchemaVersionError, lambda: Queue.open(address, migrate=False), caplog)
    assert "'not_made'" in said
    assert not Queue.is_store(address)


def test_a_role_without_rights_on_the_schema_is_told_so(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    Queue.open(url(server, "taquba", "mine")).close()
    said = refused(StoreAccessError, lambda: Queue.open(url(server, "stranger", "mine")), caplog)
    assert "permission denied for schema mine" in said
    assert "docs/fleet/operating.md" in said
    sql(server, "GRANT USAGE ON SCHEMA mine TO stranger; GRANT SELECT ON ALL TABLES IN SCHEMA mine TO stranger")
    said = refused(StoreAccessError, lambda: Queue.open(url(server, "stranger", "mine")), caplog)
    assert "role 'stranger' may not work with " in said
    assert "of schema 'mine' in database 'postgres'" in said


def grants_of_docs() -> str:
    """The statements that docs/fleet/operating.md tells an operator to run for a worker's role."""
    text = (Path(__file__).parents[3] / "docs" / "fleet" / "operating.md").read_text()
    (block,) = [
        part.partition("```")[0] for part in text.split("```text\n")[1:] if "TO worker" in part.partition("```")[0]
    ]
    return block


def test_a_role_with_the_rights_of_the_docs_works_on_a_made_store(server: Server) -> None:
    Queue.open(url(server, "taquba", "taquba")).close()
    sql(server, grants_of_docs())
    for migrates in (True, False):
        with Queue.open(url(server, "worker", "taquba"), migrate=migrates) as queue:
            runtime = WorkflowRuntime(queue, lambda step: Succeed(b"done"))
            handle = WorkflowClient(queue).submit(RunSpec(input=b"x"))
            queue.kv.put("key", b"value")
            runtime.run_until_idle()
            assert handle.result() == b"done"
            assert queue.check().ok
            assert [each for each in queue.examine() if each.what == "PostgreSQL"]
            queue.purge("workflow", 0)


def test_a_store_of_a_newer_version_is_refused_and_one_that_others_may_read_is_not(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    address = url(server, "taquba", "newer")
    Queue.open(address).close()
    sql(server, "UPDATE newer.store SET version = 99, min_reader = 1")
    Queue.open(address).close()
    sql(server, "UPDATE newer.store SET min_reader = 98")
    said = refused(SchemaVersionError, lambda: Queue.open(address), caplog)
    assert "schema version 99" in said
    assert "version 98" in said
    assert "upgrade" in said


def test_the_holder_of_an_exclusive_store_is_named_by_host_and_pid() -> None:
    address = store_url()
    code = "import sys, taquba_workflow_sync as t; q = t.Queue.open(sys.argv[1], exclusive=True); print(0); input()"
    root = str(Path(__file__).parents[3])
    with subprocess.Popen(
        [sys.executable, "-uc", code, address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": root},
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline()
        with pytest.raises(StoreInUseError) as caught:
            Queue.open(address)
        holder.communicate(b"\n", 60)
    assert f"process {holder.pid} on {os.uname().nodename} as its only handle" in str(caught.value)
    Queue.open(address).close()


@pytest.mark.parametrize("mode", ["transaction", "session"])
@pytest.mark.parametrize("ignores_options", [False, True])
def test_a_pooler_is_refused_unless_the_server_itself_is_named(
    server: Server, mode: str, ignores_options: bool, caplog: pytest.LogCaptureFixture
) -> None:
    direct = f"{server.loopback_url}?schema=pooled_{mode}"
    with pooled(server, mode, ignores_options=ignores_options) as through:
        address = f"{through}?schema=pooled_{mode}"
        for given in (None, through):
            said = refused(StoreAccessError, lambda given=given: Queue.open(address, liveness_dsn=given), caplog)
            assert "pooler" in said
            assert "liveness_dsn" in said
        with Queue.open(address, liveness_dsn=direct) as queue:
            runtime = WorkflowRuntime(queue, lambda step: Succeed(step.payload.upper()))
            client = WorkflowClient(queue)
            handles = [client.submit(RunSpec(input=b"x%d" % number)) for number in range(_ROWS)]
            with runtime:
                assert [handle.result(timeout=60) for handle in handles] == [b"X%d" % each for each in range(_ROWS)]
            assert queue.check().ok


def test_a_direct_address_of_another_store_is_refused(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    sql(server, "CREATE DATABASE another")
    address, other = f"{server.loopback_url}?schema=one", f"postgresql://taquba@127.0.0.1:{server.port}/another"
    said = refused(StoreAccessError, lambda: Queue.open(address, liveness_dsn=other), caplog)
    assert "another store, in database 'another'" in said
    Queue.open(f"{other}?schema=one").close()
    assert "another store" in refused(StoreAccessError, lambda: Queue.open(address, liveness_dsn=other), caplog)
    said = refused(ValueError, lambda: Queue.open(address, liveness_dsn=f"{address}_other"), caplog)
    assert "'one_other'" in said


def test_a_temporary_store_is_a_schema_that_is_dropped() -> None:
    import psycopg

    base = server_url()
    with Queue.temporary(address=f"{base}{'&' if '?' in base else '?'}schema=begins") as queue:
        schema = queue.address.rpartition("schema=")[2]
        assert schema.startswith("begins_temporary_")
        queue.enqueue("q", b"x")
        child = os.fork()
        if child == 0:
            try:
                queue.close()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert queue.stats("q").pending == 1
    with psycopg.connect(base) as connection:
        assert connection.execute("SELECT to_regnamespace(%s)", (schema,)).fetchone() == (None,)
    with pytest.raises(TypeError):
        Queue.temporary(address=base, durability=1)
    with psycopg.connect(base) as connection:
        left = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE '%temporary%'").fetchall()
    assert left == []
