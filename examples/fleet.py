"""Three worker processes on one PostgreSQL: one is killed, one is cut off from the server, one has a slow network.

    python examples/fleet.py

Starts a private server with the machine's own binaries, on a socket in a temporary directory, and three workers, each
behind a small proxy which can slow its link down or cut it. Two dozen runs of four steps are submitted. One worker dies
by SIGKILL; the link of another is cut, the server notices, and it comes back as a zombie, whose steps were taken over;
the third only has a slow link. The table at the end is made from what every step noted outside of the store, and
compared with what the store says: each run succeeded, and each of its steps counted once.

A server that has just started gives everybody 15 seconds to come back before it lets anyone be declared dead, which is
what the example waits for most of the time.
"""

from __future__ import annotations

import argparse
import logging
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from taquba_workflow_sync import Continue, Queue, RunSpec, Step, StepOutcome, Succeed, WorkflowClient, WorkflowRuntime

RUNS, STEPS = 24, 4
FATES = {"ann": "killed", "bob": "cut off, and back", "cleo": "a slow link"}


# -- a worker process ------------------------------------------------------------------------------


def work(name: str, url: str, log: Path) -> None:
    """Run steps until SIGTERM; each notes that it began and, where it came to its end, that it ended."""
    logging.basicConfig(filename=log.with_suffix(f".{name}"), level=logging.INFO)
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(what: str, step: Step) -> None:
        os.write(file, f"{what} {name} {step.run_id} {step.step_number} {step.attempts}\n".encode())

    def run_step(step: Step) -> StepOutcome:
        note("begin", step)
        step.cancel_token.wait(0.3)  # the work; it is told when its claim is in doubt
        note("end", step)
        trail = step.payload + str(step.step_number).encode()
        return Succeed(trail) if step.step_number == STEPS - 1 else Continue(trail)

    with Queue.open(url) as queue:
        WorkflowRuntime(queue, run_step, max_concurrent_steps=4).run(handle_signals=True)


# -- the network between a worker and the server ---------------------------------------------------


class Link:
    """Passes bytes on between a port of the loopback and the server's socket."""

    def __init__(self, target: str, delay: float = 0.0) -> None:
        self._target = target
        self._delay = delay
        self._flows = threading.Event()
        self._flows.set()
        self._ends: list[tuple[socket.socket, socket.socket]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Let nothing through any more; the server's side notices, the worker's hears nothing at all."""
        self._flows.clear()
        for _, server in tuple(self._ends):
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)

    def heal(self) -> None:
        """Let new connections through; the old ones are over."""
        ends, self._ends = self._ends, []
        for client, _ in ends:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        self._flows.set()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(self._target)
            except OSError:
                client.close()
                continue
            self._ends.append((client, server))
            threading.Thread(target=self._serve, args=(client, server), daemon=True).start()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        with client, server:
            back = threading.Thread(target=self._pass, args=(server, client), daemon=True)
            back.start()
            self._pass(client, server)
            back.join()

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(1 << 16):
                self._flows.wait()
                if self._delay:
                    time.sleep(self._delay)
                other.sendall(data)
        self._flows.wait()
        with suppress(OSError):
            other.shutdown(socket.SHUT_WR)


# -- a private server ------------------------------------------------------------------------------


def start_server(directory: Path, stack: ExitStack) -> bool:
    """Start a server whose socket is in ``directory``; False if there are no binaries, or no user to run it as."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    if not found and on_path is None:
        return False
    binaries = found[-1].parent if found else Path(on_path or "").resolve().parent
    become = _as_another_user(directory) if os.geteuid() == 0 else {}
    if become is None:
        return False
    data, log = directory / "data", directory / "server.log"
    with log.open("wb") as output:
        options: dict[str, Any] = {"cwd": "/", "stdout": output, "stderr": output, **become}
        create = [str(binaries / "initdb"), "-D", str(data), "-U", "taquba", "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(create, check=True, **options)
        serve = [str(binaries / "postgres"), "-D", str(data), "-k", str(directory), "-c", "listen_addresses="]
        server = subprocess.Popen(serve, **options)

    def stop() -> None:
        server.send_signal(signal.SIGQUIT)
        server.wait()

    stack.callback(stop)
    return True


def _as_another_user(directory: Path) -> dict[str, Any] | None:
    """Return what makes a child another user than root, under whom no server runs; None: there is none."""
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            user = pwd.getpwnam(name)
            os.chown(directory, user.pw_uid, user.pw_gid)
            return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    return None


# -- the fleet -------------------------------------------------------------------------------------


def lines(log: Path, what: str) -> list[list[str]]:
    return [line.split()[1:] for line in log.read_text().splitlines() if line.startswith(what)] if log.exists() else []


def is_in_a_step(name: str, log: Path) -> bool:
    """Whether a worker has begun a step that has not ended."""
    begun, ended = ([line for line in lines(log, what) if line[0] == name] for what in ("begin", "end"))
    return len(begun) > len(ended)


def taken_over(name: str, log: Path) -> bool:
    """Whether another worker has begun what this one had begun."""
    begun: dict[str, set[tuple[str, str]]] = {each: set() for each in FATES}
    for worker, run, step, _ in lines(log, "begin"):
        begun[worker].add((run, step))
    return any(begun[name] & begun[other] for other in FATES if other != name)


def wait_until(condition: Callable[[], object], what: str) -> None:
    until = time.monotonic() + 60
    while not condition():
        if time.monotonic() > until:
            raise SystemExit(f"{what} did not happen")
        time.sleep(0.05)


def start_workers(
    server: str, log: Path, stack: ExitStack
) -> tuple[dict[str, Link], dict[str, subprocess.Popen[bytes]]]:
    links, workers = {}, {}
    for name in FATES:
        link = links[name] = Link(server, delay=0.005 if name == "cleo" else 0.0)
        url = f"postgresql://taquba@127.0.0.1:{link.port}/postgres?sslmode=disable&gssencmode=disable"
        workers[name] = subprocess.Popen([sys.executable, __file__, "--worker", name, "--url", url, "--log", str(log)])
        stack.callback(workers[name].wait)
        stack.callback(workers[name].kill)
    return links, workers


def show(client: WorkflowClient, log: Path, pids: dict[int, str]) -> bool:
    """Print the table, and whether the store agrees with what the steps noted."""
    begun = Counter(line[0] for line in lines(log, "begin"))
    outcomes = [client.wait(f"run-{number}", timeout=1) for number in range(RUNS)]
    counted = [
        (pids.get(event.pid or 0, "nobody"), outcome.run_id, event.step)
        for outcome in outcomes
        for event in client.history(outcome.run_id)
        if event.attempt is not None and event.outcome in ("continued", "succeeded")
    ]
    by = Counter(name for name, _, _ in counted)
    print(f"\n{'worker':8}{'what happened to it':22}{'steps begun':>12}{'that counted':>14}{'that did not':>14}")
    for name, fate in FATES.items():
        print(f"{name:8}{fate:22}{begun[name]:>12}{by[name]:>14}{begun[name] - by[name]:>14}")
    print(f"{'all':30}{begun.total():>12}{by.total():>14}{begun.total() - by.total():>14}")
    trail = "".join(map(str, range(STEPS))).encode()
    right = [outcome.status == "succeeded" and outcome.result == trail for outcome in outcomes]
    is_once = len(counted) == len({(run, step) for _, run, step in counted}) == RUNS * STEPS
    print(f"\n{sum(right)} of {RUNS} runs succeeded with the trail of their steps")
    print(f"each of their {RUNS * STEPS} steps counted once: {is_once}")
    return all(right) and is_once


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill a worker of three, cut another one off, slow the third down.")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--log", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker, options.url, options.log)
        return 0
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="taquba-fleet-")))
        directory, log = place / "pg", place / "log"
        place.chmod(0o711)
        directory.mkdir()
        if not start_server(directory, stack):
            print("no PostgreSQL here: install its server to see this example, which then starts one of its own")
            return 0
        address = str(directory / ".s.PGSQL.5432")
        wait_until(lambda: Path(address).exists(), "the server's start")
        began = time.monotonic()
        queue = stack.enter_context(Queue.open(f"postgresql://taquba@/postgres?host={directory}"))
        client = WorkflowClient(queue)
        links, workers = start_workers(address, log, stack)
        for number in range(RUNS):
            client.submit(RunSpec(run_id=f"run-{number}"))
        wait_until(lambda: {line[0] for line in lines(log, "begin")} == set(FATES), "the first steps")
        wait_until(lambda: is_in_a_step("ann", log), "a step of ann's")
        print("ann: kill -9 in the middle of a step")
        workers["ann"].kill()
        print("bob: cut off; his steps are told within 1.5 s, others take them over")
        links["bob"].cut()
        wait_until(lambda: taken_over("bob", log), "a takeover")
        print(f"bob: back after {time.monotonic() - began:.0f} s, and told that others took over")
        links["bob"].heal()
        for number in range(RUNS):
            client.wait(f"run-{number}", timeout=60)
        for name in ("bob", "cleo"):
            workers[name].terminate()
            workers[name].wait(60)
        return 0 if show(client, log, {worker.pid: name for name, worker in workers.items()}) else 1


if __name__ == "__main__":
    sys.exit(main())
