"""The proxy passes on what it is told to, and nothing else; the copy of a server's store is the store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from taquba_workflow_sync import Queue, RunSpec, WorkflowClient
from taquba_workflow_sync.storage.relational.sql.names import JOB
from tests.faults.checker import looking_at
from tests.faults.server.proxy import Fault, Proxy, What
from tests.postgres import server_url, store_url
from tests.support import await_event, in_thread

psycopg = pytest.importorskip("psycopg")


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with psycopg.connect(server_url()) as connection:
        ((port,),) = connection.execute("SHOW port").fetchall()
        ((addresses,),) = connection.execute("SHOW listen_addresses").fetchall()
    if not addresses:
        pytest.skip("the server listens on no port")
    with closing(Proxy("127.0.0.1", int(port))) as proxy:
        yield proxy


def _connected(proxy: Proxy) -> psycopg.Connection[tuple[int]]:
    return psycopg.connect(proxy.url(), autocommit=True)


def test_it_passes_everything_on(proxy: Proxy) -> None:
    with closing(_connected(proxy)) as connection:
        text = "x" * 1_000_000
        assert connection.execute("SELECT %s::text", (text,)).fetchall() == [(text,)]


@pytest.mark.parametrize("what", ["cut", "half-close"])
@pytest.mark.parametrize(("side", "number"), [("client", 0), ("server", 0), ("server", 1)])
def test_a_fault_comes_at_its_message(proxy: Proxy, what: What, side: str, number: int) -> None:
    with closing(_connected(proxy)) as connection:
        fault = proxy.add(Fault(what, side, number, armed_by=b"SELECT 2"))  # type: ignore[arg-type]
        assert connection.execute("SELECT 1").fetchall() == [(1,)]
        with pytest.raises(psycopg.OperationalError):
            connection.execute(b"SELECT 2")
        assert fault.done == 1
    with closing(_connected(proxy)) as connection:
        assert connection.execute("SELECT 2").fetchall() == [(2,)], "once"


def test_a_partition_keeps_what_comes_until_it_heals(proxy: Proxy) -> None:
    with closing(_connected(proxy)) as connection:
        proxy.partition()
        asked = in_thread(lambda: connection.execute("SELECT 1").fetchall())
        proxy.heal()
        assert asked() == [(1,)]


def test_a_delay_is_one(proxy: Proxy) -> None:
    with closing(_connected(proxy)) as connection:
        fault = proxy.add(Fault("delay", "server", armed_by=b"SELECT 1", delay_s=0.05))
        assert connection.execute(b"SELECT 1").fetchall() == [(1,)]
        await_event(fault.is_over)


def test_the_checkers_copy_is_what_the_server_has() -> None:
    url = store_url()
    with Queue.open(url) as queue:
        WorkflowClient(queue).submit(RunSpec(input=b"x" * 5_000, run_id="r", headers={"a": "b"}))
    with looking_at(url) as copy:
        (row,) = copy.execute(f"SELECT * FROM {JOB}").fetchall()
        assert (row["run_id"], row["status"]) == ("r", "pending")
