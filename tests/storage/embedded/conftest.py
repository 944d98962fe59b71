"""Stores of the embedded engine, made for real, and the directories they live in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol

import pytest

from taquba_workflow_sync.storage.embedded.owners import Owner
from taquba_workflow_sync.storage.embedded.store import EmbeddedStore
from taquba_workflow_sync.storage.port.store import OpenOptions

from .callers import Faults

_OPTIONS = {field.name for field in fields(OpenOptions)}


def open_at(root: Path, **options: Any) -> EmbeddedStore:
    """A handle on a directory: the port's options, and the engine's own, by name."""
    chosen = OpenOptions(**{name: value for name, value in options.items() if name in _OPTIONS})
    return EmbeddedStore(root, chosen, **{name: value for name, value in options.items() if name not in _OPTIONS})


class OpenEmbedded(Protocol):
    """Opens one more handle on the test's directory."""

    def __call__(self, **options: Any) -> EmbeddedStore: ...


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def open_embedded(root: Path) -> Iterator[OpenEmbedded]:
    opened: list[EmbeddedStore] = []

    def open_one(**options: Any) -> EmbeddedStore:
        opened.append(open_at(root, **options))
        return opened[-1]

    yield open_one
    for store in reversed(opened):
        store.close()


@pytest.fixture
def faults() -> Faults:
    """What fails, and where: nothing yet."""
    return Faults()


@pytest.fixture
def owners(tmp_path: Path) -> Path:
    """A directory of owner locks, without a store around it."""
    directory = tmp_path / "owners"
    directory.mkdir()
    return directory


def _living(owners: Path) -> Iterator[Owner]:
    owner = Owner(owners, is_exclusive=False)
    owner.take()
    yield owner
    owner.leave(has_claims=False)


@pytest.fixture
def me(owners: Path) -> Iterator[Owner]:
    yield from _living(owners)


@pytest.fixture
def alive(owners: Path) -> Iterator[Owner]:
    yield from _living(owners)
