"""How soon another runs what a worker ran that is gone: ``python -m tests.faults.server.takeover HOW DIR ROUNDS``.

``killed``: kill -9 of the process. ``vanished``: its host is gone, so nobody ends its connections; that is brought
about in a network namespace of this process's own, where the worker's address of the loopback leads nowhere any more.
Prints the seconds of each round, and last those that it took the server to see it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from taquba_workflow_sync import WorkflowClient
from taquba_workflow_sync.storage.postgres.observing import AFTER_START_S
from tests.faults.journal import Event, Journal, read
from tests.faults.lab import open_queue, register_hook, submit
from tests.faults.server.scene import DURABLE
from tests.postgres import start
from tests.processes.harness import Child
from tests.support import PATIENCE, wait_until

#: Where the worker that vanishes reaches the server; both ends of such a link have that address.
_ITS_ADDRESS: Final = "127.0.0.2"


def _begun(journal: Journal, run: str, attempt: int) -> list[Event]:
    wanted = {"event": "begin", "run": run, "attempt": attempt}
    return [each for each in read(journal.path) if wanted.items() <= each.items()]


def measure(how: str, directory: Path, rounds: int) -> list[float]:
    """Return how long each takeover took, from the fault to the step's next beginning, in seconds."""
    directory.mkdir(parents=True, exist_ok=True)
    server = start(DURABLE | {"listen_addresses": f"127.0.0.1,{_ITS_ADDRESS}"})
    assert server is not None
    children: list[Child] = []
    journal = Journal(directory / "log")
    url = f"{server.loopback_url}?sslmode=disable&gssencmode=disable&schema=takeover"
    its_url = url.replace("127.0.0.1", _ITS_ADDRESS)

    def worker(where: str) -> Child:
        child = Child(
            "tests.faults.lab",
            ["worker", where, journal.path, "--poll", 0.25],
            errors=directory / f"stderr-{len(children)}",
        )
        children.append(child)
        child.hear("ready", 3 * PATIENCE)
        return child

    took = []
    try:
        began = time.monotonic()
        with open_queue(url) as queue:
            register_hook(queue, journal)
            client = WorkflowClient(queue)
            for number in range(rounds):
                victim = worker(its_url)
                run = f"run-{number}"
                submit(client, journal, run, "linger go", 10)
                wait_until(lambda run=run: _begun(journal, run, 1), "the step")  # type: ignore[misc]
                heir = worker(url)
                time.sleep(max(0.0, began + AFTER_START_S + 1 - time.monotonic()) + 0.173 * number)
                at = time.monotonic()
                if how == "killed":
                    victim.signal(signal.SIGKILL)
                else:
                    _ip("add")
                wait_until(lambda run=run: _begun(journal, run, 2), "the takeover", 4 * PATIENCE)  # type: ignore[misc]
                took.append(time.monotonic() - at)
                client.wait(run, timeout=PATIENCE)
                if how != "killed":
                    _ip("del")
                for child in (victim, heir):
                    child.destroy()
    finally:
        for child in children:
            child.destroy()
        server.stop()
        journal.close()
    return took


def _ip(what: str) -> None:
    subprocess.run(["ip", "route", what, "blackhole", f"{_ITS_ADDRESS}/32", "table", "local"], check=True)


def main() -> None:
    how, directory, rounds = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    if how == "vanished":
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    print(json.dumps(measure(how, directory, rounds)), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
