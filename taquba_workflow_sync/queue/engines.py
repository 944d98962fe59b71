"""The one place that joins the queue to an engine."""

from __future__ import annotations

import os
from pathlib import Path

from taquba_workflow_sync.clock import Clock
from taquba_workflow_sync.queue.dispatch.running import RUNNING
from taquba_workflow_sync.storage.port.store import Store


def open_store(path: Path, *, durability: str, exclusive: bool, clock: Clock) -> Store:
    """Open the embedded store at ``path``.

    The engine is imported here, when a store is opened: importing the library stays fast.
    """
    from taquba_workflow_sync.storage.embedded.store import EmbeddedStore

    return EmbeddedStore(
        Path(os.path.abspath(path)),
        is_durable=durability == "full",
        is_exclusive=exclusive,
        clock=clock,
        running=RUNNING,
    )
