"""The one place that knows engines: an address is opened by the engine that it belongs to.

The engine is imported here, when a store is opened: importing the library stays fast.
"""

from __future__ import annotations

from taquba_workflow_sync.storage.port.store import OpenOptions, Store


def open_store(address: str, options: OpenOptions) -> Store:
    """Open the store at ``address``, a directory."""
    from taquba_workflow_sync.storage.embedded import store as embedded

    return embedded.open_store(address, options)


def is_store(address: str) -> bool:
    """Whether a store is at ``address``; makes nothing."""
    from taquba_workflow_sync.storage.embedded import store as embedded

    return embedded.is_store(address)


def restore(source: str, address: str) -> None:
    """Make a store at ``address`` of a backup."""
    from taquba_workflow_sync.storage.embedded import store as embedded

    embedded.restore_store(source, address)
