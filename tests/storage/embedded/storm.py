"""A storm: what a signal handler raises at random instants of the main thread's submits, beside three other threads.

``python -m tests.storage.embedded.storm STORE SECONDS`` prints one line of figures as JSON. A caller that waits for
longer than the limit ends the program with status 3.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from taquba_workflow_sync.storage.embedded.store import EmbeddedStore
from taquba_workflow_sync.storage.port.job import NewJob
from taquba_workflow_sync.storage.port.reads import Filter
from taquba_workflow_sync.storage.port.store import OpenOptions
from tests.interruptions import Interruption, Limit, Storm

QUEUE = "a"
STALL_S = 20.0
ALL = 1_000_000
#: A storm of less proves nothing; on a busy machine it takes longer than it was told.
LEAST = 60
LONGEST_S = 80.0


class Callers:
    """Threads that submit, one id after the other, and what they were told."""

    def __init__(self, store: EmbeddedStore) -> None:
        self.store = store
        self.is_over = False
        self.acknowledged: list[str] = []
        self.errors: list[str] = []
        self.began: dict[str, float] = {}

    def submit(self, name: str, number: int) -> None:
        job_id = f"{name}-{number}"
        self.began[name] = time.monotonic()
        try:
            self.store.insert([NewJob(job_id, QUEUE, b"x")])
            self.acknowledged.append(job_id)
        finally:
            self.began.pop(name, None)

    def work(self, name: str) -> None:
        number = 0
        while not self.is_over:
            number += 1
            try:
                self.submit(name, number)
            except BaseException as error:
                self.errors.append(f"{name}: {error!r}")

    def watch(self) -> None:
        while not self.is_over:
            for name, began in list(self.began.items()):
                if time.monotonic() - began > STALL_S:
                    print(f"{name} was never answered", flush=True)
                    os._exit(3)
            threading.Event().wait(0.2)


def main(place: str, seconds: float) -> dict[str, Any]:
    store = EmbeddedStore(Path(place), OpenOptions())
    callers, storm = Callers(store), Storm(1)
    store.insert([NewJob("first", QUEUE, b"x")])
    threads = [threading.Thread(target=callers.work, args=(f"t{n}",), daemon=True) for n in range(3)]
    threads.append(threading.Thread(target=callers.watch, daemon=True))
    for thread in threads:
        thread.start()
    began = time.monotonic()
    number = raised = 0
    others: list[str] = []
    while (lasted := time.monotonic() - began) < LONGEST_S and (
        lasted < seconds or min(raised, len(callers.acknowledged)) < LEAST
    ):
        number += 1
        match storm.strikes(lambda: callers.submit("main", number)):  # noqa: B023
            case None:
                pass
            case Limit() | Interruption():
                raised += 1
            case error:
                others.append(repr(error))
    callers.is_over = True
    for thread in threads:
        thread.join(STALL_S)
    store.insert([NewJob("last", QUEUE, b"x")])
    stored = [row.id for row in store.page(QUEUE, Filter(), ALL, None).rows]
    store.close()
    return {
        "hits": storm.hits,
        "raised": raised,
        "acknowledged": len(callers.acknowledged),
        "lost": sorted(set(callers.acknowledged) - set(stored))[:5],
        "doubled": len(stored) - len(set(stored)),
        "stuck": [thread.name for thread in threads if thread.is_alive()],
        "errors": callers.errors[:5],
        "others in main": others[:5],
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], float(sys.argv[2]))), flush=True)
