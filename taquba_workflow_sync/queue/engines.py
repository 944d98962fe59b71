"""The one place that knows engines: an address is opened by the engine that it belongs to."""

from __future__ import annotations

from taquba_workflow_sync.storage.port.store import OpenOptions, Store


def open_store(address: str, options: OpenOptions) -> Store:
    """Open the store at ``address``, a directory.

    The engine is imported here, when a store is opened: importing the library stays fast.
    """
    from taquba_workflow_sync.storage.embedded import store as embedded

    return embedded.open_store(address, options)
