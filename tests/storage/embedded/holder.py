"""A process that holds a store open, with or without a claim, until it is told to close it or is killed."""

from __future__ import annotations

from pathlib import Path

HOLD = """
import sys
from pathlib import Path
from taquba_workflow_sync.storage.embedded.store import EmbeddedStore
from taquba_workflow_sync.storage.port.claim import ClaimRequest, LaneClaim
from taquba_workflow_sync.storage.port.store import OpenOptions
store = EmbeddedStore(Path(sys.argv[1]), OpenOptions(is_exclusive="exclusive" in sys.argv))
if "claim" in sys.argv:
    store.settle_and_claim([], [ClaimRequest((LaneClaim("steps", 30_000),), 1)])
print(store._lifecycle.owner.id, flush=True)
sys.stdin.readline()
store.close()
print("closed", flush=True)
"""


def lock_files(root: Path) -> set[str]:
    return {each.stem for each in (root / "owners").iterdir()}
