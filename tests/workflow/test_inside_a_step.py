"""What a step may not do to itself: wait for ever for its own queue, run until idle, or leave a forked child behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taquba_workflow_sync import InvalidStateError, Queue, Step, StepOutcome, Succeed, WorkflowClient, WorkflowRuntime
from tests.queue.support import PATIENCE


def _outcome_of(queue: Queue, act: Callable[[Step], object], **options: Any) -> bytes:
    """Run ``act`` in a step and return what it raised, as text, or ``nothing``."""

    def step(step: Step) -> StepOutcome:
        try:
            act(step)
        except Exception as error:
            return Succeed(f"{type(error).__name__}: {error}".encode())
        return Succeed(b"nothing")

    with WorkflowRuntime(queue, step, **options) as runtime:
        return runtime.submit(run_id="outer").result(timeout=PATIENCE)


@pytest.mark.parametrize("ask", ["client", "handle", "result", "another handle of the store"])
def test_a_step_that_waits_for_its_own_queue_through_a_plain_client_is_refused(queue: Queue, ask: str) -> None:
    client = WorkflowClient(queue)

    def act(step: Step) -> None:
        other = client.submit(run_id="inner")
        if ask == "client":
            client.wait("inner")
        elif ask == "another handle of the store":
            with Queue.open(queue.path) as second:
                WorkflowClient(second).wait("inner")
        elif ask == "handle":
            other.wait()
        else:
            other.result()

    assert _outcome_of(queue, act).startswith(b"RuntimeError: wait without a timeout")


def test_a_step_may_wait_for_its_own_queue_with_a_timeout(queue: Queue) -> None:
    client = WorkflowClient(queue)

    def act(step: Step) -> None:
        client.submit(run_id="later", run_at=step_far_away())
        client.wait("later", timeout=0.01)

    assert _outcome_of(queue, act).startswith(b"TimeoutError")


def test_a_step_may_wait_for_another_queue(queue: Queue) -> None:
    other = WorkflowRuntime(queue, lambda step: Succeed(b"from the other"), queue_name="other")
    seen: list[bytes] = []

    def act(step: Step) -> None:
        seen.append(WorkflowClient(queue, queue_name="other").submit(run_id="inner").result())

    with other:
        assert _outcome_of(queue, act) == b"nothing"
    assert seen == [b"from the other"]


def test_a_hook_that_waits_for_its_own_queue_is_refused(queue: Queue) -> None:
    seen: list[str] = []
    told = threading.Event()

    def hook(outcome: object) -> None:
        client = WorkflowClient(queue)
        if not seen:
            try:
                client.submit(run_id="next", run_at=step_far_away()).wait()
            except RuntimeError as error:
                seen.append(str(error))
        told.set()

    with WorkflowRuntime(queue, lambda step: Succeed(), hook) as runtime:
        runtime.submit(run_id="first")
        assert told.wait(PATIENCE)
    assert seen and "wait without a timeout" in seen[0]


@pytest.mark.parametrize("whose", ["its own", "another"])
def test_run_until_idle_in_a_step_is_refused(queue: Queue, whose: str) -> None:
    runtimes: list[WorkflowRuntime] = []

    def act(step: Step) -> None:
        runtimes[0].run_until_idle(timeout=PATIENCE)

    name = "workflow-steps" if whose == "its own" else "other"
    runtimes.append(WorkflowRuntime(queue, lambda step: Succeed(), queue_name=name))
    assert _outcome_of(queue, act).startswith(b"InvalidStateError: run_until_idle was called from a step")


def test_run_until_idle_in_a_handler_of_the_signal_that_interrupts_it_is_refused(queue: Queue) -> None:
    import signal

    entered = threading.Event()
    refused: list[BaseException] = []

    def step(step: Step) -> StepOutcome:
        entered.set()
        step.cancel_token.wait(0.2)
        return Succeed()

    runtime = WorkflowRuntime(queue, step)

    def handler(*_: object) -> None:
        try:
            runtime.run_until_idle()
        except InvalidStateError as error:
            refused.append(error)

    runtime.submit()
    killer = threading.Thread(target=lambda: (entered.wait(PATIENCE), os.kill(os.getpid(), signal.SIGUSR1)))
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        killer.start()
        counts = runtime.run_until_idle(timeout=PATIENCE)
    finally:
        killer.join(PATIENCE)
        signal.signal(signal.SIGUSR1, before)
    assert counts.succeeded == 1
    assert [str(each) for each in refused] == ["the runtime is started already; stop it first"]


def test_a_submit_that_a_handler_interrupts_to_run_until_idle_and_the_run_both_come_to_their_end(queue: Queue) -> None:
    import signal

    runtime = WorkflowRuntime(queue, lambda step: Succeed())
    counts: list[int] = []
    submitted = 0

    def handler(*_: object) -> None:
        counts.append(runtime.run_until_idle(timeout=PATIENCE).succeeded)

    before = signal.signal(signal.SIGALRM, handler)
    try:
        for delay in (0.0005, 0.001, 0.002, 0.004):
            interrupted = len(counts)
            signal.setitimer(signal.ITIMER_REAL, delay)
            while len(counts) == interrupted:  # however fast a submit is
                runtime.submit()
                submitted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(counts) == 4
    assert sum(counts) + runtime.run_until_idle(timeout=PATIENCE).succeeded == submitted


def _program(text: str, store: Path) -> subprocess.CompletedProcess[str]:
    head = "import sys\nfrom taquba_workflow_sync import *\nstore = sys.argv[1]\n"
    return subprocess.run(
        [sys.executable, "-c", head + textwrap.dedent(text), str(store)],
        capture_output=True,
        text=True,
        timeout=PATIENCE * 2,
        check=False,
    )


@pytest.mark.embedded
def test_run_until_idle_at_the_exit_of_the_interpreter_says_so(tmp_path: Path) -> None:
    done = _program(
        """
        import atexit
        queue = Queue.open(store)
        runtime = WorkflowRuntime(queue, lambda step: Succeed())
        runtime.submit()
        def last():
            try:
                runtime.run_until_idle()
            except InvalidStateError as error:
                print("refused:", error)
        atexit.register(last)
        """,
        tmp_path / "store",
    )
    assert "refused: the interpreter is exiting" in done.stdout, done


_FORKS = {
    "returns": ("", 0),
    "raises": ("raise ValueError('in the child')", 1),
    "exits": ("sys.exit(7)", 7),
    "exits with a text": ("sys.exit('goodbye')", 1),
}


@pytest.mark.embedded
@pytest.mark.parametrize("how", _FORKS)
def test_a_child_that_a_step_forks_ends_where_it_leaves_the_step(tmp_path: Path, how: str) -> None:
    act, status = _FORKS[how]
    done = _program(
        f"""
        import os, json, logging, warnings
        warnings.simplefilter("ignore")
        logging.basicConfig(stream=sys.stderr)
        def step(step):
            child = os.fork()
            if child == 0:
                {act or 'return Succeed(b"from the child")'}
                return Succeed(b"from the child")
            _, status = os.waitpid(child, 0)
            return Succeed(json.dumps([os.waitstatus_to_exitcode(status), os.getpid()]).encode())
        with Queue.open(store) as queue:
            runtime = WorkflowRuntime(queue, step)
            handle = runtime.submit()
            runtime.run_until_idle(timeout=30)
            print(handle.result(timeout=0).decode(), os.getpid())
        """,
        tmp_path / "store",
    )
    assert done.returncode == 0, done
    answer, _, main = done.stdout.rpartition(" ")
    code, runner = json.loads(answer)
    assert code == status
    assert runner == int(main)  # the parent's outcome is what counted
    assert "a child that a step forked came back from the step" in done.stderr


def step_far_away() -> Any:
    from datetime import UTC, datetime, timedelta

    return datetime.now(UTC) + timedelta(days=1)
