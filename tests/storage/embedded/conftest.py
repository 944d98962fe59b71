"""Stores of the embedded engine, made for real, and the directories they live in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from taquba_workflow_sync.storage.embedded.store import EmbeddedStore


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
        store = EmbeddedStore(root, **options)
        opened.append(store)
        return store

    yield open_one
    for store in reversed(opened):
        store.close()
