"""Programs that end in one way or another while work goes on; run as ``exits STORE LOG SCENARIO``."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from taquba_workflow_sync import (
    Claim,
    Continue,
    JobRecord,
    Queue,
    QueueConfig,
    Step,
    StepOutcome,
    StorageError,
    Succeed,
    TaqubaError,
    WorkflowClient,
    WorkflowRuntime,
    run_worker,
)
from tests.processes.harness import Witness, say
from tests.processes.plans import PlannedRunner, planned
from tests.support import PATIENCE, wait_until

SIGNALS = 3000
LONG_LEASE = QueueConfig(lease_duration=3600, retry_backoff_base=0)


def wait_for_line() -> None:
    sys.stdin.readline()


# -- runtimes that nobody stops ------------------------------------------------------------------------------------


def forgotten_idle(queue: Queue, witness: Witness) -> None:
    runtime = WorkflowRuntime(queue, PlannedRunner(witness), say)
    runtime.start()
    say("result", runtime.submit(planned("r", "go go")).result(timeout=PATIENCE).decode())


def forgotten_busy(queue: Queue, witness: Witness) -> None:
    """End while threads are in the middle of a backlog that would take them far longer than any test waits."""

    def run_step(step: Step) -> StepOutcome:
        time.sleep(0.002)
        witness.note("begin", step.run_id, step.step_number, step.attempts, os.getpid())
        return Continue() if step.step_number < 9 else Succeed()

    runtime = WorkflowRuntime(queue, run_step, max_concurrent_steps=8)
    runtime.submit_many([planned(f"r{number}", "") for number in range(3000)])
    runtime.start()
    wait_until(lambda: len(witness.lines("begin")) > 50, "a busy runtime")


def forgotten_busy_and_a_queue_closed(queue: Queue, witness: Witness) -> None:
    """The same, but the ``with Queue`` block is left."""
    with queue:
        forgotten_busy(queue, witness)


def raises_while_busy(queue: Queue, witness: Witness) -> None:
    forgotten_busy(queue, witness)
    raise SystemExit(3)


# -- signals -------------------------------------------------------------------------------------------------------


def run_with_an_event(queue: Queue, witness: Witness) -> None:
    """``run(shutdown)``, whose Event the program's own signal handler sets."""
    shutdown = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: shutdown.set())
    runtime = WorkflowRuntime(queue, PlannedRunner(witness))
    runtime.submit(planned("first", "go"))

    def say_when_running() -> None:
        runtime.wait("first", timeout=PATIENCE)
        say("running")

    threading.Thread(target=say_when_running).start()
    runtime.run(shutdown)
    say("returned")
    queue.close()


def run_under_a_storm_of_signals(queue: Queue, witness: Witness) -> None:
    """A handler that sets and clears the Event again and again; a wait inside that Event would deadlock."""
    shutdown = threading.Event()
    heard = 0

    def handler(*_: object) -> None:
        nonlocal heard
        heard += 1
        shutdown.set()
        if heard < SIGNALS:
            shutdown.clear()
            signal.setitimer(signal.ITIMER_REAL, 0.0003)  # one at a time: never a handler within a handler

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0003)
    WorkflowRuntime(queue, PlannedRunner(witness)).run(shutdown)
    run_worker(queue, "mail", lambda job, claim: None, shutdown=shutdown)
    say("returned", heard)
    queue.close()


def graceful_run(queue: Queue, witness: Witness) -> None:
    """``run(handle_signals=True)`` with a grace; the step that runs never returns."""
    runtime = WorkflowRuntime(queue, PlannedRunner(witness), shutdown_grace=0.5)
    runtime.submit(planned("r", "hold"))
    runtime.run(handle_signals=True)
    say("returned")
    os._exit(0)


def never_returns(queue: Queue, witness: Witness) -> None:
    """A step that never returns: the stop is bounded, the claim is kept for as long as the process lives."""
    runtime = WorkflowRuntime(queue, PlannedRunner(witness), max_concurrent_steps=2, shutdown_grace=0.3)
    runtime.start()
    handle = runtime.submit(planned("r", "hold"))
    wait_until(lambda: witness.lines("begin"), "the step's beginning")
    began = time.monotonic()
    is_over = runtime.stop()
    say("stopped", is_over, time.monotonic() - began)
    began = time.monotonic()
    is_over = runtime.stop(timeout=0.1)
    say("stopped-again", is_over, time.monotonic() - began)
    status = handle.status()
    say("state", status.state if status else None)
    queue.close()
    say("closed")
    wait_for_line()
    os._exit(0)


def interrupted_callers(queue: Queue, witness: Witness) -> None:
    """SIGALRM raises in the main thread, at any instant of its submits, beside threads that submit, too."""

    class Interrupt(BaseException):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupt

    client = WorkflowClient(queue)
    is_over = threading.Event()
    failures: list[BaseException] = []

    def go_on(name: int) -> None:
        number = 0
        try:
            while not is_over.is_set():
                client.submit(planned(f"t{name}-{number}", "go"))
                witness.note("ack", f"t{name}-{number}")
                number += 1
        except Exception as error:
            failures.append(error)

    def submit_until_interrupted(number: int, after: float) -> int:
        try:
            try:
                signal.setitimer(signal.ITIMER_REAL, after)
                while True:
                    client.submit(planned(f"main-{number}", "go"))
                    assert client.status(f"main-{number}") is not None
                    number += 1
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except Interrupt:
            return number

    threads = [threading.Thread(target=go_on, args=(each,)) for each in range(3)]
    for thread in threads:
        thread.start()
    signal.signal(signal.SIGALRM, interrupt)
    number = 0
    try:
        for interrupted in range(200):
            number = submit_until_interrupted(number, 0.0005 + interrupted % 20 * 0.0003)
            client.submit(planned(f"main-{number}", "go"))  # repeated by name, as after any error
            number += 1
    finally:
        is_over.set()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "a caller was never answered"
    assert not failures, failures
    for each in range(8):
        assert client.status(f"main-{each}") is not None
    if os.fork() == 0:  # waits for whoever uses the store, which nobody does
        os._exit(0)
    os.wait()
    say("main-submitted", number)
    queue.close()


# -- bare queues ---------------------------------------------------------------------------------------------------


def bare_worker(queue: Queue, witness: Witness) -> None:
    """Work on bare jobs until interrupted; a job that says ``hold`` holds on until the test lets go."""
    go = witness.path.parent / "go-bare"

    def process(job: JobRecord, claim: Claim) -> None:
        say("processing", job.id)
        deadline = time.monotonic() + 2 * PATIENCE
        while job.payload == b"hold" and not go.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        witness.note("processed", job.id)

    try:
        run_worker(queue, "mail", process)
    except KeyboardInterrupt:
        say("interrupted")
    queue.close()


def enqueue_when_told(queue: Queue, witness: Witness) -> None:
    say("ready")
    wait_for_line()
    queue.enqueue("mail", b"from elsewhere")
    queue.close()


# -- stores --------------------------------------------------------------------------------------------------------


def holds_a_handle(queue: Queue, witness: Witness) -> None:
    say("open")
    wait_for_line()
    queue.close()


def database_deleted_under_it(queue: Queue, witness: Witness) -> None:
    """Work on while the test deletes the store; say what each call does."""
    runtime = WorkflowRuntime(queue, PlannedRunner(witness))
    runtime.start()
    runtime.submit(planned("before", "go")).result(timeout=PATIENCE)
    say("working")
    wait_for_line()
    for name, call in (
        ("submit", lambda: runtime.submit(planned("after", "go"))),
        ("status", lambda: runtime.status("before")),
        ("enqueue", lambda: queue.enqueue("mail", b"")),
        ("open", lambda: Queue.open(queue.path.parent / "elsewhere")),
    ):
        try:
            call()
        except StorageError:
            say(name, "StorageError")
        except TaqubaError as error:
            say(name, type(error).__name__)
        else:
            say(name, "returned")
    say("stopped", runtime.stop(timeout=PATIENCE))
    os._exit(0)


SCENARIOS: dict[str, Callable[[Queue, Witness], None]] = {
    each.__name__: each
    for each in (
        forgotten_idle, forgotten_busy, forgotten_busy_and_a_queue_closed, raises_while_busy, run_with_an_event,
        run_under_a_storm_of_signals, graceful_run, never_returns, interrupted_callers, bare_worker,
        enqueue_when_told, holds_a_handle, database_deleted_under_it,
    )
}  # fmt: skip


def main() -> None:
    store, log, scenario, *options = sys.argv[1:]
    queue = Queue.open(store, default_config=LONG_LEASE, exclusive="exclusive" in options)
    SCENARIOS[scenario](queue, Witness(Path(log)))


if __name__ == "__main__":
    main()
