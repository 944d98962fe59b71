"""A storm: what a signal handler raises at random instants of the main thread's submits, beside three other threads.

``python -m tests.storage.embedded.storm STORE SECONDS`` prints one line of figures as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from taquba_workflow_sync.storage.embedded.store import EmbeddedStore
from taquba_workflow_sync.storage.port.job import NewJob
from taquba_workflow_sync.storage.port.reads import Filter
from taquba_workflow_sync.storage.port.store import OpenOptions
from tests.interruptions import Callers

_QUEUE = "a"
_ALL = 1_000_000


def main(place: str, seconds: float) -> dict[str, Any]:
    store = EmbeddedStore(Path(place), OpenOptions())

    def submit(name: str, number: int) -> str:
        job_id = f"{name}-{number}"
        store.insert([NewJob(job_id, _QUEUE, b"x")])
        return job_id

    store.insert([NewJob("first", _QUEUE, b"x")])
    callers = Callers(submit)
    figures = callers.weather(seconds)
    store.insert([NewJob("last", _QUEUE, b"x")])
    stored = [row.id for row in store.page(_QUEUE, Filter(), _ALL, None).rows]
    store.close()
    return figures | {
        "lost": sorted(set(callers.acknowledged) - set(stored))[:5],
        "doubled": len(stored) - len(set(stored)),
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], float(sys.argv[2]))), flush=True)
