"""The processes of the long form: run as ``python -m tests.faults.load.crew worker|client STORE LOG METER CONTROL``.

Everything is counted; of a sample of the runs, which the header ``plan`` marks, everything is noted in the log as well.
"""

from __future__ import annotations

import argparse
import logging
import signal
import threading
import time
from pathlib import Path

from taquba_workflow_sync import (
    Continue,
    Queue,
    QueueConfig,
    RunOutcome,
    RunSpec,
    Step,
    StepOutcome,
    StorageError,
    Succeed,
    WorkflowClient,
    WorkflowRuntime,
)
from tests.faults.checker import digest
from tests.faults.journal import Journal
from tests.faults.load.meter import THREADS, Meter, Words
from tests.processes.harness import say, say_when_ready

STEPS = 3
PLAN = " ".join(["go"] * STEPS)
CONCURRENCY = 16

#: Clients rest while more runs than that are in line: nothing is measured of a line that only grows.
LONGEST_LINE = 400
CONFIG = QueueConfig(max_attempts=10, retry_backoff_base=0.0)

#: Seconds that an ended run is kept; the least there is.
KEEP = 60.0

#: Every so manieth run sleeps in its steps, so that kills meet runners, too, and not only what is around them.
_NAPS = 50
_NAP = 0.02


class Control(Words):
    """What the supervisor tells the clients: runs/s of each (0: as fast as it goes), and the sample."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, 2)

    @property
    def rate(self) -> float:
        return self.words[0] / 1000

    @rate.setter
    def rate(self, number: float) -> None:
        self.words[0] = int(number * 1000)

    @property
    def sample(self) -> int:
        """One run in so many is noted in full."""
        return self.words[1]

    @sample.setter
    def sample(self, number: int) -> None:
        self.words[1] = number


# -- the worker --------------------------------------------------------------------------------------------------------


class CountingRunner:
    """Three steps that pass on the trail and the instant of their return."""

    def __init__(self, meter: Meter, journal: Journal) -> None:
        self._meter = meter
        self._journal = journal

    def run_step(self, step: Step) -> StepOutcome:
        now = time.monotonic_ns()
        me = {"run": step.run_id, "job": step.job_id, "step": step.step_number, "attempt": step.attempts}
        is_sampled = "plan" in step.headers
        if is_sampled:
            self._journal.note("begin", **me, max=step.max_attempts)
        trail, _, returned_at = step.payload.partition(b";")
        with self._meter.lock:
            self._meter.count("executions")
            if trail != trail_of(step.step_number):
                self._meter.count("wrong trails")
            if step.attempts == 1:  # a later one waited for a kill to be noticed
                self._meter.count("first attempts")
                if step.step_number == 0:
                    self._meter.observe("claim", now - int(step.headers["at"]))
                else:
                    self._meter.observe("settle", now - int(returned_at))
        if int(step.run_id.rpartition("-")[2]) % _NAPS == 0:
            time.sleep(_NAP)
        is_last = step.step_number + 1 == STEPS
        if is_sampled:
            outcome = "succeed" if is_last else "continue"
            self._journal.note("end", **me, outcome=outcome, is_set=step.cancel_token.is_set())
        payload = trail_of(step.step_number + 1) + b";%d" % time.monotonic_ns()
        return Succeed(payload) if is_last else Continue(payload)

    def tell(self, outcome: RunOutcome) -> None:
        """Be the hook."""
        trail, _, returned_at = (outcome.result or b"").partition(b";")
        with self._meter.lock:
            self._meter.count("hooks")
            if outcome.status != "succeeded" or trail != trail_of(STEPS):
                self._meter.count("wrong endings")
            else:
                self._meter.observe("settle", time.monotonic_ns() - int(returned_at))
        if "plan" in outcome.headers:
            self._journal.note(
                "hook",
                run=outcome.run_id,
                job=outcome.job_id,
                termination=outcome.termination,
                status=outcome.status,
                digest=digest(outcome.result, outcome.error),
            )


def trail_of(steps: int) -> bytes:
    """Return what so many steps leave behind."""
    return b" ".join(b"%d" % number for number in range(steps))


def work(store: Path, journal: Journal, meter: Meter) -> None:
    """Run what there is until SIGTERM."""
    with Queue.open(store, default_config=CONFIG) as queue:
        runner = CountingRunner(meter, journal)
        runtime = WorkflowRuntime(queue, runner, runner.tell, max_concurrent_steps=CONCURRENCY)
        threading.Thread(target=say_when_ready, daemon=True).start()
        runtime.run(handle_signals=True)


# -- the client --------------------------------------------------------------------------------------------------------


class Submitter:
    """One thread that submits at its share of the rate; the first thing it does is what its predecessor left open."""

    def __init__(self, client: WorkflowClient, name: str, thread: int, meter: Meter, journal: Journal) -> None:
        self._client = client
        self._name = f"{name}-{thread}"
        self._thread = thread
        self._meter = meter
        self._journal = journal

    @property
    def has_something_open(self) -> bool:
        """Whether of the last submit it is not known what became of it."""
        return self._meter.begun(self._thread) > self._meter.acknowledged(self._thread)

    def submit(self, sample: int) -> None:
        """Submit the next run, or again the one that is open."""
        meter, number = self._meter, self._meter.acknowledged(self._thread)
        is_repeated = self.has_something_open
        meter.begin(self._thread, number + 1)
        run_id, is_sampled = f"{self._name}-{number}", number % sample == 0
        headers = {"at": str(time.monotonic_ns())}
        if is_sampled:
            headers["plan"] = PLAN
            self._journal.note("submitting", run=run_id, plan=PLAN)
        began = time.monotonic_ns()
        try:
            handle = self._client.submit(RunSpec(run_id=run_id, headers=headers))
        except StorageError:
            with meter.lock:
                meter.count("unknown submits")
            return
        took = time.monotonic_ns() - began
        if is_sampled:
            self._journal.note("acknowledged", run=run_id, job=handle.first_job_id)
        with meter.lock:
            meter.observe("submit", took)
            if is_repeated:
                meter.count("repeated submits")
                meter.count("repeated submits that were new", int(handle.newly_submitted))
        meter.acknowledge(self._thread, number + 1)


def ask(store: Path, journal: Journal, meter: Meter, control: Control, options: argparse.Namespace) -> None:
    """Submit until SIGTERM, and rest while the line is too long."""
    is_over, is_held = threading.Event(), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: is_over.set())
    with Queue.open(store, default_config=CONFIG) as queue:
        client = WorkflowClient(queue, keep_runs=KEEP)

        def go_on(thread: int) -> None:
            submitter = Submitter(client, options.name, thread, meter, journal)
            while submitter.has_something_open:
                submitter.submit(control.sample)
            slot = time.monotonic()
            while not is_over.is_set():
                if is_held.is_set():
                    time.sleep(0.02)
                    continue
                rate = control.rate
                if rate:
                    slot += THREADS / rate
                    late = time.monotonic() - slot
                    if late < 0:
                        time.sleep(-late)
                    elif late > 1:  # a debt would be paid back in a burst over the rate
                        with meter.lock:
                            meter.count("slots given up", int(late * rate / THREADS))
                        slot = time.monotonic()
                submitter.submit(control.sample)
            while submitter.has_something_open:
                submitter.submit(control.sample)

        threads = [threading.Thread(target=go_on, args=(each,)) for each in range(THREADS)]
        for thread in threads:
            thread.start()
        say("ready")
        while not is_over.is_set():
            # Polled, not waited on: the handler may run in the middle of a wait.
            time.sleep(0.05)
            if queue.stats(client.queue_name).pending <= LONGEST_LINE:
                is_held.clear()
            elif not is_held.is_set():
                is_held.set()
                with meter.lock:
                    meter.count("times held back")
        for thread in threads:
            thread.join()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["worker", "client"])
    parser.add_argument("store", type=Path)
    parser.add_argument("log", type=Path)
    parser.add_argument("meter", type=Path)
    parser.add_argument("control", type=Path)
    parser.add_argument("--name", default="run")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    journal, meter = Journal(options.log), Meter(options.meter)
    if options.role == "worker":
        work(options.store, journal, meter)
    else:
        ask(options.store, journal, meter, Control(options.control), options)


if __name__ == "__main__":
    main()
