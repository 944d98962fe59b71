"""Who lives: a lock that can be taken proves death, a lock that is held proves life, a missing file proves nothing."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from taquba_workflow_sync.storage.embedded.owners import Owner, is_alive
from taquba_workflow_sync.storage.port.settlement import Ack
from taquba_workflow_sync.storage.relational.presence import Evidence
from tests.storage.bench import claim, claims, job, owner_of, put, put_one, refusal

from .conftest import OpenEmbedded
from .holder import HOLD, lock_files
from .raw import Child

# Death


def test_a_living_owner_is_not_dead_and_a_killed_one_is_at_once(open_embedded: OpenEmbedded, root: Path) -> None:
    store = open_embedded()
    put_one(store)
    with Child(HOLD, root, "claim") as child:
        owner = child.read()
        assert owner.startswith(f"{child.process.pid}-")
        assert store.abandoned_claims() == Evidence()
        child.kill()
        abandoned = store.abandoned_claims()
        assert abandoned == Evidence(owners=frozenset({owner}))
        (again,) = claims(store, abandoned=abandoned)
        assert again.attempts == 2


def test_an_owner_that_closed_with_claims_left_is_dead(open_embedded: OpenEmbedded, root: Path) -> None:
    store = open_embedded()
    put_one(store)
    with Child(HOLD, root, "claim") as child:
        owner = child.read()
        child.tell()
        assert child.read() == "closed"
        assert owner in lock_files(root), "the file stays while claims name its owner"
        assert store.abandoned_claims().owners == {owner}


def test_another_handle_of_this_process_lives_and_dies_alike(open_embedded: OpenEmbedded) -> None:
    store, other = open_embedded(), open_embedded()
    put_one(store)
    claim(other)
    owner = owner_of(other)
    assert store.abandoned_claims() == Evidence()
    other.close()
    assert store.abandoned_claims().owners == {owner}


def test_a_handle_never_finds_itself_dead(open_embedded: OpenEmbedded) -> None:
    store = open_embedded()
    put_one(store)
    claim(store)
    assert store.abandoned_claims() == Evidence()


def test_a_missing_lock_file_proves_nothing_and_is_not_created(open_embedded: OpenEmbedded, root: Path) -> None:
    store, other = open_embedded(), open_embedded()
    put_one(store)
    claim(other)
    owner = owner_of(other)
    (root / "owners" / f"{owner}.lock").unlink()
    assert store.abandoned_claims() == Evidence()
    assert owner not in lock_files(root)


def test_a_link_in_place_of_a_lock_file_proves_nothing(open_embedded: OpenEmbedded, root: Path, tmp_path: Path) -> None:
    store, other = open_embedded(), open_embedded()
    put_one(store)
    claim(other)
    file = root / "owners" / f"{owner_of(other)}.lock"
    file.unlink()
    file.symlink_to(tmp_path / "free")
    (tmp_path / "free").touch()
    assert store.abandoned_claims() == Evidence()


def test_probing_does_not_take_a_lock_away(open_embedded: OpenEmbedded) -> None:
    first, second, third = (open_embedded() for _ in range(3))
    put(first, job(), job())
    claim(second)
    claim(third)
    for _ in range(20):
        assert first.abandoned_claims() == second.abandoned_claims() == third.abandoned_claims() == Evidence()


# Cleaning


def test_only_the_locks_of_the_dead_without_claims_are_cleaned(me: Owner, alive: Owner, owners: Path) -> None:
    bare_dead, busy_dead = Owner(owners, is_exclusive=False), Owner(owners, is_exclusive=False)
    for each in (bare_dead, busy_dead):
        each.take()
        each.leave(has_claims=True)
    asked: list[str] = []

    def has_claims(owner: str) -> bool:
        asked.append(owner)
        return owner == busy_dead.id

    me.clean(has_claims)
    assert {each.stem for each in owners.iterdir()} == {me.id, alive.id, busy_dead.id}
    assert set(asked) == {bare_dead.id, busy_dead.id}, "the living are not asked about"


def test_a_lock_is_cleaned_only_while_it_is_held_and_not_held_while_claims_are_looked_for(
    me: Owner, owners: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held longer than need be, it would make the dead look alive to others who probe."""
    dead = Owner(owners, is_exclusive=False)
    dead.take()
    dead.leave(has_claims=True)
    seen: list[tuple[str, bool | None]] = []
    unlink = Path.unlink

    def look(when: str) -> None:
        seen.append((when, is_alive(owners, dead.id)))

    def unlink_seen(path: Path, missing_ok: bool = False) -> None:
        look("unlink")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink_seen)
    me.clean(lambda _: bool(look("has claims")))
    assert seen == [("has claims", False), ("unlink", True)]


def test_an_open_clears_away_the_lock_of_a_killed_process(open_embedded: OpenEmbedded, root: Path) -> None:
    with Child(HOLD, root) as child:
        owner = child.read()
        child.kill()
    assert owner in lock_files(root)
    store = open_embedded()
    assert lock_files(root) == {store._lifecycle.owner.id}


def test_an_open_keeps_the_lock_of_a_killed_process_with_claims(open_embedded: OpenEmbedded, root: Path) -> None:
    first = open_embedded()
    put_one(first)
    with Child(HOLD, root, "claim") as child:
        owner = child.read()
        child.kill()
    store = open_embedded()
    assert owner in lock_files(root)
    assert store.abandoned_claims().owners == {owner}


def test_a_close_leaves_no_lock_file_behind(open_embedded: OpenEmbedded, root: Path) -> None:
    store = open_embedded()
    assert len(lock_files(root)) == 1
    store.close()
    assert lock_files(root) == set()


def test_a_settled_claim_does_not_keep_the_lock_file(open_embedded: OpenEmbedded, root: Path) -> None:
    store = open_embedded()
    put_one(store)
    assert refusal(store, claim(store), Ack()) is None
    store.close()
    assert lock_files(root) == set()


def test_lock_files_are_private(open_embedded: OpenEmbedded, root: Path) -> None:
    before = os.umask(0)
    try:
        open_embedded()
    finally:
        os.umask(before)
    for file in [*(root / "owners").iterdir(), root / "open.lock"]:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_ids_of_owners_are_never_used_again(owners: Path) -> None:
    assert len({Owner(owners, is_exclusive=False).id for _ in range(200)}) == 200
