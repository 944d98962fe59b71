"""A sound store in which every feature was used, and its log: what the tests of the rules doctor."""

from __future__ import annotations

import random
from pathlib import Path

from taquba_workflow_sync import WorkflowRuntime
from tests.faults.features.client import FeatureClient
from tests.faults.features.runner import FeatureRunner, feature_hook
from tests.faults.features.storm import clear_up, prepare
from tests.faults.features.view import look
from tests.faults.journal import Journal
from tests.faults.lab import open_queue
from tests.support import wait_until

RUNS = {
    "run-told": ("wait:told go", None),
    "run-add": ("add:raise cas add", None),
    "run-signals": ("wait:a wait:a go", None),
    "run-self": ("self tell:run-told fail self go", None),
    "run-fan": ("fan:3:collect go", None),
    "run-memo": ("memo:raise memo fail", None),
    "run-stuck": ("fail fan:2:collect go", None),
    "run-k": ("go go", "k-0"),
    "run-h": ("go", "h-0"),
    "run-i": ("go", "h-0"),
    **{f"run-r{number}": ("go", "r-0") for number in range(4)},
}
_FIRES_FOR = 1.5  # two moments


def build(directory: Path) -> None:
    """Make ``store`` and ``log`` there; nothing is left to do, and no process has died."""
    journal = Journal(directory / "log")
    with open_queue(directory / "store") as queue:
        prepare(queue, journal, fires_for=_FIRES_FOR)
        client = FeatureClient(queue, journal, "scene", random.Random(0))
        for run, (plan, key) in RUNS.items():
            client.submit(run, plan, key)
        for signal, name in (("s1", "a"), ("s2", "a"), ("s3", "b"), ("s1", "a")):
            client.send("run-signals", name, signal)
        client.submit_group("group-1", 2, "collect")
        client.commit("one")
        client.commit("one")
        runtime = WorkflowRuntime(queue, FeatureRunner(journal), feature_hook(journal))

        def has_fired() -> bool:
            runtime.run_until_idle(30, wait_for_scheduled=5)
            return len([run for run in look(directory / "store").by_run if run.startswith("all-allow-")]) == 2

        wait_until(has_fired, "two moments of a schedule")
        clear_up(queue)
    journal.close()
