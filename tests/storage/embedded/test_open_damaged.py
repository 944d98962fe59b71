"""A store with damaged pages: opening it works, or says that the database is damaged; never anything else."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from taquba_workflow_sync.errors import StorageError, TaqubaError
from taquba_workflow_sync.storage.embedded.store import EmbeddedStore
from taquba_workflow_sync.storage.port.notification import Subscription
from taquba_workflow_sync.storage.port.reads import Filter
from taquba_workflow_sync.storage.relational import sql
from tests.storage.bench import ACTIONS, LANE, QUEUE, claim, claims, put, put_one, run, settle

from .conftest import open_at
from .raw import raw

PAGE = 4096
AT_ONCE = 10
#: The last two damage the text of a CHECK, which SQLite then quotes in an error that cannot be decoded.
SEEDS = (*range(298), 2369, 2934)
_SAID = "its database is damaged: restore a backup"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small store with a row of everything."""
    root: Path = tmp_path_factory.mktemp("damaged") / "store"
    store = open_at(root)
    store.subscribe(QUEUE, Subscription(LANE, 3, None))
    for number, action in enumerate(ACTIONS.values()):
        put(store, run(f"run-{number}", b"x" * (5000 if number % 2 else 1), max_attempts=50))
        settle(store, claim(store), action)
    put(store, run("later", run_at_ms=10**14), run("held"), run("waits"))
    claim(store)
    store.close()
    return root


def damage(root: Path, seed: int) -> str:
    """Overwrite some bytes of some page: by noise, by zeros, by text that is no UTF-8, or flip single bits."""
    chance = random.Random(seed)
    database = root / "db" / "cache.db"
    data = bytearray(database.read_bytes())
    page = 0 if seed % 5 == 0 else chance.randrange(len(data) // PAGE)
    kind = chance.choice(["noise", "zeros", "no text", "bits", "shifted"])
    first = 100 if page == 0 and seed % 10 else 0
    start = page * PAGE + chance.randrange(first, PAGE - 8)
    length = min(chance.choice([1, 8, 64, 512, PAGE]), (page + 1) * PAGE - start)
    if kind == "noise":
        data[start : start + length] = chance.randbytes(length)
    elif kind == "zeros":
        data[start : start + length] = bytes(length)
    elif kind == "no text":
        data[start : start + length] = b"\xff" * length
    elif kind == "bits":
        for _ in range(8):
            data[chance.randrange(page * PAGE + first, (page + 1) * PAGE)] ^= 1 << chance.randrange(8)
    else:
        data[start : (page + 1) * PAGE] = data[start + 1 : (page + 1) * PAGE] + b"\0"
    database.write_bytes(data)
    return f"{kind} in page {page}"


@pytest.fixture
def damaged(whole: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[list[tuple[Path, str]]]:
    seeds = SEEDS[request.param * AT_ONCE :][:AT_ONCE]
    made = []
    for seed in seeds:
        root = tmp_path / str(seed)
        shutil.copytree(whole, root)
        made.append((root, f"seed {seed}: {damage(root, seed)}"))
    yield made


@pytest.mark.parametrize("damaged", range(len(SEEDS) // AT_ONCE), indirect=True)
def test_whatever_is_damaged_an_open_raises_storage_errors_only(damaged: list[tuple[Path, str]]) -> None:
    for root, what in damaged:
        store: EmbeddedStore | None = None
        try:
            store = open_at(root)
        except StorageError as error:
            assert "damaged" in str(error) or "schema version" in str(error), (what, error)
        except BaseException as error:
            pytest.fail(f"{what}: {error!r}")
        if store is not None:
            use(store, what)


def use(store: EmbeddedStore, what: str) -> None:
    """Do one of everything: each works, or fails as the library's errors do."""
    calls = [
        lambda: store.counts(),
        lambda: store.page(QUEUE, Filter(), 100, None),
        lambda: store.check(),
        lambda: claims(store),
        lambda: put_one(store),
        lambda: store.sweep(),
        lambda: store.abandoned_claims(),
        lambda: store.next_work(QUEUE),
        store.close,
    ]
    for call in calls:
        try:
            call()
        except TaqubaError:
            pass
        except BaseException as error:
            with suppress(TaqubaError):
                store.close()
            pytest.fail(f"{what}: {error!r}")


def test_a_version_that_is_no_number_is_damage(root: Path) -> None:
    open_at(root).close()
    with raw(root) as connection:
        connection.execute("UPDATE taquba_meta SET value = 'two' WHERE key = 'schema'")
    with pytest.raises(StorageError, match="its database is damaged; restore a backup"):
        open_at(root)


def test_tables_without_a_version_are_damage_and_are_not_made_anew(root: Path) -> None:
    """Made in one commit, they are there both or not at all: what lacks one was whole once."""
    store = open_at(root)
    put_one(store)
    store.close()
    with raw(root) as connection:
        connection.execute("DELETE FROM taquba_meta WHERE key = 'schema'")
        before = list(connection.iterdump())
        with pytest.raises(StorageError, match="damaged"):
            open_at(root)
        assert list(connection.iterdump()) == before


@pytest.mark.parametrize(
    "error",
    [UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), MemoryError(), TypeError("a key is None")],
    ids=repr,
)
def test_whatever_a_read_of_damaged_pages_raises_is_told_as_damage(
    root: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    from taquba_workflow_sync.storage.embedded import opening

    open_at(root).close()

    def read(_: sqlite3.Connection) -> bool:
        raise error

    monkeypatch.setattr(opening, "settings_hold", read)
    with pytest.raises(StorageError, match=r"cannot open the store") as raised:
        open_at(root)
    assert raised.value.__cause__ is error
    if not isinstance(error, MemoryError):
        assert _SAID in str(raised.value)


def test_a_job_whose_bytes_were_changed_is_damaged_and_no_other_answer(root: Path) -> None:
    store = open_at(root)
    ended, waiting, large = put(
        store, run("ended"), run("waiting", b"input", headers='{"a":"b"}'), run("large", b"x" * 5000)
    )
    settle(store, claim(store), ACTIONS["ack"])
    with raw(root) as connection:
        connection.execute(f"UPDATE {sql.JOB} SET result = x'00' WHERE id = ?", (ended,))
        connection.execute(f"""UPDATE {sql.JOB} SET headers = '{{"a":"c"}}' WHERE id = ?""", (waiting,))
        connection.execute(f"UPDATE {sql.OVERFLOW} SET data = CAST(data || x'00' AS BLOB)")
    row = store.get(ended)
    assert row is not None and row.result is None and "its result is not what was stored" in str(row.damage)
    row = store.get(waiting)
    assert row is not None and row.headers == "" and row.payload == b"input" and "its headers" in str(row.damage)
    row = store.get(large)
    assert row is not None and row.payload == b"" and "its payload is not what was stored" in str(row.damage)
    row = store.get(large, with_payload=False)
    assert row is not None and row.damage is None  # not looked at
    assert [held.damage is not None for held in claims(store)] == [True, True]
    store.close()
