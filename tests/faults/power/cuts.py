"""Runs a scenario under the recorder, cuts the power at random instants, and opens what is left with the real library.

Demanded of each disk that a cut leaves:

* it opens with ``Queue.open``; what the checker (``tests/faults/checker.py``) looks at holds: ``integrity_check``,
  ``foreign_key_check``, counters, rows, parts, history, hooks;
* the database is, byte by byte, one of those that the scenario's commits went through: nothing is half-applied, and
  what is missing is a suffix of the commits;
* with ``durability="full"`` everything is there that was acknowledged before the cut: submits, cancellations, each step
  that its successor's begin or a hook proves committed; with ``"relaxed"`` everything that was acknowledged before the
  first commit that is missing;
* of runs submitted together, all or none are there;
* for a sample: a runtime runs everything to its end, and the checker holds again.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from taquba_workflow_sync import Queue, TaqubaError, WorkflowRuntime
from taquba_workflow_sync.storage.relational.sql.names import ATTEMPT, JOB, OVERFLOW, QUEUE
from tests.faults import interpose
from tests.faults.checker import check, looking_at
from tests.faults.figures import Figures
from tests.faults.interpose import Operation, Record
from tests.faults.journal import Event, Journal, read
from tests.faults.lab import open_queue
from tests.faults.power import disk, log
from tests.faults.power.features import FEATURES
from tests.faults.power.script import RUNS, Script
from tests.processes.harness import ROOT
from tests.support import PATIENCE

FAULT = "power cut"
DATABASE = Path("store", "db", "cache.db")
SCRIPTS = {"runs": RUNS, "features": FEATURES}
#: So many cuts are made in each recording, however long that took.
_LEAST = 10


@dataclass(frozen=True)
class Recorded:
    """What a scenario did: the disk it began with, the operations, and what it marked among them."""

    base: disk.Tree
    past: list[Event]
    records: list[Record]
    events: list[tuple[int, Event]]
    commits: list[log.Commit]
    durability: str
    script: Script = RUNS

    def events_before(self, sequence: int) -> list[Event]:
        return self.past + [event for at, event in self.events if at < sequence]


@dataclass(frozen=True)
class Left:
    """What one cut left: a disk, the instant before which what was acknowledged counts, and what is in doubt there."""

    tree: disk.Tree
    end: int
    doubt: str


def judged_as(recorded: Recorded, durability: str) -> Recorded:
    """Return the same recording, of which another promise is demanded."""
    return replace(recorded, durability=durability)


# -- recording ---------------------------------------------------------------------------------------------------------


@contextmanager
def scratch(otherwise: Path) -> Iterator[Path]:
    """A directory in memory where there is one: what the model calls a disk is the model's business."""
    memory = Path("/dev/shm")
    where = memory if memory.is_dir() and os.access(memory, os.W_OK) else otherwise
    directory = Path(tempfile.mkdtemp(prefix="power-", dir=where)).resolve()
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def new_directory(place: Path) -> Path:
    """Make a directory for one recording."""
    return Path(tempfile.mkdtemp(dir=place)).resolve()


@contextmanager
def _copy(tree: disk.Tree, directory: Path) -> Iterator[Path]:
    """A disk that can be spoilt: SQLite recovers, checkpoints and removes its log there."""
    disk.lay_out(tree, directory)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


class PowerStage:
    """Where a scenario runs: a watched directory, its recorder, its processes."""

    def __init__(
        self,
        directory: Path,
        *,
        durability: str,
        seed: int,
        lie: str | None = None,
        base: disk.Tree | None = None,
        past: Sequence[Event] = (),
        script: Script = RUNS,
    ) -> None:
        self.script = script
        self.disk = directory / "disk"
        self.base = {} if base is None else base
        self.past = list(past)
        disk.lay_out(self.base, self.disk)
        with _copy(self.base, directory / "before") as copy:
            self._before = log.content(copy / DATABASE)
        self.log = directory / "log"
        self.durability = durability
        self.recorder = interpose.Recorder(directory / "recorder", watched=self.disk)
        self._seed = seed
        self._lie = ["--lie", lie] if lie else []
        self._children: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, **options: int) -> subprocess.Popen[bytes]:
        words = [f"--{option}={value}" for option, value in options.items()]
        command = [
            sys.executable, "-W", "error", "-m", self.script.module, str(self.disk / "store"), str(self.log),
            f"--name={name}", f"--durability={self.durability}", f"--seed={self._seed}", *words, *self._lie,
        ]  # fmt: skip
        environment = {**os.environ, **self.recorder.environment()}
        child = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE)
        self._children.append(child)
        return child

    def end(self, child: subprocess.Popen[bytes], code: int = 0) -> None:
        """Wait for a process to end so."""
        _, errors = child.communicate(timeout=4 * PATIENCE)
        assert child.returncode == code, f"exit {child.returncode}:\n{errors.decode()}"

    def recorded(self) -> Recorded:
        records = self.recorder.records()
        marks = [each for each in records if each.operation is Operation.MARK]
        events = [(each.sequence, {"pid": each.pid, **json.loads(each.data)}) for each in marks]
        kills = [each for each in records if each.operation is Operation.FAULT]
        # A thread of a killed process may have stood between its line in the log and its mark.
        missing = Counter(event["pid"] for event in read(self.log)) - Counter(event["pid"] for _, event in events)
        assert missing.keys() <= {each.pid for each in kills}, f"marks are missing: {missing}"
        events += [(each.sequence, {"event": "killing", "pid": 0, "target": each.pid}) for each in kills]
        events.sort(key=lambda each: each[0])
        commits = log.commits(records, self.base, self._before)
        self._compare(records, commits)
        return Recorded(self.base, self.past, records, events, commits, self.durability, self.script)

    def _compare(self, records: Sequence[Record], commits: Sequence[log.Commit]) -> None:
        """The replay must come out at what really is on the disk, or the record is not what happened."""
        replayed = disk.Disk(self.base)
        for record in records:
            replayed.apply(record)
        with _copy(replayed.leave(random.Random(0), "everything"), self.disk.with_name("after")) as copy:
            last = log.fingerprint(log.page_hashes(log.content(copy / DATABASE)))
        assert last == commits[-1].fingerprint, "the commits do not come out at what is in the database"
        for path in sorted(self.disk.rglob("*")):
            node = replayed.find(str(path.relative_to(self.disk)))
            if path.name.endswith("-shm"):
                continue
            assert node is not None, f"{path.name} is there, and was never recorded"
            if isinstance(node, disk.File):
                assert bytes(node.cached) == path.read_bytes(), f"{path.name} is not what the record makes it"

    def close(self) -> None:
        for child in self._children:
            if child.poll() is None:
                child.kill()
            child.wait()
            if child.stderr is not None:
                child.stderr.close()
        self.recorder.close()


def record(
    directory: Path, *, durability: str, seed: int, runs: int, threads: int = 3, script: Script = RUNS
) -> Recorded:
    """Run the scenario: a store is made and closed, two processes share it, one is killed, one recovers."""
    stage = PowerStage(directory, durability=durability, seed=seed, script=script)
    try:
        # The checkpoint thresholds: small, so that there are checkpoints and the log starts over.
        stage.end(stage.start("maker", runs=runs, threads=threads, checkpoint=160 << 10))
        both = [stage.start(name, runs=runs, threads=threads, checkpoint=300 << 10) for name in ("left", "right")]
        for child in both:
            stage.end(child)
        skip = random.Random(seed).randrange(40, 80)
        with stage.recorder.rule("write", "-wal", kills=True, skip=skip) as killing:
            stage.end(stage.start("victim", runs=1_000, threads=threads, checkpoint=160 << 10), -9)
            assert killing.injected == 1
        stage.end(stage.start("heir", runs=max(1, runs // 2), threads=threads, checkpoint=160 << 10))
        return stage.recorded()
    finally:
        stage.close()


def record_one(
    directory: Path,
    *,
    durability: str = "full",
    seed: int = 0,
    lie: str | None = None,
    name: str = "only",
    runs: int = 3,
    base: disk.Tree | None = None,
    past: Sequence[Event] = (),
    script: Script = RUNS,
) -> Recorded:
    """Run one process to its end, on an empty disk or on what an earlier cut left."""
    stage = PowerStage(directory, durability=durability, seed=seed, lie=lie, base=base, past=past, script=script)
    try:
        stage.end(stage.start(name, runs=runs, threads=3, checkpoint=160 << 10))
        return stage.recorded()
    finally:
        stage.close()


def record_next(
    directory: Path, recorded: Recorded, chance: random.Random, figures: Figures, name: str
) -> Recorded | None:
    """Cut once in a recording, and record how the next process recovers and goes on; None where nothing can."""
    (left,) = _choose(recorded, 1, chance, most=1)
    end = _demanded_before(recorded, left, directory / "next-look", figures)
    if end is None:
        return None
    past = recorded.events_before(end)
    dead = [{"event": "killing", "pid": 0, "target": pid} for pid in sorted({each["pid"] for each in past} - {0})]
    return record_one(
        directory, durability=recorded.durability, seed=chance.randrange(1 << 32), name=name, base=left.tree,
        past=[*past, *dead], script=recorded.script,
    )  # fmt: skip


# -- cutting -----------------------------------------------------------------------------------------------------------


def cut(
    recorded: Recorded,
    directory: Path,
    figures: Figures,
    *,
    wanted: int,
    chance: random.Random,
    run_on_every: int = 40,
    everywhere: bool = False,
    until: float = float("inf"),
    least: int = 0,
) -> int:
    """Cut until so many distinct disks were opened, or until that time; return how many they were.

    ``least``: how many it takes whatever the time is: what a recording leaves of it may be nothing.
    ``everywhere``: cut between any two syncs, and leave nothing that was not synced.
    """
    seen: set[bytes] = set()
    for number, left in enumerate(_everywhere(recorded) if everywhere else _choose(recorded, wanted, chance)):
        if len(seen) >= wanted or (time.monotonic() > until and len(seen) >= least):
            break
        known = disk.digest(left.tree)
        figures.checked["cut"] += 1
        if known not in seen:
            seen.add(known)
            figures.faults[FAULT] += 1
            figures.checked[f"cut with {left.doubt} in doubt"] += 1
        # A disk seen before is looked at again: at this instant more may have been acknowledged.
        examine(recorded, left, directory / f"cut-{number}", figures, runs_on=number % run_on_every == 1)
    return len(seen)


def _everywhere(recorded: Recorded) -> Iterator[Left]:
    chance = random.Random(0)
    for end, state in disk.replay(recorded.records, recorded.base):
        yield Left(state.leave(chance, "nothing"), end, state.kind())


def _choose(recorded: Recorded, wanted: int, chance: random.Random, *, most: int | None = None) -> Iterator[Left]:
    """Yield what cuts leave, twice as many as wanted or ``most``.

    Half of them at any instants, the others at as many instants of each kind as of another: some kinds are rare.
    """
    by_kind: dict[str, list[int]] = defaultdict(list)
    every: list[int] = []
    for number, (_, state) in enumerate(disk.replay(recorded.records, recorded.base)):
        by_kind[state.kind()].append(number)
        every.append(number)
    kinds = sorted(by_kind)
    draws: list[int] = []
    for turn in range(2 * wanted if most is None else most):
        draws.append(chance.choice(by_kind[kinds[turn // 2 % len(kinds)]] if turn % 2 else every))
    chance.shuffle(draws)
    # Several passes over the record, each for a part of the draws: memory stays small and the order random.
    size = -(-len(draws) // 4)
    for start in range(0, len(draws), size):
        part = Counter(draws[start : start + size])
        batch: list[Left] = []
        for number, (end, state) in enumerate(disk.replay(recorded.records, recorded.base)):
            for _ in range(part[number]):
                batch.append(Left(state.leave(chance, chance.choice(disk.MANNERS)), end, state.kind()))
        chance.shuffle(batch)
        yield from batch


# -- looking -----------------------------------------------------------------------------------------------------------


def examine(recorded: Recorded, left: Left, directory: Path, figures: Figures, *, runs_on: bool) -> None:
    """Open what one cut left and look at everything."""
    end = _demanded_before(recorded, left, directory, figures)
    if end is None:
        return
    events = recorded.events_before(end)
    with _copy(left.tree, directory) as place:
        store = place / "store"
        try:
            queue = Queue.open(store)
        except TaqubaError as error:
            figures.expect("opens", False, f"{error} after a cut before {end}")
            return
        with queue:
            figures.checked["opens"] += 1
            if not _look(store, events, figures, end, recorded.script):
                return
    if runs_on:
        with _copy(left.tree, directory) as place:
            _run_on(place / "store", events, figures, place / "log", recorded.script)


def _demanded_before(recorded: Recorded, left: Left, directory: Path, figures: Figures) -> int | None:
    """Look which commits the disk holds, and return before which instant what was acknowledged must be there."""
    try:
        with _copy(left.tree, directory) as place:
            found = log.fingerprint(log.page_hashes(log.content(place / DATABASE)))
    except sqlite3.Error as error:
        figures.expect("recovers", False, f"{type(error).__name__}: {error}")
        return None
    # The last of equals: a commit may leave the database as another had.
    standing = [commit.sequence for commit in recorded.commits if commit.fingerprint == found]
    figures.expect("is a prefix of the commits", bool(standing), "the database is none that any commit has left")
    if not standing:
        return None
    missing = [commit.sequence for commit in recorded.commits if standing[-1] < commit.sequence < left.end]
    if missing:
        figures.checked["cut that undid commits"] += 1
    return min([left.end, *missing[:1]]) if recorded.durability == "relaxed" else left.end


def _look(store: Path, events: list[Event], figures: Figures, end: int, script: Script) -> bool:
    """Look at a store that was just opened; return whether all is well."""
    where = f"before {end}"
    known = len(figures.violations)
    with looking_at(store) as connection:
        rows = {row["id"]: row for row in connection.execute(f"SELECT * FROM {JOB}")}
        runs = {row["run_id"] for row in rows.values()}
        uncharged = f"""SELECT j.id, a.step FROM {ATTEMPT} AS a JOIN {JOB} AS j ON j.seq = a.job
            WHERE a.outcome = 'put_back'"""
        put_back = {(row["id"], row["step"]) for row in connection.execute(uncharged)}
    retried = {event["job"] for event in events if event["event"] == "retrying"}
    together: dict[str, list[str]] = defaultdict(list)
    for event in events:
        match event["event"]:
            case "acknowledged":
                # The checker takes an ending that was told for an excuse: here, the run's row is still kept.
                figures.lost += event["job"] not in rows
                figures.expect("an acknowledged submit", event["job"] in rows, f"{where}: of run {event['run']}")
            case "begin":
                row = rows.get(event["job"])
                # That the step began proves its claim committed, and all before it.
                charged = event["attempt"] - ((event["job"], event["step"]) in put_back)
                reached = (event["step"], 0 if event["job"] in retried else charged)
                figures.expect(
                    "a step's claim",
                    row is not None and (row["step"], row["attempts"]) >= reached,
                    f"{where}: step {event['step']} of run {event['run']} had begun, attempt {event['attempt']}",
                )
            case "hook":
                row = rows.get(event["job"])
                figures.expect(
                    "an ending that was told",
                    row is not None and row["termination"] >= event["termination"],
                    f"{where}: the hook was told that run {event['run']} had ended",
                )
            case "cancelled" if event["found"]:
                row = rows.get(event["job"])
                holds = row is not None and (row["cancel_requested"] or row["finished_ms"] or event["job"] in retried)
                figures.expect("a cancellation", bool(holds), f"{where}: of run {event['run']}")
            case "submitting" if event["together"] > 1:
                together[event["run"].rpartition("-")[0]].append(event["run"])
    for names in together.values():
        found = len(runs.intersection(names))
        figures.expect("all or none together", found in (0, len(names)), f"{where}: {found} of {names}")
    _look_at_notifications(store, events, figures, where)
    found = check(store, events, is_idle=False, part=figures.part)
    found.lost = 0  # counted above
    figures.add(found)
    script.look(store, events, figures, is_idle=False)
    return len(figures.violations) == known


def _look_at_notifications(store: Path, events: list[Event], figures: Figures, where: str) -> None:
    """An ending and its notification were one commit: what has ended and was not told waits to be told."""
    told = {(event["job"], event["termination"]) for event in events if event["event"] == "hook"}
    with looking_at(store) as connection:
        waiting = set()
        lane = f"""SELECT coalesce(p.data, j.headers) AS headers FROM {JOB} AS j
            JOIN {QUEUE} AS q ON q.id = j.queue AND q.name LIKE '%.terminal'
            LEFT JOIN {OVERFLOW} AS p ON p.key = j.seq * 4 + 1 AND j.belongings & 2"""
        for row in connection.execute(lane):
            headers = json.loads(row["headers"])
            waiting.add((headers["workflow.job_id"], int(headers["workflow.termination"])))
        ended = f"""SELECT j.id, j.run_id, j.termination FROM {JOB} AS j
            JOIN {QUEUE} AS q ON q.id = j.queue AND q.subscription IS NOT NULL WHERE j.finished_ms IS NOT NULL"""
        for row in connection.execute(ended):
            key = (row["id"], row["termination"])
            figures.expect(
                "an ending has its notification",
                key in told or key in waiting,
                f"{where}: run {row['run_id']} has ended, nobody was told of it or will be",
            )


def _run_on(store: Path, events: list[Event], figures: Figures, path: Path, script: Script) -> None:
    """Run what is left to its end; the processes from before the cut are dead."""
    journal = Journal(path)
    try:
        with open_queue(store, lease_duration=0.5) as queue:
            runtime = WorkflowRuntime(queue, script.runner(journal), script.hook(journal), max_concurrent_steps=4)
            deadline = time.monotonic() + PATIENCE
            with runtime:
                while any(
                    each.pending + each.scheduled + each.claimed for each in queue.handle.store.counts().values()
                ):
                    if time.monotonic() > deadline:
                        figures.expect(
                            "runs to the end", False, f"left after {PATIENCE} s: {queue.handle.store.counts()}"
                        )
                        return
                    script.tend(queue)
                    time.sleep(0.005)
            script.tend(queue)
        figures.checked["runs to the end"] += 1
    finally:
        journal.close()
    killed = [{"event": "killing", "pid": 0, "target": pid} for pid in sorted({each["pid"] for each in events})]
    figures.add(check(store, [*events, *killed, *read(path)], is_idle=True, part=figures.part))
    script.look(store, [*events, *killed, *read(path)], figures, is_idle=True)


def find_unknown_owners(recorded: Recorded, directory: Path) -> set[str]:
    """Return whose claims some cut leaves without the lock file that proves their owner's death."""
    unknown = set()
    for left in _everywhere(recorded):
        with _copy(left.tree, directory) as place:
            if not (place / DATABASE).exists():
                continue
            with looking_at(place / "store") as connection:
                if connection.execute(f"SELECT 1 FROM sqlite_master WHERE name = '{JOB}'").fetchone():
                    rows = connection.execute(f"SELECT DISTINCT owner FROM {JOB} WHERE status = 'claimed'")
                    owners = {row["owner"] for row in rows}
                    unknown |= {
                        each for each in owners if each and not (place / "store/owners" / f"{each}.lock").exists()
                    }
    return unknown


def long_form(minutes: float, directory: Path) -> Figures:
    """Cut for about that long, as long for each script and durability; everything follows from one random seed."""
    figures = Figures("power")
    reason = interpose.missing()
    if reason is not None:
        figures.notes.append(reason)
        return figures
    began = time.monotonic()
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"power: seed {seed}", file=sys.stderr)
    figures.notes.append(f"seed {seed}")
    kinds = [(name, durability) for name in SCRIPTS for durability in ("full", "relaxed")]
    for turn, (name, durability) in enumerate(kinds, 1):
        until = began + turn * minutes * 60 / len(kinds)
        rounds = total = 0
        while time.monotonic() < until or not rounds:
            # A budget too small for a recording and a look at it gets a small recording.
            runs = 6 if minutes >= 2 else 2
            chance = random.Random(f"{seed}-{name}-{durability}-{rounds}")
            count = _round(SCRIPTS[name], durability, chance, figures, until, directory, runs)
            rounds += 1
            total += count
            print(f"power: {name}, {durability}, round {rounds}: {count} distinct disks", file=sys.stderr)
        figures.notes.append(f"{name}, {durability}: {total} distinct disks")
        figures.expect("there were cuts", total > 0, f"none of {name} with {durability}")
    return figures


def _round(
    script: Script, durability: str, chance: random.Random, figures: Figures, until: float, directory: Path, runs: int
) -> int:
    """Record once and cut often; then cut, recover, go on and cut again, three times over."""
    count = 0
    with scratch(directory) as place:
        where = new_directory(place)
        recorded: Recorded | None = record(
            where, durability=durability, seed=chance.randrange(1 << 32), runs=runs, script=script
        )
        for generation in range(4):
            if recorded is None or (generation and time.monotonic() > until):
                break
            wanted = 80 if generation else 200
            least = 0 if generation else _LEAST
            count += cut(recorded, place, figures, wanted=wanted, chance=chance, until=until, least=least)
            if time.monotonic() > until:
                break
            recorded = record_next(new_directory(place), recorded, chance, figures, f"next{generation}")
    return count
