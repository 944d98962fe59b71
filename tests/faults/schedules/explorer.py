"""Every schedule of a scenario up to a bound, each compared with what the serial orders of its operations give.

A schedule is replayed by its choices, ``replay(scenario, "a12b3", directory)``: who went on at each moment at which
more than one actor could. With ``reduced`` an actor is not preempted before a step that touches nothing any other actor
ever touches in a conflicting way: such a schedule equals one that preempts it later.
"""

from __future__ import annotations

import heapq
import itertools
import random
import re
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from taquba_workflow_sync.errors import TaqubaError
from taquba_workflow_sync.queue.config import QueueConfig
from taquba_workflow_sync.queue.handle import QueueHandle
from taquba_workflow_sync.queue.queue import Queue
from taquba_workflow_sync.storage.embedded.store import EmbeddedStore
from taquba_workflow_sync.storage.port.cancellation import Cancellation, CancelOutcome
from taquba_workflow_sync.storage.port.claim import ClaimedRow
from taquba_workflow_sync.storage.port.job import Inserted
from taquba_workflow_sync.storage.port.store import Durability, OpenOptions
from taquba_workflow_sync.storage.relational.presence import Evidence
from taquba_workflow_sync.storage.relational.sql import features, names
from taquba_workflow_sync.workflow.client import WorkflowClient
from tests.faults.figures import Figures
from tests.storage.bench import LANE, QUEUE

from .instruments import (
    Instruments,
    RunningSet,
    YieldingClock,
    YieldingGate,
    YieldingLock,
    YieldingPath,
    YieldingRoom,
    close_quietly,
    connect_unseen,
    instrumented,
)
from .scheduler import WAIT, Branches, Policy, Schedule, Step, actor_here, always, first, start_names, yield_point

_OF_FEATURES: Final = tuple(text.split()[5] for text in features.SCHEMA if text.startswith("CREATE TABLE"))
_TABLES: Final = (names.META, names.QUEUE, names.JOB, names.OVERFLOW, names.ATTEMPT, *_OF_FEATURES)
_NO_LIMIT: Final = 1 << 50
_TRUNCATE_EVERY: Final = 100
_OPERATION: Final = "operation "
_TOLD_WHOLE: Final = 2
_STORY_LINES: Final = 60

Operation = Callable[["World"], Any]


@dataclass
class World:
    """One store directory, the handles that the actors use, and the time they all go by."""

    directory: Path
    instruments: Instruments
    clock: YieldingClock
    stores: dict[str, EmbeddedStore] = field(default_factory=dict)
    #: What the preparation leaves for the operations, e.g. claims.
    known: dict[str, Any] = field(default_factory=dict)
    #: What the operations of one schedule leave for each other.
    passed: dict[str, Any] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return YieldingPath(self.directory / "store")

    @property
    def running(self) -> RunningSet:
        return self.instruments.running

    def open(self, name: str, *, is_exclusive: bool = False, checkpoint_bytes: int = _NO_LIMIT) -> EmbeddedStore:
        """Open a handle; it stays open until the schedule, or the world, is over."""
        options = OpenOptions(durability=Durability.RELAXED, is_exclusive=is_exclusive, clock=self.clock)
        store = EmbeddedStore(self.root, options, checkpoint_bytes=checkpoint_bytes)
        self.stores[name] = store
        return store

    def queue(self, name: str) -> Queue:
        """The queue over a handle, as this actor's alone: what it remembers is forgotten after the schedule."""
        handle = QueueHandle(
            self.stores[name],
            default_config=QueueConfig(),
            queue_configs={},
            max_payload_bytes=1 << 20,
            address=str(self.root),
            failpoint=None,
        )
        return Queue(handle)

    def client(self, name: str) -> WorkflowClient:
        return WorkflowClient(self.queue(name), queue_name=QUEUE, keep_runs=3600)


@dataclass(frozen=True)
class Scenario:
    """What races: how the store stands before, and what each actor does, operation by operation.

    ``handles`` are opened before ``prepare`` and stay open from schedule to schedule; where opening or closing is what
    races, they are none, and every schedule begins with a copy of what ``prepare`` left, all handles closed.
    ``shares_commits``: the actors use one handle, and a clerk, one more actor, commits what they ask for. Elsewhere,
    and in the serial orders, no thread can be started, and each actor commits for itself.
    """

    name: str
    prepare: Callable[[World], None]
    actors: Mapping[str, Sequence[Operation]]
    handles: Sequence[str] = ("a", "b")
    shares_commits: bool = False
    with_expiries: bool = False
    #: Who may have won, by the answers: the serial orders tell what is alike, this tells what is right.
    rule: Callable[[Mapping[str, tuple[Any, ...]]], bool] = lambda _: True
    #: At least so many schedules there must be: fewer, and the instruments no longer yield where they should.
    least: int = 14
    options: Mapping[str, Any] = field(default_factory=dict)
    #: Other programs whose serial orders are as good: what an actor may do instead, each spelled out.
    as_good: Sequence[Mapping[str, Sequence[Operation]]] = ()
    #: Done before every schedule, outside of it.
    begin: Callable[[World], None] = lambda _: None
    #: What else must hold after every schedule, with the handles still open; says what does not.
    also: Callable[[World], str | None] = lambda _: None

    @property
    def is_fresh(self) -> bool:
        """Whether every schedule starts with no handle open."""
        return not self.handles


class Crash(NamedTuple):
    """An operation that raised what no caller is told to expect."""

    error: str


class Outcome(NamedTuple):
    """What a schedule came to: each actor's answers, and all that is stored."""

    answers: tuple[tuple[str, tuple[Any, ...]], ...]
    stored: tuple[Any, ...]


class Result(NamedTuple):
    """One schedule, after the fact."""

    schedule: Schedule
    outcome: Outcome | None
    #: (actor, number of the operation): the steps at which it began and ended
    spans: dict[tuple[str, int], tuple[int, int]]
    violations: list[str]

    @property
    def choices(self) -> str:
        """What :func:`replay` takes: the actors, each with how often it went on; in capitals: its wait ran out."""
        runs = itertools.groupby(self.schedule.all_choices)
        return "".join(f"{name}{sum(1 for _ in same)}" for name, same in runs)


# -- the store of a schedule ------------------------------------------------------------------------------------------


class Stage:
    """Runs schedules of one scenario, each from the same beginning."""

    def __init__(self, scenario: Scenario, directory: Path, instruments: Instruments) -> None:
        self.scenario = scenario
        self._directory = directory
        self._instruments = instruments
        self._made = 0
        self._since_truncation = 0
        self._world: World | None = None
        self._control: sqlite3.Connection | None = None

    def close(self) -> None:
        """Close every handle and remove the directory."""
        self._discard()
        shutil.rmtree(self._directory, ignore_errors=True)

    def execute(
        self,
        choices: Sequence[str] = (),
        *,
        branches: Branches = always,
        policy: Policy = first,
        actors: Mapping[str, Sequence[Operation]] | None = None,
    ) -> Result:
        """Run one schedule from the beginning."""
        world = self._begin()
        self._instruments.starts.are_allowed = self.scenario.shares_commits and actors is None
        program = self.scenario.actors if actors is None else actors
        spans: dict[tuple[str, int], tuple[int, int]] = {}
        answers: dict[str, list[Any]] = {name: [] for name in program}
        found: list[str] = []

        def body(name: str, operations: Sequence[Operation]) -> Callable[[], None]:
            def run() -> None:
                for number, operation in enumerate(operations):
                    actor = actor_here()
                    assert actor is not None
                    yield_point(f"{_OPERATION}{number}")
                    began, actor.written = len(schedule.trace), 0
                    answer = _answer_of(operation, world)
                    spans[name, number] = began, len(schedule.trace)
                    answers[name].append(answer)
                    if isinstance(answer, Crash):
                        found.append(f"{name}'s operation {number} raised {answer.error}")
                    if actor.written and not self.scenario.shares_commits and _lost(answer):
                        found.append(f"{name}'s operation {number} lost ({answer!r}) and wrote {actor.written} rows")

            return run

        bodies = {name: body(name, operations) for name, operations in program.items()}
        schedule = Schedule(bodies, choices, branches, policy, with_expiries=self.scenario.with_expiries)
        schedule.run()
        found += schedule.violations
        if schedule.violations:
            self._discard()
            return Result(schedule, None, spans, found)
        more = self.scenario.also(world)
        if more is not None:
            found.append(more)
        found += _look_at_locks(world)
        if self.scenario.is_fresh:
            self._close_handles(world)
        connection = self._connection(world)
        found += _look(connection, _owner_files(world))
        said = tuple((name, tuple(each)) for name, each in sorted(answers.items()))
        outcome = Outcome(said, _dump(connection))
        if not self.scenario.rule(dict(said)):
            found.append(f"not exactly one has won: {said}")
        if self.scenario.shares_commits:
            outcome = Outcome(*_without_makers(outcome))  # who commits makes the tokens
        return Result(schedule, outcome, spans, found)

    # -- beginnings --------------------------------------------------------------------------------------------

    def _begin(self) -> World:
        if self._world is None:
            self._world = self._make()
        world = self._world
        world.passed = {}
        world.running.tokens = set(self._running)
        world.clock._now = self._now
        self._instruments.monotonic_now = self._monotonic
        if self.scenario.is_fresh:
            self._copy(world)
            start_names("S")
        else:
            self._restore(world)
        self.scenario.begin(world)
        return world

    def _make(self) -> World:
        self._made += 1
        directory = self._directory / str(self._made)
        directory.mkdir(parents=True)
        start_names("P")
        world = World(directory, self._instruments, YieldingClock())
        self._instruments.monotonic_now = 1000.0
        world.running.tokens = set()
        for name in self.scenario.handles:
            world.open(name, **self.scenario.options)
        self.scenario.prepare(world)
        self._now, self._monotonic = world.clock._now, self._instruments.monotonic_now
        self._running = frozenset(world.running.tokens)
        if self.scenario.is_fresh:
            self._close_handles(world)
            (directory / "store").mkdir(exist_ok=True, mode=0o700)
            shutil.copytree(directory / "store", directory / "template")
            return world
        for store in world.stores.values():
            # Opened now, so that every schedule finds the same connections open.
            store.renew([], 1)
            connections = store._connections
            while len(connections._idle_readers) < 3:
                connections._idle_readers.append(connections.open())
        connection = self._connection(world)
        self._rows = {table: connection.execute(f"SELECT * FROM {table}").fetchall() for table in _TABLES}
        self._files = _owner_files(world)
        self._watched = {name: dict(store._claims.watch._watched) for name, store in world.stores.items()}
        self._enrolled = {name: store._commits._transactor._enrolled for name, store in world.stores.items()}
        return world

    def _connection(self, world: World) -> sqlite3.Connection:
        if self._control is None:
            self._control = connect_unseen(world.directory / "store" / "db" / "cache.db")
            self._control.execute("PRAGMA wal_autocheckpoint = 0")
            self._control.execute("PRAGMA synchronous = OFF")
        return self._control

    def _restore(self, world: World) -> None:
        connection = self._connection(world)
        connection.execute("BEGIN IMMEDIATE")
        for table in reversed(_TABLES):
            connection.execute(f"DELETE FROM {table}")
        for table, rows in self._rows.items():
            if rows:
                marks = ",".join("?" * len(rows[0]))
                connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
        connection.execute("COMMIT")
        self._since_truncation += 1
        if self._since_truncation >= _TRUNCATE_EVERY:
            self._since_truncation = 0
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        owners = world.directory / "store" / "owners"
        now = _owner_files(world)
        for name in now - self._files:
            (owners / name).unlink()
        for name in self._files - now:
            (owners / name).touch(mode=0o600)
        for name, store in world.stores.items():
            store._claims.watch._watched = dict(self._watched[name])
            store._claims._next_cleaning = 0.0
            store._commits._transactor._enrolled = self._enrolled[name]
            store._commits._transactor.writer.others_write = False

    def _copy(self, world: World) -> None:
        if self._control is not None:
            close_quietly(self._control)
            self._control = None
        shutil.rmtree(world.directory / "store")
        shutil.copytree(world.directory / "template", world.directory / "store")

    # -- ends --------------------------------------------------------------------------------------------------

    @staticmethod
    def _close_handles(world: World) -> None:
        for store in world.stores.values():
            store.close()
        world.stores.clear()

    def _discard(self) -> None:
        world, self._world = self._world, None
        if self._control is not None:
            close_quietly(self._control)
            self._control = None
        if world is None:
            return
        for store in world.stores.values():
            # After a deadlock its gate and rooms may count threads that are gone: close() would wait for them.
            for each in (store._connections.gate, store._connections._readers, store._commits._turn):
                assert isinstance(each, (YieldingGate, YieldingRoom))
                each.forget()
            store._commits.clerk._lives = YieldingLock()  # type: ignore[assignment]
            with suppress(sqlite3.Error, TaqubaError, RuntimeError):
                store.close()
        shutil.rmtree(world.directory, ignore_errors=True)


def _answer_of(operation: Operation, world: World) -> Any:
    try:
        return plain(operation(world))
    except TaqubaError as error:
        return type(error).__name__
    except Exception as error:
        return Crash(f"{type(error).__name__}: {error}")


def plain(value: Any) -> Any:
    """An answer in a form that can be compared and hashed."""
    if isinstance(value, (Inserted, Cancellation, ClaimedRow)):
        return value
    if isinstance(value, Evidence):
        return "abandoned", plain(value.owners), plain(value.tokens)
    if isinstance(value, (set, frozenset)):
        return tuple(sorted(value))
    if isinstance(value, Mapping):
        return tuple(sorted(value.items()))
    if isinstance(value, (list, tuple)):
        return tuple(plain(each) for each in value)
    return value


def _without_makers(value: Any) -> Any:
    """Tokens without the part that tells which thread made them."""
    if isinstance(value, tuple):
        return tuple(_without_makers(each) for each in value)
    return re.sub(r"^[0-9a-f]{12}(?=\.\d+\.\d+$)", "", value) if isinstance(value, str) else value


def _lost(answer: Any) -> bool:
    """Whether an answer says that nothing was done."""
    if isinstance(answer, Inserted):
        return not answer.is_new
    if isinstance(answer, Cancellation):
        return answer.outcome is CancelOutcome.NOT_FOUND
    return answer is False or answer == 0 or (isinstance(answer, str) and answer.endswith("Error"))


def _owner_files(world: World) -> set[str]:
    return {path.name for path in (world.directory / "store" / "owners").iterdir()}


def _dump(connection: sqlite3.Connection) -> tuple[Any, ...]:
    tables = tuple(tuple(connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()) for table in _TABLES)
    settings = tuple(connection.execute("SELECT key, value FROM Settings ORDER BY key").fetchall())
    return (*tables, settings)


_COUNTERS: Final = f"""SELECT q.name, q.pending, q.scheduled, q.claimed, q.dead, q.done, q.cancelled,
    count(*) FILTER (WHERE j.status = 'pending'), count(*) FILTER (WHERE j.status = 'scheduled'),
    count(*) FILTER (WHERE j.status = 'claimed'), count(*) FILTER (WHERE j.status = 'dead'),
    count(*) FILTER (WHERE j.status = 'done'), count(*) FILTER (WHERE j.status = 'cancelled')
    FROM {names.QUEUE} AS q LEFT JOIN {names.JOB} AS j ON j.queue = q.id GROUP BY q.id"""
_SOUND_ROWS: Final = {
    "attempts over the limit": f"SELECT id FROM {names.JOB} WHERE attempts > max_attempts",
    "a verdict on a row that has not ended": (
        f"SELECT id FROM {names.JOB} WHERE verdict IS NOT NULL AND finished_ms IS NULL"
    ),
    "a run that ended without being counted as terminated": (
        f"SELECT id FROM {names.JOB} WHERE run_id IS NOT NULL AND finished_ms IS NOT NULL AND termination = 0"
    ),
    "two active rows of one run": (
        f"SELECT run_id FROM {names.JOB} WHERE finished_ms IS NULL AND run_id IS NOT NULL GROUP BY queue, run_id"
        " HAVING count(*) > 1"
    ),
    "two rows at one place of a line": (
        f"SELECT place FROM {names.JOB} WHERE finished_ms IS NULL GROUP BY queue, place HAVING count(*) > 1"
    ),
    "an attempt in the history that was never counted": (
        f"SELECT j.id FROM {names.ATTEMPT} AS a JOIN {names.JOB} AS j ON a.job = j.seq WHERE a.ordinal > j.ordinal"
    ),
    "more ended attempts than claims that are over": (
        f"SELECT j.id FROM {names.JOB} AS j JOIN {names.ATTEMPT} AS a ON a.job = j.seq GROUP BY j.seq"
        " HAVING count(*) <> j.ordinal - (j.status = 'claimed')"
    ),
    "a part of no row": f"SELECT key FROM {names.OVERFLOW} WHERE key / 4 NOT IN (SELECT seq FROM {names.JOB})",
    "a number that was never given out": (
        f"SELECT seq FROM {names.JOB} WHERE max(seq, place) >= (SELECT value FROM {names.META} WHERE key = 'next_seq')"
    ),
    "a key in the dedup index of a row that does not wait": (
        f"SELECT id FROM {names.JOB} WHERE dedup_key IS NOT NULL AND status NOT IN ('pending', 'scheduled')"
    ),
    "a notification of a termination that never was": (
        f"SELECT n.id FROM {names.JOB} AS n JOIN {names.QUEUE} AS q ON n.queue = q.id WHERE q.name = '" + LANE + "'"
        f" AND EXISTS (SELECT 1 FROM {names.JOB} AS j WHERE j.run_id IS NOT NULL AND n.id LIKE j.id || '-%'"
        " AND CAST(substr(n.id, length(j.id) + 2) AS INTEGER) NOT BETWEEN 1 AND j.termination)"
    ),
}


def _look_at_locks(world: World) -> list[str]:
    """An open handle's lock file must be there, and locked."""
    files = _owner_files(world)
    lives = {name: store._lifecycle.owner for name, store in world.stores.items() if not store._lifecycle._is_closed}
    return [
        f"the open handle {name} does not hold its lock"
        for name, owner in lives.items()
        if f"{owner.id}.lock" not in files or not owner._lock.is_locked
    ]


def _look(connection: sqlite3.Connection, lock_files: set[str]) -> list[str]:
    """What must hold of every store, whatever happened to it."""
    found = []
    for (owner,) in connection.execute(f"SELECT DISTINCT owner FROM {names.JOB} WHERE owner > ''"):
        if f"{owner}.lock" not in lock_files:
            found.append(f"the lock file of {owner} is gone, and claims name it")
    (integrity,) = connection.execute("PRAGMA integrity_check").fetchone()
    if integrity != "ok":
        found.append(f"integrity_check: {integrity}")
    if connection.execute("PRAGMA foreign_key_check").fetchall():
        found.append("foreign_key_check found rows of no parent")
    for name, *numbers in connection.execute(_COUNTERS):
        counted, stored = numbers[:6], numbers[6:]
        if counted[:4] != stored[:4] or counted[4] < stored[4] or counted[5] < stored[5]:
            found.append(f"counters of {name} are {counted}, the rows say {stored}")
    for what, statement in _SOUND_ROWS.items():
        rows = connection.execute(statement).fetchall()
        if rows:
            found.append(f"{what}: {rows}")
    return found


# -- exploring --------------------------------------------------------------------------------------------------------


@dataclass
class Exploration:
    """What was explored of one scenario; ``bound`` None: every schedule there is."""

    name: str
    is_reduced: bool
    schedules: int = 0
    steps: int = 0
    preemptions: int = 0
    walks: int = 0
    expired: int = 0
    outcomes: int = 0
    serial_outcomes: int = 0
    #: Every schedule with at most so many preemptions was run; None: every one at all.
    complete_to: int | None = -1
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        if self.walks:
            what = "random walks"
        elif self.complete_to is None:
            what = "schedules, all there are"
        else:
            what = f"schedules, all with up to {self.complete_to} preemptions among them"
        at = "" if self.is_reduced else ", switching before any step"
        return (
            f"{self.name}: {self.schedules} {what}{at}; {self.steps} steps, {self.preemptions} preemptions,"
            f" {self.outcomes} outcomes of {self.serial_outcomes} serial ones, {self.expired} waits ran out"
        )


Order = tuple[tuple[str, int], ...]


class Explorer:
    """Explores one scenario on one stage."""

    def __init__(self, stage: Stage, *, reduced: bool = True, serial: Explorer | None = None) -> None:
        self.stage = stage
        self.report = Exploration(stage.scenario.name, is_reduced=reduced)
        self._reduced = reduced
        self._known: dict[str, dict[str, bool]] = {}
        self._touched: dict[str, dict[str, bool]] = {name: {} for name in stage.scenario.actors}
        self._serial: dict[Outcome, list[Order]] = {} if serial is None else serial._serial
        self._seen: set[Outcome] = set()

    def find_serial_outcomes(self) -> None:
        """Run every order in which the operations can follow one another whole."""

        def between(_: str, step: Step) -> bool:
            return step.label.startswith(_OPERATION)

        programs = (self.stage.scenario.actors, *self.stage.scenario.as_good)
        for result in itertools.chain.from_iterable(self._all(between, None, _NO_LIMIT, each) for each in programs):
            self._learn(result.schedule)
            if result.outcome is None or result.violations:
                self._tell(result, "; ".join(result.violations) or "a serial order does not end", kind="serial ")
                continue
            order = tuple(sorted(result.spans, key=lambda which: result.spans[which]))
            self._serial.setdefault(result.outcome, []).append(order)
        self.report.serial_outcomes = len(self._serial)

    def explore(self, bound: int | None = None, limit: int = _NO_LIMIT, until: float = float("inf")) -> None:
        """Run every schedule with at most ``bound`` preemptions, the fewest first; at most ``limit`` of them."""
        self.report.serial_outcomes = len(self._serial)
        while True:
            before = self._size()
            # Learned anew while schedules run, used from one round to the next: choices are counted by it.
            self._known = {name: dict(touched) for name, touched in self._touched.items()}
            complete_to: int | None = -1
            ended = True
            for done, result in enumerate(self._all(self._branches, bound, limit), start=1):
                self.judge(result)
                preemptions = _preemptions(result.schedule)
                complete_to = preemptions - 1  # the fewest come first
                if done >= limit or time.monotonic() >= until:
                    ended = False
                    break
            if not self._reduced or self._size() == before or not ended:
                break
            # Something new was touched: steps that looked private are not, so the choices before them are due.
        if ended:
            complete_to = bound if self._left_out else None
        self.report.complete_to = complete_to

    def walk(self, seed: int, count: int = _NO_LIMIT, until: float = float("inf")) -> None:
        """Run schedules chosen at random at every step, reproducible from ``seed``."""
        self.report.serial_outcomes = len(self._serial)
        for number in range(count):
            if time.monotonic() >= until:
                return
            self.report.walks += 1
            self.judge(self.walk_once(seed, number), kind=f"walk {seed}-{number}: ")

    def walk_once(self, seed: int, number: int) -> Result:
        """Run one schedule chosen at random at every step."""
        chance = random.Random(f"{seed}-{number}")
        stays = chance.choice((0.0, 0.5, 0.8, 0.95))

        def choose(options: Sequence[str]) -> str:
            return options[0] if chance.random() < stays else chance.choice(options)

        return self.stage.execute(branches=always, policy=choose)

    def judge(self, result: Result, kind: str = "") -> None:
        """Compare a schedule with the serial orders."""
        self.report.schedules += 1
        self.report.steps += len(result.schedule.trace)
        self.report.expired += result.schedule.expired
        self.report.preemptions += _preemptions(result.schedule)
        self._learn(result.schedule)
        problems = list(result.violations)
        outcome = result.outcome
        if outcome is not None:
            self._seen.add(outcome)
            self.report.outcomes = len(self._seen)
            orders = self._serial.get(outcome)
            if orders is None:
                problems.append(f"no serial order gives this: {self._difference(outcome)}")
            elif not any(_respects(order, result.spans) for order in orders):
                problems.append(f"only orders against the real one give this: {orders}; spans {result.spans}")
        if problems:
            self._tell(result, "; ".join(problems), kind=kind)

    # -- inside ------------------------------------------------------------------------------------------------

    def _all(
        self,
        branches: Branches,
        bound: int | None,
        limit: int,
        actors: Mapping[str, Sequence[Operation]] | None = None,
    ) -> Iterator[Result]:
        """Depth first within a number of preemptions, the fewest first; each schedule once."""
        order = itertools.count()
        heap: list[tuple[int, int, tuple[str, ...]]] = [(0, 0, ())]
        self._left_out = False
        while heap and limit:
            _, _, prefix = heapq.heappop(heap)
            result = self.stage.execute(prefix, branches=branches, actors=actors)
            decisions = result.schedule.decisions
            spent = 0
            for at, decision in enumerate(decisions):
                if at >= len(prefix):
                    for option in decision.options:
                        if option == decision.chosen:
                            continue
                        cost = spent + decision.cost(option)
                        if bound is not None and cost > bound:
                            self._left_out = True
                            continue
                        choices = (*(each.chosen for each in decisions[:at]), option)
                        heapq.heappush(heap, (cost, -next(order), choices))
                spent += decision.cost(decision.chosen)
            yield result

    def _branches(self, name: str, step: Step) -> bool:
        if not self._reduced or step.label == WAIT:
            return True
        for resource, is_write in step.touches:
            for other, touched in self._known.items():
                if other != name and resource in touched and (is_write or touched[resource]):
                    return True
        return False

    def _learn(self, schedule: Schedule) -> None:
        for name, step in schedule.trace:
            touched = self._touched.setdefault(name, {})
            for resource, is_write in step.touches:
                touched[resource] = touched.get(resource, False) or is_write

    def _size(self) -> int:
        return sum(1 + is_write for touched in self._touched.values() for is_write in touched.values())

    def _tell(self, result: Result, problem: str, *, kind: str = "") -> None:
        story = _story(result.schedule)
        if len(self.report.violations) >= _TOLD_WHOLE:
            story = []
        elif len(story) > _STORY_LINES:
            story = [*story[: _STORY_LINES // 2], "...", *story[-_STORY_LINES // 2 :]]
        call = f"{kind}replay({self.report.name!r}, {result.choices!r}, directory)"
        self.report.violations.append("\n  ".join([problem, call, *story]))

    def _difference(self, outcome: Outcome) -> str:
        same = [each for each in self._serial if each.answers == outcome.answers]
        if not same:
            wanted = "\n    ".join(str(each.answers) for each in self._serial)
            return f"the answers {outcome.answers}; serial orders give\n    {wanted}"
        for name, got, want in zip((*_TABLES, "Settings"), outcome.stored, same[0].stored, strict=True):
            if got != want:
                return f"{name} holds\n    {got}\n  and not\n    {want}\n  with the answers {outcome.answers}"
        return "?"


def _preemptions(schedule: Schedule) -> int:
    return sum(decision.cost(decision.chosen) for decision in schedule.decisions)


def _respects(order: Order, spans: Mapping[tuple[str, int], tuple[int, int]]) -> bool:
    """Whether no operation stands before one that had ended when it began."""
    for at, later in enumerate(order):
        for earlier in order[:at]:
            if spans[later][1] <= spans[earlier][0] and later != earlier and spans[later][1] > spans[later][0]:
                return False
    return True


def _story(schedule: Schedule) -> list[str]:
    """The trace, one line for each stretch of one actor."""
    lines = []
    for name, steps in itertools.groupby(schedule.trace, key=lambda each: each[0]):
        lines.append(f"{name}: " + " | ".join(step.label for _, step in steps))
    return lines


def choices_of(text: str) -> list[str]:
    """Undo :attr:`Result.choices`."""
    return [name for name, times in re.findall(r"([A-Za-z])(\d+)", text) for _ in range(int(times))]


def replay(scenario: Scenario, choices: str, directory: Path) -> Result:
    """Run one schedule again, as a violation printed it."""
    with instrumented() as instruments:
        stage = Stage(scenario, directory, instruments)
        try:
            return stage.execute(choices_of(choices))
        finally:
            stage.close()


def report(exploration: Exploration, into: Figures) -> None:
    """Add what was explored to the figures."""
    into.checked["schedules judged against the serial orders"] += exploration.schedules
    into.violations += [f"{exploration.name}: {each}" for each in exploration.violations]
    into.notes.append(str(exploration))
