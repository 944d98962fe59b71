"""The one place that knows engines: an address is opened by the engine that it belongs to.

The engine is imported here, when a store is opened: importing the library stays fast, and what one engine needs is not
asked of who uses the other.
"""

from __future__ import annotations

import os
import re
from typing import Final, Protocol

from taquba_workflow_sync.storage.port.store import OpenOptions, Store

_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SERVERS: Final = ("postgresql", "postgres")


class _Engine(Protocol):
    """What an engine's module has."""

    def open_store(self, address: str, options: OpenOptions, /) -> Store: ...

    def is_store(self, address: str, /) -> bool: ...

    def restore_store(self, source: str, address: str, /) -> None: ...

    def shown(self, address: str, /) -> str: ...


class _Moves(Protocol):
    """What moves a store from one engine to the other."""

    def move(self, source: str, target: str, wait_s: float, /) -> int: ...

    def abort(self, source: str, target: str, /) -> None: ...


def is_url(address: str) -> bool:
    """Whether an address is a URL, and no directory.

    Raises:
        ValueError: it is one that belongs to no engine.
    """
    found = _URL.match(address)
    if found is None:
        return False
    if found[1] not in _SERVERS:
        raise ValueError(f"path is a URL of {found[1]!r}; a store is a directory, or a URL that begins postgresql://")
    return True


def _engine_of(address: str) -> _Engine:
    if not is_url(address):
        from taquba_workflow_sync.storage.embedded import store as embedded

        return embedded
    try:
        from taquba_workflow_sync.storage.postgres import store as postgres
    except ModuleNotFoundError as error:
        if error.name != "psycopg":
            raise
        text = "a store on PostgreSQL needs psycopg: pip install 'taquba-workflow-sync[postgres]'"
        raise ModuleNotFoundError(text, name="psycopg") from None
    return postgres


def open_store(address: str, options: OpenOptions) -> Store:
    """Open the store at ``address``, a directory or a URL."""
    return _engine_of(address).open_store(address, options)


def is_store(address: str) -> bool:
    """Whether a store is at ``address``; makes nothing."""
    return _engine_of(address).is_store(address)


def restore(source: str, address: str) -> None:
    """Make a store at ``address`` of a backup."""
    _engine_of(address).restore_store(source, address)


def move(source: str, target: str, wait_s: float) -> int:
    """Move a store into an empty one of the other engine, or go on with that; return how many rows it has."""
    return _calls(source, target).move(source, target, wait_s)


def abort_move(source: str, target: str) -> None:
    """Undo a move that has not come to its end."""
    _calls(source, target).abort(source, target)


def _calls(source: str, target: str) -> _Moves:
    if is_url(source) == is_url(target):
        raise ValueError(
            "source and target are of one kind; one is a directory, the other a URL that begins postgresql://"
        )
    for address in (source, target):
        _engine_of(address)  # or what it needs is not installed
    from taquba_workflow_sync.storage.moving import calls

    return calls


def shown(address: str) -> str:
    """Return an address as it may be shown: absolute, without a password."""
    return _engine_of(address).shown(address) if is_url(address) else os.path.abspath(address)
