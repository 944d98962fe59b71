"""A store in a database that the test's own tables share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from taquba_workflow_sync import Queue, WorkflowClient
from taquba_workflow_sync.storage.postgres.address import parsed
from tests.postgres import store_url

psycopg = pytest.importorskip("psycopg")


@pytest.fixture
def url() -> str:
    return store_url()


@pytest.fixture
def queue(url: str) -> Iterator[Queue]:
    with Queue.open(url, durability="relaxed") as queue:
        yield queue


@pytest.fixture
def client(queue: Queue) -> WorkflowClient:
    return WorkflowClient(queue)


@pytest.fixture
def connect(url: str) -> Iterator[Callable[..., Any]]:
    """Open connections of the program's own, to the store's database; its table ``mine`` is empty."""
    opened: list[Any] = []

    def connect(**options: Any) -> Any:
        connection = psycopg.connect(parsed(url).dsn, **options)
        opened.append(connection)
        return connection

    with psycopg.connect(parsed(url).dsn, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS mine")
        connection.execute("CREATE TABLE mine (what TEXT)")
    yield connect
    for each in opened:
        each.close()


@pytest.fixture
def connection(connect: Callable[..., Any]) -> Any:
    return connect()


@pytest.fixture
def mine(connect: Callable[..., Any]) -> Callable[[], list[str]]:
    """What is committed in the program's own table."""
    looking = connect(autocommit=True)
    return lambda: [what for (what,) in looking.execute("SELECT what FROM mine ORDER BY what").fetchall()]
