"""A fleet: a server that syncs, workers and clients behind proxies of their own, and the log that they all write."""

from __future__ import annotations

import random
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from taquba_workflow_sync import StorageError, WorkflowRuntime
from tests.faults.checker import check
from tests.faults.figures import Figures
from tests.faults.journal import Event, Journal, read
from tests.faults.lab import LabRunner, hook_of, open_queue, register_hook
from tests.faults.server.proxy import Proxy
from tests.postgres import Server, start
from tests.processes.harness import Child, Stage
from tests.support import PATIENCE, wait_until

PART: Final = "server"
#: What is acknowledged must be there after a kill -9 of the server.
DURABLE: Final = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "restart_after_crash": "on",
    "max_connections": "100",
    "wal_sync_method": "fdatasync",
}
SCHEMA: Final = "fleet"


@dataclass
class Person:
    """A worker or client, and the only way by which it reaches the server."""

    role: str
    number: int
    proxy: Proxy
    child: Child


class _Counter:
    """Counts the lines of the log that say something, reading each once: the log of an hour is long."""

    def __init__(self, path: Path, said: bytes) -> None:
        self._path = path
        self._said = said
        self._place = self._found = 0
        self._lock = threading.Lock()

    def count(self) -> int:
        with self._lock, self._path.open("rb") as log:
            log.seek(self._place)
            text = log.read()
            whole = text[: text.rfind(b"\n") + 1]
            self._place += len(whole)
            self._found += whole.count(self._said)
            return self._found


class Fleet:
    """Processes over one server. What goes wrong is asked of ``server``, of a person's ``proxy`` or of its process."""

    def __init__(self, directory: Path, server: Server, *, workers: int = 3, clients: int = 2, seed: int = 1) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.stage = Stage(directory)
        self.journal = Journal(directory / "log")
        self.server = server
        self.chance = random.Random(seed)
        self.faults: Counter[str] = Counter()
        self.people: list[Person] = []
        self._ended = _Counter(self.journal.path, b'"event":"hook"')
        self.url = f"{server.loopback_url}?schema={SCHEMA}"
        with open_queue(self.url) as queue:
            register_hook(queue, self.journal)
        for number in range(workers + clients):
            self.begin("worker" if number < workers else "client", number)
        for person in self.people:
            self.ready(person)

    def begin(self, role: str, number: int, *more: object) -> Person:
        """Start a process behind a proxy of its own."""
        proxy = Proxy("127.0.0.1", self.server.port)
        child = self._child(role, number, proxy, *more)
        person = Person(role, number, proxy, child)
        self.people.append(person)
        return person

    def _child(self, role: str, number: int, proxy: Proxy, *more: object) -> Child:
        name = f"{role}{number}-{len(self.stage.children)}"
        options: list[object] = ["--seed", self.chance.randrange(1 << 30), "--name", name, "--pause", 0.05, *more]
        errors = self.stage.directory / f"stderr-{len(self.stage.children)}"
        child = Child(
            "tests.faults.lab",
            [role, proxy.url(schema=SCHEMA), self.journal.path, *options],
            errors=errors,
        )
        self.stage.children.append(child)
        return child

    def begin_again(self) -> None:
        """Have those who were told to end be there again."""
        for person in self.people:
            person.child = self._child(person.role, person.number, person.proxy)
        for person in self.people:
            self.ready(person)

    def ready(self, person: Person) -> None:
        """Wait until a process works."""
        wait_until(lambda: person.child.said("ready"), "a process that runs", 3 * PATIENCE)

    @property
    def workers(self) -> list[Person]:
        """Those who run steps."""
        return [person for person in self.people if person.role == "worker"]

    def kill(self, person: Person) -> None:
        """Kill -9, noted first, and have another take its place."""
        self.journal.note("killing", target=person.child.pid)
        person.child.signal(signal.SIGKILL)
        person.child.process.wait()
        self.faults["kill -9 of a process"] += 1
        person.child = self._child(person.role, person.number, person.proxy)

    def may_be_taken_over(self, *people: Person) -> None:
        """Note that what these run may run elsewhere before they know."""
        for person in people:
            self.journal.note("stopping", target=person.child.pid)

    def restart_server(self) -> None:
        """Start the server again where it was; its processes are gone."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                server = start(DURABLE | self.server.settings, directory=self.server.directory, port=self.server.port)
            except AssertionError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)  # what is left of the last one is still ending
                continue
            assert server is not None
            self.server = server
            return

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Ask the server directly; one that recovers from the fault before is waited for."""
        import psycopg

        until = time.monotonic() + 2 * PATIENCE
        while True:
            try:
                with psycopg.connect(self.server.loopback_url, autocommit=True) as connection:
                    cursor = connection.execute(statement.encode())
                    return cursor.fetchall() if cursor.description is not None else []
            except psycopg.OperationalError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    def ended_runs(self) -> int:
        """Return how many runs' ends were told of so far."""
        return self._ended.count()

    def events(self) -> list[Event]:
        """Return what the log says so far."""
        return read(self.journal.path)

    def goes_on(self, limit: float = 2 * PATIENCE) -> None:
        """Wait until runs end that had not, by what they do now."""
        before = self.ended_runs()
        wait_until(lambda: self.ended_runs() > before + 3, "runs that end", limit)

    def settled(self, *, limit: float = 120) -> Figures:
        """Have everybody drain, do what is left to do, and look at every invariant."""
        for person in self.people:
            person.proxy.heal()
        for person in [each for each in self.people if each.role == "client"] + self.workers:
            if person.child.process.poll() is None:
                self.ready(person)
                person.child.signal(signal.SIGTERM)
                code = person.child.ended(2 * PATIENCE)
                assert code == 0, f"exit {code}; errors:\n{person.child.errors}"
        with open_queue(self.url) as queue:
            runtime = WorkflowRuntime(queue, LabRunner(self.journal), hook_of(self.journal))
            runtime.run_until_idle(limit, wait_for_scheduled=10)
        figures = check(self.url, self.events(), is_idle=True, part=PART)
        figures.faults += self.faults
        return figures

    def close(self) -> None:
        """End everything."""
        for person in self.people:
            person.proxy.close()
        self.stage.close()
        self.journal.close()


@contextmanager
def server_of_its_own(settings: dict[str, str] | None = None, *, directory: Path | None = None) -> Iterator[Server]:
    """A server that syncs; the test is skipped where there is none to be had."""
    pytest.importorskip("psycopg")
    server = start(DURABLE | (settings or {}), directory=directory)
    if server is None:
        pytest.skip("no binaries of PostgreSQL here")
    try:
        yield server
    finally:
        if directory is None:
            shutil.rmtree(server.directory, ignore_errors=True)


@contextmanager
def fleet_of(
    directory: Path, *, workers: int = 3, clients: int = 2, settings: dict[str, str] | None = None, seed: int = 1
) -> Iterator[Fleet]:
    """A fleet over a server of its own."""
    with server_of_its_own(settings) as server:
        fleet: Fleet | None = None
        try:
            fleet = Fleet(directory, server, workers=workers, clients=clients, seed=seed)
            yield fleet
        finally:
            if fleet is not None:
                server = fleet.server
                fleet.close()
            with suppress(ProcessLookupError):
                server.stop()


def until_it_works(call: Callable[[], object], limit: float = PATIENCE) -> object:
    """Return what a call answers once the store can be reached."""
    until = time.monotonic() + limit
    while True:
        try:
            return call()
        except StorageError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
