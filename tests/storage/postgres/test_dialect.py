"""Every statement means something to the server, and what is said otherwise there is said by a rule that is needed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Final

import pytest

from taquba_workflow_sync.storage.port.store import OpenOptions
from taquba_workflow_sync.storage.postgres import dialect
from taquba_workflow_sync.storage.postgres.address import parsed
from taquba_workflow_sync.storage.postgres.sessions import Session, connect
from taquba_workflow_sync.storage.postgres.store import open_store
from taquba_workflow_sync.storage.relational import sql
from tests.postgres import store_url

#: What only SQLite is asked: repairs, upgrades of its files, and what is no statement.
_ONLY_SQLITE: Final = {
    "DOOR", "DROP_STRANGE_ATTEMPTS", "IN_REACH", "TO_VERSION_2", "TO_VERSION_3", "TO_VERSION_4", "SCHEMA_TEXTS",
    "TABLES", "INTEGRITY", "MAKE_GRAPHS", "HAS_MOVE",
}  # fmt: skip
_WIDTHS: Final = {
    "ADVANCE_HISTORY": sql.ADVANCE_MANY_VALUES,
    "ADVANCE_MANY": sql.ADVANCE_MANY_VALUES,
    "FINISH_HISTORY": sql.FINISH_MANY_VALUES,
    "FINISH_MANY": sql.FINISH_MANY_VALUES,
    "HOLD": sql.HOLD_VALUES,
    "HOLD_HISTORY": sql.HOLD_VALUES,
    "RENAME_MANY": sql.RENAME_VALUES,
}
_STATEMENT: Final = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, tuple):
        for each in value:
            yield from _texts(each)


def _statements() -> Iterator[tuple[str, str]]:
    for name in dir(sql):
        if name.startswith(("_", "SCHEMA")) or name in _ONLY_SQLITE:
            continue
        for text in _texts(getattr(sql, name)):
            if _STATEMENT.match(text):
                yield name, text


def _filled(name: str, text: str) -> str:
    """Put something in where a statement is made for a number of rows, or narrowed."""
    if name in _WIDTHS:
        row = f"({','.join('?' * _WIDTHS[name])})"
        text = text.replace("{values}", f"{row},{row}")
    return re.sub(r"\{(ids|seqs|tokens)\}", "?,?", text).replace("{index}", "").replace("{where}", "")


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    url = store_url()
    open_store(url, OpenOptions()).close()
    where = parsed(url)
    with closing(connect(where.dsn, where.schema)) as session:
        session.execute(sql.MAKE_MOVE)  # which is made when there is something to note
        yield session


@pytest.mark.parametrize(("name", "text"), list(_statements()), ids=lambda value: value if value.isupper() else "")
def test_the_server_prepares_each_statement(session: Session, name: str, text: str) -> None:
    """Whatever it is prepared for: an unknown column, function or type would be found out here."""
    session.run(f"PREPARE one AS {dialect.translated(_filled(name, text), session.schema)}")
    session.run("DEALLOCATE one")


def test_there_are_statements_to_be_prepared() -> None:
    assert len(list(_statements())) > 300
