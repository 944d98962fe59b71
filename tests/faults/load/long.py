"""The long form: hours at four fifths of the measured peak, with kills and 100,000 waiting runs, in bounded memory.

Every run is counted, in files that a kill does not touch; of a sample of them everything is in the log, for the
checker. One worker and one client are never killed, so that what grows with time has the time to show.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from taquba_workflow_sync import Queue, RunSpec, WorkflowClient
from taquba_workflow_sync.storage.relational.sql.names import JOB, QUEUE
from tests.faults.checker import LANE_SUFFIX, check, looking_at
from tests.faults.figures import Figures
from tests.faults.journal import Journal, read
from tests.faults.load.crew import CONCURRENCY, CONFIG, KEEP, STEPS, Control
from tests.faults.load.meter import LATENCIES, Meter, Reading
from tests.processes.harness import Child
from tests.support import wait_until

LIVE = "workflow-steps"
WAITING = "waiting"
WORKERS, CLIENTS = 3, 2
SHARE = 0.8
WAITING_RUNS = 100_000

# At most so many runs of an hour at 1,000 runs/s are in the log, about ten lines each.
_SAMPLED = 8_000
_LIMIT = 120.0

# The machine is shared, so only gross drift counts, and only what a probe of the same minutes (a synced write and a
# computation) did not suffer as well. The 99th percentile is ruled by the kills, so it may vary more.
_TOLERANCE = 2.0
_TOLERANCE_AT_P99 = 4.0
_LONG_ENOUGH = 5.0  # minutes; a shorter run says what it measured and judges no drift

_WAL_BYTES = 64 << 20  # from there on the package itself warns
_SWEEP_LAG = 60.0
_GROWTH = 1.5


@dataclass(frozen=True)
class Schedule:
    """How a budget of minutes is spent."""

    seconds: float
    waiting: int
    warm_up: float
    calibration: float
    period: float
    kill_interval: float
    sample: int

    @classmethod
    def of(cls, minutes: float) -> Schedule:
        seconds = minutes * 60
        return cls(
            seconds=seconds,
            waiting=WAITING_RUNS if minutes >= _LONG_ENOUGH else max(1_000, int(WAITING_RUNS * minutes / _LONG_ENOUGH)),
            # A long run's peak is that of a store which also deletes what it has kept for long enough: four fifths of
            # a peak without that (1,399 runs a second) held clients back from the first minutes on.
            warm_up=KEEP + 15 if minutes >= _LONG_ENOUGH * 2 else max(0.25, min(15.0, seconds / 32)),
            calibration=max(1.0, min(60.0, seconds / 8)),
            period=max(1.0, min(60.0, seconds / 10)),
            kill_interval=min(20.0, max(0.5, seconds / 12)),
            sample=max(1, round(seconds * 1_000 / _SAMPLED)),
        )


@dataclass
class Period:
    """What was seen of one stretch of time, a minute in a long run."""

    values: dict[str, float]
    pids: dict[str, int]
    resources: dict[str, dict[str, float]] = field(default_factory=dict)


def long_form(minutes: float, directory: Path) -> Figures:
    """Measure the peak, load four fifths of it until the time is over, let it drain, and account for every run."""
    schedule, figures = Schedule.of(minutes), Figures("load")
    began = time.monotonic()
    directory.mkdir(parents=True, exist_ok=True)
    with closing(Site(directory, schedule)) as site:
        try:
            site.fill()
            site.start()
            peak = site.calibrate()
            periods = site.load(peak * SHARE, until=began + schedule.seconds - min(schedule.seconds / 20, 45) - 3)
            site.drain()
            site.stop()
        except AssertionError as error:  # a process that died, or a drain that never ended
            figures.expect("the processes do as told", False, str(error))
            return figures
        figures.faults += site.faults
        _judge(site, figures, schedule, peak, periods)
        _account(site, figures, schedule)
    return figures


# -- the processes -----------------------------------------------------------------------------------------------------


class Site:
    """The store, its processes, and their meters."""

    def __init__(self, directory: Path, schedule: Schedule) -> None:
        self.root = directory / "store"
        self.journal = Journal(directory / "log")
        self.faults: dict[str, int] = {"SIGKILL of a worker": 0, "SIGKILL of a client": 0}
        self._directory = directory
        self._schedule = schedule
        self._chance = random.Random(1)
        self._control = Control(directory / "control")
        self._control.rate = 0  # as fast as it goes, until the peak is known
        self._control.sample = schedule.sample
        names = [f"worker-{number}" for number in range(WORKERS)] + [f"client-{number}" for number in range(CLIENTS)]
        self.meters = {name: Meter(directory / f"meter-{name}") for name in names}
        self.people: dict[str, Child] = {}

    def close(self) -> None:
        for person in self.people.values():
            person.destroy()
        for meter in self.meters.values():
            meter.close()
        self._control.close()
        self.journal.close()

    def fill(self) -> None:
        """Put in the runs that wait: half of them for tomorrow, half in a line that nobody serves."""
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        with Queue.open(self.root, default_config=CONFIG) as queue:
            for name, run_at in ((LIVE, tomorrow), (WAITING, None)):
                client = WorkflowClient(queue, queue_name=name)
                for start in range(0, self._schedule.waiting // 2, 1_000):
                    numbers = range(start, min(start + 1_000, self._schedule.waiting // 2))
                    client.submit_many([RunSpec(run_id=f"waits-{number}", run_at=run_at) for number in numbers])

    def start(self) -> None:
        """Start everybody, the workers first: a run that ends before any hook is registered has none to tell."""
        for group in ("worker", "client"):
            for name in self.meters:
                if name.startswith(group):
                    self._start(name)
            for name, person in self.people.items():
                if name.startswith(group):
                    person.hear("ready")

    def _start(self, name: str) -> None:
        # In each worker life the file of errors goes on: an hour has hundreds of lives.
        person = Child(
            "tests.faults.load.crew",
            [name.partition("-")[0], self.root, self.journal.path, self._directory / f"meter-{name}",
             self._directory / "control", "--name", name],
            errors=self._directory / f"stderr-{name}-{sum(self.faults.values())}",
        )  # fmt: skip
        self.people[name] = person

    def kill(self) -> None:
        """Kill -9 somebody, and start a successor at once."""
        role = "client" if self._chance.random() < 0.25 else "worker"
        number = self._chance.randrange(1, CLIENTS if role == "client" else WORKERS)  # the first is never killed
        name = f"{role}-{number}"
        person = self.people[name]
        assert person.process.poll() is None, f"{name} ended by itself: {person.errors}"
        self.journal.note("killing", target=person.pid)
        person.signal(signal.SIGKILL)
        person.destroy()
        self.faults[f"SIGKILL of a {role}"] += 1
        self._start(name)

    # -- the phases --------------------------------------------------------------------------------------------

    def calibrate(self) -> float:
        """Return the runs/s that end while the clients submit as fast as the line lets them: the median of windows."""
        time.sleep(self._schedule.warm_up)  # processes that have just started are slow
        rates = []
        for _ in range(5):
            began, ended = time.monotonic(), self.queues()[LIVE]["done"]
            time.sleep(self._schedule.calibration * 3 / 20)
            rates.append((self.queues()[LIVE]["done"] - ended) / (time.monotonic() - began))
        return statistics.median(rates)

    def load(self, rate: float, until: float) -> list[Period]:
        """Submit at ``rate`` until then; kill, measure, and say how it goes once a period."""
        self._control.rate = rate / CLIENTS
        periods: list[Period] = []
        next_kill = time.monotonic() + self._schedule.kill_interval
        while time.monotonic() < until or not sum(self.faults.values()):
            before, began, kills = self.reading(), time.monotonic(), sum(self.faults.values())
            ended = self.queues()[LIVE]["done"]
            end = min(began + self._schedule.period, max(until, began + 1))
            probes, cpu = [probe(self._directory / "probe")], Cpu.now()
            while (now := time.monotonic()) < end:
                if now >= next_kill:
                    next_kill += self._schedule.kill_interval
                    self.kill()
                if now > began + len(probes) * self._schedule.period / 4:
                    probes.append(probe(self._directory / "probe"))
                time.sleep(0.05)
            took = time.monotonic() - began
            period = self._period(self.reading().since(before), took)
            runs, used = self.queues()[LIVE]["done"] - ended, Cpu.now().since(cpu)
            period.values |= {
                "runs/s": runs / took,
                "CPU ms/run": used.busy * 1000 / max(1, runs),
                "idle": used.idle / used.all,
                "steal": used.steal / used.all,
                "kills": sum(self.faults.values()) - kills,
                "probe": statistics.median(probes),
            }
            periods.append(period)
            print(f"{len(periods)}: {_line(period)}", file=sys.stderr, flush=True)
        return periods

    def _period(self, reading: Reading, took: float) -> Period:
        counts = reading.counts
        values = {
            "submits/s": reading.acknowledged / took,
            "steps/s": counts["executions"] / took,
            "held back": counts["times held back"],
            "slots given up": counts["slots given up"],
        }
        for name in LATENCIES:
            values[f"{name} p50"] = reading.quantile(name, 0.5)
            values[f"{name} p99"] = reading.quantile(name, 0.99)
        database = self.root / "db" / "cache.db"
        values["db bytes"] = database.stat().st_size
        values["wal bytes"] = database.with_name("cache.db-wal").stat().st_size
        with looking_at(self.root) as connection:
            values["finished rows"] = connection.execute(
                f"SELECT count(*) FROM {JOB} INDEXED BY taquba_job_finished WHERE finished_ms IS NOT NULL"
            ).fetchone()[0]
            oldest = connection.execute(
                f"SELECT min(expires_ms) FROM {JOB} INDEXED BY taquba_job_expiry WHERE expires_ms IS NOT NULL"
            ).fetchone()[0]
        values["sweep lag"] = 0.0 if oldest is None else max(0.0, time.time() - oldest / 1000)
        resources = {name: resources_of(person.pid) for name, person in self.people.items()}
        return Period(values, {name: person.pid for name, person in self.people.items()}, resources)

    def drain(self) -> None:
        """Have the clients stop, and wait until nothing is left to do but what waits."""
        self._end("client")
        deadline = time.monotonic() + _LIMIT
        while left := self._left():
            assert time.monotonic() < deadline, f"never came to an end, left over: {left}"
            time.sleep(0.1)

    def _left(self) -> dict[str, int]:
        queues = self.queues()
        left = {
            f"{status} in {name}": queues[name][status]
            for name in (LIVE, LIVE + LANE_SUFFIX)
            for status in ("pending", "claimed", "scheduled")
        }
        left[f"scheduled in {LIVE}"] -= self._schedule.waiting // 2
        return {what: number for what, number in left.items() if number}

    def stop(self) -> None:
        self._end("worker")

    def _end(self, role: str) -> None:
        for name, person in self.people.items():
            if name.startswith(role):
                # A successor that has just been started would die of the signal.
                wait_until(lambda: "ready" in person.output, f"the start of {name}", _LIMIT)  # noqa: B023
                person.signal(signal.SIGTERM)
                code = person.ended(_LIMIT)
                assert code == 0, f"{name} ended with {code}: {person.errors}"

    # -- looking -----------------------------------------------------------------------------------------------

    def reading(self) -> Reading:
        return Reading.of(list(self.meters.values()))

    def queues(self) -> dict[str, dict[str, int]]:
        """Return the counters of each queue, as the store has them."""
        with looking_at(self.root) as connection:
            return {row["name"]: dict(row) for row in connection.execute(f"SELECT * FROM {QUEUE}")}

    def errors(self) -> Iterator[str]:
        """Return the lines that the processes have logged."""
        for path in sorted(self._directory.glob("stderr-*")):
            for line in path.read_text().splitlines():
                yield f"{path.name}: {line}"


def resources_of(pid: int) -> dict[str, float]:
    """Return the resident memory in bytes, the threads and the descriptors of a process; nothing if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return {}
    fields = dict(line.split(":", 1) for line in lines)
    if "VmRSS" not in fields:
        return {}
    return {"rss": int(fields["VmRSS"].split()[0]) * 1024, "threads": int(fields["Threads"]), "fds": descriptors}


class Cpu(NamedTuple):
    """Seconds of all cores: at work, idle, and taken away by the host, since the machine began."""

    busy: float
    idle: float
    steal: float

    @classmethod
    def now(cls) -> Cpu:
        with open("/proc/stat") as file:
            user, nice, system, idle, iowait, irq, softirq, steal = map(int, file.readline().split()[1:9])
        ticks = os.sysconf("SC_CLK_TCK")
        return cls((user + nice + system + irq + softirq) / ticks, (idle + iowait) / ticks, steal / ticks)

    def since(self, other: Cpu) -> Cpu:
        return Cpu(*(now - then for now, then in zip(self, other, strict=True)))

    @property
    def all(self) -> float:
        return sum(self) or 1.0


def probe(path: Path) -> float:
    """Return the seconds that a few synced writes and a computation take now: what the machine gives, without us."""
    began = time.perf_counter()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for _ in range(20):
        os.write(fd, bytes(4096))
        os.fdatasync(fd)
    os.close(fd)
    sum(number * number for number in range(100_000))
    return time.perf_counter() - began


def _line(period: Period) -> str:
    values = period.values
    latencies = ", ".join(f"{name} {values[f'{name} p50']:.1f}/{values[f'{name} p99']:.1f} ms" for name in LATENCIES)
    memory = max((each["rss"] for each in period.resources.values() if each), default=0)
    return (
        f"{values['submits/s']:.0f} submits/s, {values['steps/s']:.0f} steps/s, {values['runs/s']:.0f} runs/s ended; "
        f"p50/p99 {latencies}; db {values['db bytes'] / 2**20:.1f} MiB, WAL {values['wal bytes'] / 2**20:.1f} MiB, "
        f"{values['finished rows']:.0f} finished rows, sweep lag {values['sweep lag']:.1f} s, "
        f"RSS up to {memory / 2**20:.0f} MiB, {values['kills']:.0f} kills, held back {values['held back']:.0f}, "
        f"probe {values['probe'] * 1000:.0f} ms, CPU {values['CPU ms/run']:.2f} ms a run, idle {values['idle']:.0%},"
        f" stolen {values['steal']:.0%}"
    )


# -- the verdicts ------------------------------------------------------------------------------------------------------


def _judge(site: Site, figures: Figures, schedule: Schedule, peak: float, periods: list[Period]) -> None:
    """Is it flat, and is it bounded?"""
    judged = periods[max(1, len(periods) // 10) :] or periods  # after warm-up
    third = max(1, len(judged) // 3)
    first, last = judged[:third], judged[-third:]
    is_long = schedule.seconds >= _LONG_ENOUGH * 60
    figures.notes.append(
        f"peak {peak:.0f} runs of {STEPS} steps a second, loaded at {peak * SHARE:.0f}; {schedule.waiting} runs wait,"
        f" half of them scheduled for tomorrow, half in a queue that nobody serves; kept {KEEP:.0f} s after"
        f" their end; {len(periods)} periods of {schedule.period:.0f} s, a kill every {schedule.kill_interval:.0f} s,"
        " of any but the first worker and the first client"
    )
    figures.notes.append(
        "submit: the call; claim: from the call to the beginning of step 0; settle: from the return of a step to the"
        " beginning of the next one or the hook, so its commit and the claim after it; repeated attempts left out"
    )
    _judge_drift(figures, first, last, is_judged=is_long)
    for period in judged:
        wal, lag = period.values["wal bytes"], period.values["sweep lag"]
        figures.expect("the WAL is bounded", wal < _WAL_BYTES, f"it has {wal / 2**20:.0f} MiB")
        figures.expect("the sweep keeps up", lag < _SWEEP_LAG, f"it is {lag:.0f} s behind")
        for name, used in period.resources.items():
            for what, most in (("threads", 2 * CONCURRENCY), ("fds", 64)):
                holds = used.get(what, 0) <= most
                figures.expect(f"{what} are bounded", holds, f"{name} has {used.get(what)}")
    for name, slack in (("finished rows", 1_000.0), ("db bytes", float(8 << 20))):
        _judge_growth(figures, name, [each.values[name] for each in first], [each.values[name] for each in last],
                      slack=slack, is_judged=is_long)  # fmt: skip
    for name in ("worker-0", "client-0"):
        for what, slack in (("rss", float(16 << 20)), ("threads", 2.0), ("fds", 4.0)):
            then, now = ([each.resources[name].get(what, 0.0) for each in some] for some in (first, last))
            _judge_growth(figures, f"{what} of {name}", then, now, slack=slack, is_judged=is_long)


def _judge_drift(figures: Figures, first: list[Period], last: list[Period], *, is_judged: bool) -> None:
    """Compare two thirds: rates of all their periods, latencies of those in which the line did not grow too long.

    While clients are held back, a latency says how long the line is allowed to be, and nothing of the store.
    """
    machine = _median(last, "probe") / _median(first, "probe")
    cpu = ", ".join(
        f"{name} {_median(first, name):.2f} -> {_median(last, name):.2f}" for name in ("CPU ms/run", "idle", "steal")
    )
    free_first, free_last = ([each for each in some if not each.values["held back"]] for some in (first, last))
    drifts = []
    for name in ("submits/s", "steps/s", "runs/s", *(f"{each} {p}" for each in LATENCIES for p in ("p50", "p99"))):
        is_rate = name.endswith("/s")
        if not is_rate and not (free_first and free_last):
            continue
        then = _median(first if is_rate else free_first, name)
        now = _median(last if is_rate else free_last, name)
        worse = (then / now if is_rate else now / then) if then and now else float("inf")
        drifts.append(f"{name} {then:.1f} -> {now:.1f}")
        tolerance = _TOLERANCE_AT_P99 if name.endswith("p99") else _TOLERANCE
        if is_judged:
            holds = min(worse, worse / machine) <= tolerance
            figures.expect("flat", holds, f"{name} went from {then:.1f} to {now:.1f}, the probe by {machine:.2f}")
    figures.notes.append(
        f"medians of the first and the last third: {', '.join(drifts)}; the machine's probe by {machine:.2f},"
        f" its {cpu}; clients"
        f" held back in {len(first) - len(free_first)} and {len(last) - len(free_last)} of {len(first)} periods;"
        + (f" tolerated: {_TOLERANCE} x, {_TOLERANCE_AT_P99} x at p99" if is_judged else " too short to judge")
    )


def _median(periods: list[Period], name: str) -> float:
    return statistics.median(each.values[name] for each in periods)


def _judge_growth(
    figures: Figures, name: str, then: list[float], now: list[float], *, slack: float, is_judged: bool
) -> None:
    figures.notes.append(f"{name}: at most {max(then):.0f} in the first third, {max(now):.0f} in the last")
    if is_judged:
        holds = max(now) <= _GROWTH * max(then) + slack
        figures.expect("bounded", holds, f"{name} grew from {max(then):.0f} to {max(now):.0f}")


#: What a worker says that takes back a step whose worker was killed.
_OF_THE_KILLED: Final = "is tried again: the process that ran it died"


def _account(site: Site, figures: Figures, schedule: Schedule) -> None:
    """Account for every run: by counters for all, by the log and the checker for the sample."""
    reading, queues = site.reading(), site.queues()
    counts, live, lane = reading.counts, queues[LIVE], queues[LIVE + LANE_SUFFIX]
    begun, ended, kills = reading.begun, live["done"], site.faults["SIGKILL of a worker"]
    most = begun + counts["repeated submits that were new"]
    figures.lost += max(0, reading.acknowledged - ended)
    figures.doubled += max(0, ended - most)
    figures.expect("every submit ended once", begun <= ended <= most and reading.acknowledged == begun,
                   f"{begun} begun, {reading.acknowledged} acknowledged, {ended} ended, of at most {most}")  # fmt: skip
    figures.expect("no dead letter", live["dead"] == lane["dead"] == live["cancelled"] == 0, f"{live} {lane}")
    figures.expect("one notification an ending", lane["done"] == ended, f"{ended} ended, {lane['done']} told")
    figures.expect("trails", counts["wrong trails"] == 0, f"{counts['wrong trails']} steps met a wrong trail")
    figures.expect("endings", counts["wrong endings"] == 0, f"{counts['wrong endings']} hooks met a wrong outcome")
    spare = kills * CONCURRENCY
    for name, number in (("executions", STEPS * ended), ("hooks", ended)):
        holds = number <= counts[name] <= number + spare
        figures.expect(f"{name} counted", holds, f"{counts[name]}, not {number} and at most {spare} after kills")
    holds = counts["first attempts"] <= STEPS * ended
    figures.expect("first attempts", holds, f"{counts['first attempts']} for {STEPS * ended} steps")
    _check_waiting(site, figures, schedule)
    _check_sample(site, figures, schedule)
    lines = list(site.errors())
    logged = [line for line in lines if _OF_THE_KILLED not in line]
    figures.expect("nothing to warn about", not logged, f"{len(logged)} lines, first {logged[:3]}")
    # A worker that takes back may be killed before it tells.
    told = len(lines) - len(logged)
    figures.expect("steps of the killed are told", told <= spare, f"{told} lines, at most {spare} after kills")
    figures.acknowledged = reading.acknowledged + schedule.waiting
    figures.notes.append(
        f"{ended} runs ended, all counted, {counts['executions'] - STEPS * ended} executions repeated;"
        f" {counts['repeated submits']} submits were cut short by a kill and repeated,"
        f" {counts['repeated submits that were new']} of them new; one run in {schedule.sample} was logged in full"
    )


def _check_waiting(site: Site, figures: Figures, schedule: Schedule) -> None:
    """None of those that wait is lost, touched, or out of its place."""
    for name, status in ((LIVE, "scheduled"), (WAITING, "pending")):
        with looking_at(site.root) as connection:
            rows = connection.execute(
                f"""SELECT run_id, attempts, step, ordinal FROM {JOB} WHERE status = ? AND queue =
                   (SELECT id FROM {QUEUE} WHERE name = ?) ORDER BY priority, place""",
                (status, name),
            ).fetchall()
        wanted = [(f"waits-{number}", 0, 0, 0) for number in range(schedule.waiting // 2)]
        figures.lost += len({run for run, *_ in wanted} - {row["run_id"] for row in rows})
        holds = [tuple(row) for row in rows] == wanted
        figures.expect("those that wait keep their place", holds, f"{len(rows)} of {len(wanted)} are {status}")


def _check_sample(site: Site, figures: Figures, schedule: Schedule) -> None:
    events = read(site.journal.path)
    figures.add(check(site.root, events, is_idle=False))
    told = {event["run"] for event in events if event["event"] == "hook"}
    runs = {event["run"] for event in events if event["event"] == "acknowledged"}
    untold = runs - told
    figures.lost += len(untold)
    figures.expect("told at least once", not untold, f"{len(untold)} of {len(runs)} sampled runs, {sorted(untold)[:3]}")
    figures.notes.append(f"{len(runs)} sampled runs, {len(events)} events in the log")
