"""Something between a worker and the server goes on answering for it: only the worker's own beats can tell."""

from __future__ import annotations

from contextlib import closing

import psycopg
import pytest

from taquba_workflow_sync.errors import StorageError
from taquba_workflow_sync.storage.postgres import liveness
from taquba_workflow_sync.storage.postgres.address import parsed
from taquba_workflow_sync.storage.postgres.store import PostgresStore
from tests.faults.server.proxy import Proxy
from tests.postgres import server_url, store_url
from tests.support import in_thread, wait_until


def test_calls_that_wait_for_a_server_that_never_answers_fail_and_the_store_opens_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(liveness, "UNANSWERED_S", 0.5)
    with psycopg.connect(server_url()) as connection:
        ((port,),) = connection.execute("SHOW port").fetchall()
    schema = store_url().rpartition("schema=")[2]
    with (
        closing(Proxy("127.0.0.1", int(port))) as proxy,
        closing(PostgresStore(parsed(proxy.url(schema=schema)))) as store,
    ):
        owner = store._life.owner_id
        assert store.beat(5.0)
        proxy.partition()
        waits = in_thread(store.counts)

        def has_lost_patience() -> bool:
            store.beat(0.2)
            return not store._life._liveness.has_session

        wait_until(has_lost_patience, "the end of its patience")
        with pytest.raises(StorageError):
            waits()
        proxy.heal()
        wait_until(lambda: store.beat(1.0), "an answer")
        assert store.counts() == {}
        assert store._life.owner_id == owner, "nobody has declared it dead meanwhile"
