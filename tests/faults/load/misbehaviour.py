"""Runners that do what no runner should; run as ``python -m tests.faults.load.misbehaviour STORE LOG SCENARIO``.

The run ``bad`` misbehaves in its first step, and five others go on beside it.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from taquba_workflow_sync import (
    Queue,
    QueueConfig,
    RunOutcome,
    Step,
    StepOutcome,
    StorageError,
    Succeed,
    WorkflowClient,
    WorkflowRuntime,
)
from tests.faults.journal import Journal
from tests.faults.lab import LabRunner, hook_of, submit
from tests.processes.harness import say
from tests.support import PATIENCE, wait_until

BAD = "bad"
GOOD = [f"good-{number}" for number in range(5)]
PLAN = "go go go"
BROOD = 40
_THREADS = 4

Misdeed = Callable[[Step, "Runtime"], StepOutcome | None]


class Misbehaving(LabRunner):
    """Does as planned, but for one run's first step, which does its misdeed first; an outcome of that counts."""

    def __init__(self, journal: Journal, misdeed: Misdeed) -> None:
        super().__init__(journal)
        self.journal = journal
        self.misdeed = misdeed
        self.runtime: Runtime | None = None
        self.are_all_in = threading.Event()
        self.ended: set[str] = set()
        self._tell = hook_of(journal)

    def hook(self, outcome: RunOutcome) -> None:
        self._tell(outcome)
        self.ended.add(outcome.run_id)

    def _do(self, step: Step) -> StepOutcome:
        if step.run_id == BAD and step.step_number == 0:
            assert self.runtime is not None and self.are_all_in.wait(PATIENCE)
            outcome = self.misdeed(step, self.runtime)
            if outcome is not None:
                return outcome
        return super()._do(step)


class Runtime(WorkflowRuntime):
    """One that a misdeed can reach its queue and its runner by."""

    def __init__(self, queue: Queue, runner: Misbehaving, *, grace: float | None = PATIENCE) -> None:
        super().__init__(queue, runner, runner.hook, max_concurrent_steps=_THREADS, shutdown_grace=grace)
        self.runner = runner
        runner.runtime = self


def start(queue: Queue, journal: Journal, misdeed: Misdeed) -> Runtime:
    """Start a runtime, the bad run, and then the good ones."""
    runner = Misbehaving(journal, misdeed)
    runtime = Runtime(queue, runner)
    runtime.start()
    submit(runtime, journal, BAD, PLAN)
    for run in GOOD:
        submit(runtime, journal, run, PLAN)
    runner.are_all_in.set()
    return runtime


def see_the_others_through(runtime: WorkflowClient) -> None:
    """Wait for the good runs; nothing that the bad one did may keep them."""
    for run in GOOD:
        outcome = runtime.wait(run, timeout=PATIENCE)
        assert outcome.result == b"0 1 2", outcome


def tell_of_the_bad(runtime: Runtime) -> None:
    """Wait for its end, and print how it came and of what its attempts died."""
    outcome = runtime.wait(BAD, timeout=PATIENCE)
    for attempt in runtime.queue.attempt_history(outcome.job_id):
        if attempt.error:
            say("error", attempt.error)
    say("bad", outcome.status, (outcome.result or b"").decode() or outcome.error)


def whole(queue: Queue, journal: Journal, misdeed: Misdeed) -> None:
    """Everything ends in the process in which it happened, and that process ends well."""
    runtime = start(queue, journal, misdeed)
    see_the_others_through(runtime)
    tell_of_the_bad(runtime)
    assert runtime.stop() is True
    queue.close()


# -- what goes on as if nothing were -----------------------------------------------------------------------------------


class Odd(BaseException):
    pass


class Unspeakable(BaseException):
    def __str__(self) -> str:
        raise ValueError("it has no name")


def raises_one_thing_after_another(step: Step, runtime: Runtime) -> None:
    match step.attempts:
        case 1:
            raise KeyboardInterrupt
        case 2:
            sys.exit("enough")
        case 3:
            raise GeneratorExit
        case 4:
            raise Odd("very")
        case 5:
            raise StopIteration
        case 6:
            raise Unspeakable
        case 7:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a ValueError: this is not the main thread
        case 8:
            endless(0)


def endless(depth: int) -> int:
    return endless(depth + 1) + 1


def lowers_the_recursion_limit(step: Step, runtime: Runtime) -> None:
    sys.setrecursionlimit(100)
    if step.attempts == 1:
        endless(0)


def stops_the_clock(step: Step, runtime: Runtime) -> None:
    time.time = lambda: 0.0
    time.time_ns = lambda: 0


def leaks_threads(step: Step, runtime: Runtime) -> None:
    for _ in range(200):
        threading.Thread(target=threading.Event().wait, daemon=True).start()


_hoard: list[object] = []


def leaks_memory(step: Step, runtime: Runtime) -> None:
    """Take what there is until there is no more, and keep it; the next attempt finds nothing at all."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + (256 << 20)
    if step.attempts == 1:
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    if step.attempts < 3:
        while True:
            _hoard.append(bytearray(8 << 20))


def raises_as_it_is_collected(step: Step, runtime: Runtime) -> None:
    class Bomb:
        def __del__(self) -> None:
            say("gone-off")
            raise RuntimeError("as it was collected")

    sys.unraisablehook = lambda unraisable: say("unraisable", type(unraisable.exc_value).__name__)
    step.headers["bomb"] = Bomb()  # type: ignore[assignment]  # it goes with the step, on a thread of the library


def submits_many_and_waits(step: Step, runtime: Runtime) -> None:
    """Submit many from inside a step, and wait there for the last of them."""
    journal = runtime.runner.journal
    for number in range(BROOD):
        submit(runtime, journal, f"child-{number}", PLAN)
    runtime.wait(f"child-{BROOD - 1}", timeout=PATIENCE)


def starts_another_runtime(step: Step, runtime: Runtime) -> None:
    journal = runtime.runner.journal
    other = WorkflowRuntime(runtime.queue, LabRunner(journal), hook_of(journal), max_concurrent_steps=2)
    with other:
        submit(other, journal, "of-the-other", PLAN)
        other.wait("of-the-other", timeout=PATIENCE)


def blocks_signals(step: Step, runtime: Runtime) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


# -- what ends in a way of its own -------------------------------------------------------------------------------------


def changes_directory(store: Path, journal: Journal) -> None:
    """A store opened by a relative path is the same one wherever its runner goes."""
    os.chdir(store.parent)

    def misdeed(step: Step, runtime: Runtime) -> None:
        os.mkdir("elsewhere")
        os.chdir("elsewhere")

    config = QueueConfig(retry_backoff_base=0.0, keep_done_jobs=86_400.0)
    with Queue.open(store.name, default_config=config) as queue:
        whole(queue, journal, misdeed)
        assert os.listdir(".") == [], "something was made beside the runner's new place"


def leaks_descriptors(store: Path, journal: Journal) -> None:
    """Every attempt but the last takes all there are, for good; a caller who needs one is told so."""

    def misdeed(step: Step, runtime: Runtime) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        if step.attempts < 3:
            while True:
                _hoard.append(os.open(os.devnull, os.O_RDONLY))

    with _opened(store) as queue:
        runtime = start(queue, journal, misdeed)
        wait_until(lambda: runtime.runner.ended >= {BAD, *GOOD}, "the end of every run")
        try:
            runtime.wait(BAD, timeout=PATIENCE)
            say("found")
        except StorageError as error:
            say("refused", error)
        for descriptor in _hoard:
            os.close(descriptor)  # type: ignore[arg-type]
        see_the_others_through(runtime)
        tell_of_the_bad(runtime)
        assert runtime.stop() is True


def exits_at_once(store: Path, journal: Journal) -> None:
    def misdeed(step: Step, runtime: Runtime) -> None:
        if step.attempts == 1:
            see_the_others_through(runtime)
            journal.note("killing", target=os.getpid())
            os._exit(7)

    with _opened(store) as queue:
        start(queue, journal, misdeed).wait(BAD, timeout=PATIENCE)


def closes_the_queue(store: Path, journal: Journal) -> None:
    """What it has come to is stored all the same; what waits is left for the next process."""

    def misdeed(step: Step, runtime: Runtime) -> None:
        if step.attempts == 1:
            runtime.queue.close()
            say("closed")

    queue = _opened(store)
    runtime = start(queue, journal, misdeed)
    wait_until(lambda: not queue.handle.has_loops, "the end of the runtime")
    assert runtime.stop(PATIENCE) is True


def blocks_for_ever(store: Path, journal: Journal) -> None:
    """A stop has its grace, and the process ends without it."""

    def misdeed(step: Step, runtime: Runtime) -> None:
        if step.attempts == 1:
            threading.Event().wait()

    queue = _opened(store)
    runtime = start(queue, journal, misdeed)
    see_the_others_through(runtime)
    say("stopped", runtime.stop(timeout=0.2))
    queue.close()
    journal.note("killing", target=os.getpid())
    os._exit(0)


def forks_and_lets_both_go_on(store: Path, journal: Journal) -> None:
    """The child forgets to end: it comes out of the runner as the parent does, with the parent's claim."""

    def misdeed(step: Step, runtime: Runtime) -> StepOutcome | None:
        pid = os.fork()
        if pid == 0:
            return Succeed(b"by the child")
        say("child", pid)
        return None

    with _opened(store) as queue:
        runtime = start(queue, journal, misdeed)
        see_the_others_through(runtime)
        tell_of_the_bad(runtime)
        assert runtime.stop() is True
        say("through")
        sys.stdin.readline()


def ends_on_a_signal(store: Path, journal: Journal) -> None:
    """A runner that blocks every signal in its thread does not keep the process from its drain."""
    with _opened(store) as queue:
        runner = Misbehaving(journal, blocks_signals)
        runtime = Runtime(queue, runner, grace=None)
        submit(runtime, journal, BAD, PLAN)
        runner.are_all_in.set()

        def end() -> None:
            wait_until(lambda: runtime.outcome(BAD) is not None, "the end of the bad run")
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=end).start()
        runtime.run(handle_signals=True)
        tell_of_the_bad(runtime)


def _opened(store: Path) -> Queue:
    return Queue.open(store, default_config=QueueConfig(retry_backoff_base=0.0, keep_done_jobs=86_400.0))


#: What ends in its process as if nothing were.
MISDEEDS: dict[str, Misdeed] = {
    each.__name__: each
    for each in (
        raises_one_thing_after_another, lowers_the_recursion_limit, stops_the_clock, leaks_threads, leaks_memory,
        raises_as_it_is_collected, submits_many_and_waits, starts_another_runtime,
    )
}  # fmt: skip

SCENARIOS: dict[str, Callable[[Path, Journal], None]] = {
    each.__name__: each
    for each in (
        leaks_descriptors, changes_directory, exits_at_once, closes_the_queue, blocks_for_ever,
        forks_and_lets_both_go_on, ends_on_a_signal,
    )
}  # fmt: skip


def main() -> None:
    store, journal, scenario = Path(sys.argv[1]), Journal(Path(sys.argv[2])), sys.argv[3]
    if scenario in MISDEEDS:
        whole(_opened(store), journal, MISDEEDS[scenario])
    else:
        SCENARIOS[scenario](store, journal)


if __name__ == "__main__":
    main()
