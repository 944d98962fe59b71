"""The script of the features: processes as those of ``scenario.py`` whose calls and steps use what a run can do.

Run as ``python -m tests.faults.power.features STORE LOG ...``.
"""

from __future__ import annotations

import argparse
import random
import threading
import time

from taquba_workflow_sync import WorkflowRuntime
from tests.faults.features.client import FeatureClient
from tests.faults.features.rules import check_features
from tests.faults.features.runner import FeatureRunner, feature_hook
from tests.faults.features.storm import clear_up, prepare
from tests.faults.lab import open_queue
from tests.faults.power.scenario import MarkingJournal, arguments
from tests.faults.power.script import Script
from tests.support import PATIENCE

#: Signals come or do not: no run waits for long.
_PATIENCE_OF_RUNS = ":0.1"
_FIRES_FOR = 1.5

FEATURES = Script("tests.faults.power.features", FeatureRunner, feature_hook, clear_up, check_features)


def run(options: argparse.Namespace) -> None:
    journal = MarkingJournal(options.log)
    chance = random.Random(f"{options.seed}-{options.name}")
    journal.note("opening")
    with open_queue(
        options.store, durability=options.durability, checkpoint_bytes=options.checkpoint, lease_duration=0.5
    ) as queue:
        journal.note("opened")
        prepare(queue, journal, fires_for=_FIRES_FOR)

        def act(client: FeatureClient) -> None:
            client.begin()
            for _ in range(2 * options.runs):
                client.act()

        with WorkflowRuntime(queue, FeatureRunner(journal), feature_hook(journal), max_concurrent_steps=4):
            threads = []
            for index in range(options.threads):
                name = f"{options.name}-{index}"
                client = FeatureClient(queue, journal, name, random.Random(chance.random()), _PATIENCE_OF_RUNS)
                threads.append(threading.Thread(target=act, args=(client,)))
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            deadline = time.monotonic() + PATIENCE
            while any(each.pending + each.scheduled + each.claimed for each in queue.handle.store.counts().values()):
                assert time.monotonic() < deadline, f"never idle: {queue.handle.store.counts()}"
                clear_up(queue)
                time.sleep(0.01)
        journal.note("closing")
    journal.note("closed")


if __name__ == "__main__":
    run(arguments())
