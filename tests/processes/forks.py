"""Programs that fork with an open store; run as ``forks STORE LOG SCENARIO``.

Each notes ``ack RUN`` after every submit that returned; the test, a third process, looks for all of them.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from taquba_workflow_sync import Queue, QueueConfig, Step, StoreInUseError, Succeed, WorkflowClient, WorkflowRuntime
from taquba_workflow_sync.ids import new_ulid
from tests.processes.harness import Witness, say
from tests.processes.plans import PlannedRunner, planned
from tests.support import PATIENCE

LONG_LEASE = QueueConfig(lease_duration=3600)


def submit(queue: Queue, witness: Witness, prefix: str, many: int) -> None:
    client = WorkflowClient(queue)
    for number in range(many):
        witness.note("ack", client.submit(planned(f"{prefix}-{number}", "go")).run_id)


def forked() -> int:
    """Fork; once more where filelock refuses because another thread forks at this very moment."""
    while True:
        try:
            return os.fork()
        except RuntimeError as error:
            if "filelock" not in str(error):
                raise


def fork(child: Callable[[], object]) -> int:
    """Fork; the child does its work and ends as a Python process does, finalizers and all. Returns its pid."""
    pid = forked()
    if pid == 0:
        child()
        sys.exit(0)
    return pid


def reap(*pids: int) -> None:
    """Wait for children and demand that they ended well, within the limit."""
    deadline = time.monotonic() + PATIENCE
    for pid in pids:
        while True:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                break
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                raise AssertionError(f"child {pid} hangs")
            time.sleep(0.002)
        assert os.waitstatus_to_exitcode(status) == 0, f"child {pid} ended with {os.waitstatus_to_exitcode(status)}"


def quick(child: Callable[[], object]) -> int:
    """Fork; the child does its work and is gone without a word, as multiprocessing's are."""
    pid = forked()
    if pid == 0:
        code = 1
        try:
            child()
            code = 0
        finally:
            os._exit(code)
    return pid


def wait_for_line() -> None:
    sys.stdin.readline()


@contextmanager
def load(queue: Queue, witness: Witness, threads: int = 4) -> Iterator[None]:
    """Submit from several threads for as long as the block runs."""
    is_over = threading.Event()
    failures: list[BaseException] = []

    def go_on(name: str) -> None:
        client = WorkflowClient(queue)
        number = 0
        try:
            while not is_over.is_set():
                run = client.submit(planned(f"{name}-{number}", "go")).run_id
                witness.note("ack", run)
                number += 1
        except BaseException as error:
            failures.append(error)

    crew = [threading.Thread(target=go_on, args=(f"load-{os.getpid()}-{each}",)) for each in range(threads)]
    for thread in crew:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        for thread in crew:
            thread.join()
    assert not failures, failures


# -- submitting ----------------------------------------------------------------------------------------------------


def both_go_on(store: Path, witness: Witness) -> None:
    with Queue.open(store) as queue:
        submit(queue, witness, "before", 10)
        child = fork(lambda: submit(queue, witness, "child", 30))
        submit(queue, witness, "parent", 30)
        reap(child)
        submit(queue, witness, "after", 10)


def parent_closes_first(store: Path, witness: Witness) -> None:
    queue = Queue.open(store)
    submit(queue, witness, "before", 10)

    def child() -> None:
        submit(queue, witness, "child", 10)
        say("child-works")
        wait_for_line()
        submit(queue, witness, "child-after", 30)
        queue.close()

    pid = fork(child)
    submit(queue, witness, "parent", 10)
    queue.close()
    say("parent-closed")
    reap(pid)


def parent_closes_first_and_the_child_was_idle(store: Path, witness: Witness) -> None:
    """The child's first use comes after the parent has closed, when nobody has the file open."""
    queue = Queue.open(store)
    submit(queue, witness, "before", 10)

    def child() -> None:
        wait_for_line()
        submit(queue, witness, "child-after", 30)

    pid = fork(child)
    submit(queue, witness, "parent", 10)
    queue.close()
    say("parent-closed")
    reap(pid)


def parent_exits_first(store: Path, witness: Witness) -> None:
    queue = Queue.open(store)
    submit(queue, witness, "before", 10)
    parent = os.getpid()

    def child() -> None:
        submit(queue, witness, "child", 10)
        say("child-works")
        while os.getppid() == parent:
            time.sleep(0.002)
        submit(queue, witness, "child-after", 30)
        say("child-done")

    fork(child)
    submit(queue, witness, "parent", 10)


def grandchildren(store: Path, witness: Witness) -> None:
    with Queue.open(store) as queue:

        def child() -> None:
            submit(queue, witness, "child", 10)
            grandchild = fork(lambda: submit(queue, witness, "grandchild", 10))
            submit(queue, witness, "child-beside", 10)
            reap(grandchild)

        reap(fork(child))
        submit(queue, witness, "parent", 10)


def under_load(store: Path, witness: Witness) -> None:
    with Queue.open(store) as queue, load(queue, witness):
        children = []
        for number in range(15):
            children.append(quick(lambda: submit(queue, witness, f"child-{number}", 3)))  # noqa: B023
            submit(queue, witness, f"between-{number}", 1)
        reap(*children)


def two_threads_fork_at_once(store: Path, witness: Witness) -> None:
    with Queue.open(store) as queue, load(queue, witness, threads=3):

        def forks(name: int) -> None:
            for number in range(8):
                reap(quick(lambda: submit(queue, witness, f"child-{name}-{number}", 2)))  # noqa: B023

        threads = [threading.Thread(target=forks, args=(each,)) for each in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(witness.lines("ack")) >= 32


def with_multiprocessing(store: Path, witness: Witness) -> None:
    context = multiprocessing.get_context("fork")
    with Queue.open(store) as queue, load(queue, witness):
        children = [context.Process(target=submit, args=(queue, witness, f"mp-{each}", 10)) for each in range(4)]
        for child in children:
            child.start()
        for child in children:
            child.join(PATIENCE)
            assert child.exitcode == 0, child.exitcode


def ids(store: Path, witness: Witness) -> None:
    """200 forks; parent and child make ids at the same moments, and every fourth puts in a job under one."""
    with Queue.open(store, durability="relaxed") as queue:
        made: list[str] = []
        for number in range(200):
            reader, writer = os.pipe()
            is_fourth = number % 4 == 0

            def child(pipe: int = writer, puts_in: bool = is_fourth) -> None:
                mine = [new_ulid() for _ in range(20)]
                if puts_in:
                    mine.append(queue.enqueue("ids", b""))
                os.write(pipe, " ".join(mine).encode())

            pid = quick(child)
            made += [new_ulid() for _ in range(20)]
            if is_fourth:
                made.append(queue.enqueue("ids", b""))
            os.close(writer)
            with open(reader) as pipe:
                made += pipe.read().split()
            reap(pid)
        assert len(made) == 200 * 40 + 50 * 2, len(made)
        assert len(set(made)) == len(made), "an id was made twice"
        assert queue.stats("ids").pending == 100


# -- running -------------------------------------------------------------------------------------------------------


def taquba_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("taquba")]


def runtime_of(queue: Queue, witness: Witness, concurrency: int = 4) -> WorkflowRuntime:
    return WorkflowRuntime(queue, PlannedRunner(witness), max_concurrent_steps=concurrency)


def runtime_runs_in_the_parent_only(store: Path, witness: Witness) -> None:
    queue = Queue.open(store, default_config=LONG_LEASE)
    runtime = runtime_of(queue, witness)
    runtime.start()
    runtime.submit(planned("by-parent", "go go")).result(timeout=PATIENCE)
    # Not the standard input: both processes read that, and either may take the other's line.
    parent_has_stopped, tell_child = os.pipe()

    def child() -> None:
        assert taquba_threads() == [], taquba_threads()
        runtime.submit(planned("from-child", "go go")).result(timeout=PATIENCE)
        say("parent-may-stop")
        os.read(parent_has_stopped, 1)
        assert runtime.stop() is True
        runtime.start()
        say("child", os.getpid())
        runtime.submit(planned("by-child", "go go")).result(timeout=PATIENCE)
        assert runtime.stop() is True
        queue.close()

    pid = fork(child)
    say("parent", os.getpid())
    wait_for_line()
    assert runtime.stop() is True
    os.write(tell_child, b"!")
    reap(pid)
    queue.close()


def child_never_stops_what_it_inherited(store: Path, witness: Witness) -> None:
    """A child that just leaves the parent's ``with`` blocks, or just ends, harms and hangs nothing."""
    with Queue.open(store, default_config=LONG_LEASE) as queue:
        with runtime_of(queue, witness) as runtime:
            runtime.submit(planned("first", "go")).result(timeout=PATIENCE)
            pid = os.fork()
            if pid:
                reap(pid)
                reap(fork(lambda: None))
                runtime.submit(planned("second", "go go")).result(timeout=PATIENCE)
    if pid == 0:
        sys.exit(0)


def forks_beside_a_busy_runtime(store: Path, witness: Witness) -> None:
    with Queue.open(store, default_config=LONG_LEASE) as queue:
        with runtime_of(queue, witness, concurrency=4) as runtime:
            handles = [runtime.submit(planned(f"busy-{number}", "go go go")) for number in range(40)]
            for number in range(20):
                reap(quick(lambda: submit(queue, witness, f"child-{number}", 1)))  # noqa: B023
            for handle in handles:
                handle.result(timeout=PATIENCE)
            for number in range(20):
                runtime.wait(f"child-{number}-0", timeout=PATIENCE)


def children_beside_a_claim(store: Path, witness: Witness) -> None:
    """A step runs in the parent; one child ends, one collects garbage, one closes, one is killed, one stays."""
    queue: Queue | None = Queue.open(store, default_config=LONG_LEASE)
    assert queue is not None
    runtime: WorkflowRuntime | None = runtime_of(queue, witness)
    assert runtime is not None
    runtime.start()
    handle = runtime.submit(planned("held", "hold"))
    while not witness.lines("begin"):
        time.sleep(0.002)

    def let_everything_go() -> None:
        nonlocal queue, runtime, handle
        del handle
        queue = runtime = None
        gc.collect()

    def use_and_close() -> None:
        assert queue is not None
        submit(queue, witness, "child", 1)
        queue.close()

    reap(quick(lambda: None), fork(lambda: None), fork(let_everything_go), fork(use_and_close))
    victim = quick(lambda: time.sleep(2 * PATIENCE))
    os.kill(victim, signal.SIGKILL)
    os.waitpid(victim, 0)
    quick(lambda: time.sleep(2 * PATIENCE))
    say("children-gone")
    wait_for_line()
    handle.result(timeout=PATIENCE)
    os._exit(0)


def fork_inside_a_step(store: Path, witness: Witness) -> None:
    with Queue.open(store, default_config=LONG_LEASE) as queue:

        def run_step(step: Step) -> Succeed:
            witness.note("begin", step.run_id, step.step_number, step.attempts, os.getpid())
            if step.run_id.startswith("outer"):
                reap(quick(lambda: submit(queue, witness, f"inner-{step.run_id}", 2)))
            return Succeed(str(os.getpid()).encode())

        with WorkflowRuntime(queue, run_step, max_concurrent_steps=3) as runtime:
            handles = [runtime.submit(planned(f"outer-{number}", "go")) for number in range(6)]
            for handle in handles:
                assert handle.result(timeout=PATIENCE) == str(os.getpid()).encode()
                for number in range(2):
                    runtime.wait(f"inner-{handle.run_id}-{number}", timeout=PATIENCE)


def preload(store: Path, witness: Witness) -> None:
    """As gunicorn does: the application is made once, then three workers are forked, each of which serves."""
    queue = Queue.open(store, default_config=LONG_LEASE)
    runtime = runtime_of(queue, witness, concurrency=2)
    submit(queue, witness, "preload", 1)

    def serve() -> None:
        threading.Thread(target=lambda: say("serving", os.getpid())).start()
        runtime.run(handle_signals=True)
        queue.close()

    children = [fork(serve) for _ in range(3)]
    wait_for_line()
    for child in children:
        os.kill(child, signal.SIGTERM)
    reap(*children)
    queue.close()


# -- files and handles ---------------------------------------------------------------------------------------------


def exclusive(store: Path, witness: Witness) -> None:
    queue = Queue.open(store, exclusive=True)
    submit(queue, witness, "before", 1)

    def refused() -> None:
        try:
            submit(queue, witness, "refused", 1)
        except StoreInUseError as error:
            assert str(os.getppid()) in str(error), error
            say("refused")

    def patient() -> None:
        wait_for_line()
        submit(queue, witness, "child", 1)
        say("child-has-it")
        queue.close()

    reap(fork(refused))
    submit(queue, witness, "parent", 1)
    pid = fork(patient)
    queue.close()
    say("parent-closed")
    reap(pid)


def temporary(store: Path, witness: Witness) -> None:
    with Queue.temporary() as queue:
        directory = queue.path
        queue.enqueue("mail", b"1")
        reap(fork(lambda: queue.enqueue("mail", b"2")), fork(queue.close), quick(queue.close))
        assert directory.is_dir()
        queue.enqueue("mail", b"3")
        assert queue.stats("mail").pending == 3
    assert not directory.exists()
    assert not directory.parent.joinpath("store").exists()


SCENARIOS: dict[str, Callable[[Path, Witness], None]] = {
    each.__name__: each
    for each in (
        both_go_on, parent_closes_first, parent_closes_first_and_the_child_was_idle, parent_exits_first,
        grandchildren, under_load, two_threads_fork_at_once, with_multiprocessing, ids,
        runtime_runs_in_the_parent_only, child_never_stops_what_it_inherited, forks_beside_a_busy_runtime,
        children_beside_a_claim, fork_inside_a_step, preload, exclusive, temporary,
    )
}  # fmt: skip


def main() -> None:
    store, log, scenario = sys.argv[1:]
    SCENARIOS[scenario](Path(store), Witness(Path(log)))


if __name__ == "__main__":
    main()
