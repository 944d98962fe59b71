"""Every parameter of the public API meets every hostile value: it works, or refuses, and nothing is written."""

from __future__ import annotations

import os
import random
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from taquba_workflow_sync import Fail, Queue, RunSpec, Step, Succeed, TaqubaError, WorkflowRuntime
from taquba_workflow_sync.queue.dispatch.lane import Execution
from taquba_workflow_sync.queue.running import Inside
from taquba_workflow_sync.storage.port.claim import ClaimRequest, LaneClaim
from taquba_workflow_sync.workflow.steps import StepLane
from tests.faults.hostile.calls import CALLS, EXEMPT, World, public_parameters
from tests.faults.hostile.values import HOSTILE, OWN_FAULT, Boom

#: Where a message says it in other words.
ALIASES = {
    "specs": ("spec",), "fields": ("input",), "options": ("clock",), "target_queue": ("queue name", "queue_name"),
    "body": ("payload",), "request": ("WebhookRequest",), "payloads": ("payload",), "secret": ("secret",),
    "value": ("",), "session": ("Session",), "url": ("url",), "spec": ("RunSpec", "spec"), "path": ("path", "store"),
    "queue_configs": ("queue_configs", "queue name", "queue_name"), "delivery_id_header": ("delivery_id_header",),
    "method": ("method",), "run_at": ("time zone",),
    "start": ("time zone", "start"), "until": ("time zone", "until"), "headers": ("header",), "worker": ("worker",),
    "backup": ("path",), "source": ("path",), "target": ("path",),
}  # fmt: skip
#: Values these take as they are, and would then work with for as long as they are told to.
ENDLESS = {("WorkflowRuntime.run", "shutdown", "None"), ("run_worker", "shutdown", "None")}


class WatchedStore:
    """A store with a claim and an ended run, watched through a connection of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.queue = Queue.open(directory / "store", durability="relaxed")
        runtime = WorkflowRuntime(self.queue, lambda step: Succeed() if step.run_id == "ended" else Fail("no"))
        handle, _ = runtime.submit_many([RunSpec(run_id="ended"), RunSpec(run_id="failed")])
        runtime.run_until_idle()
        runtime.schedule("stored", every=3600, spec=RunSpec())
        runtime.submit_group("g", [])
        self.queue.enqueue("claims", b"")
        claim = self.queue.claim("claims", lease=10_000)
        assert claim is not None
        self.world = World(self.queue, directory, claim, handle, self._running_step(runtime))
        self.watcher = sqlite3.connect(directory / "store" / "db" / "cache.db")

    def _running_step(self, runtime: WorkflowRuntime) -> Step:
        """A step under a claim that lasts, as a runner is called with."""
        runtime.submit(run_id="running")
        request = ClaimRequest((LaneClaim(runtime.queue_name, 10_000_000),), 1)
        _, (row,) = self.queue.handle.store.settle_and_claim((), [request])
        inside = Inside(self, self.queue.handle.address, runtime.queue_name)
        lane = StepLane(self.queue.handle, runtime.queue_name, lambda step: Succeed(), keeps_place=False, inside=inside)
        return lane.step_of(Execution(row, lane.lane, threading.Event()))

    def version(self) -> int:
        """Return what changes with every commit of the store."""
        found: int = self.watcher.execute("PRAGMA data_version").fetchone()[0]
        return found

    def close(self) -> None:
        self.watcher.close()
        self.queue.close()

    def call(self, name: str, given: dict[str, Any]) -> None:
        call = CALLS[name]
        rest = {each: good(self.world) for each, good in call.good.items() if each not in given}
        call.do(self.world, **rest, **given)

    def refusal(self, name: str, given: dict[str, str]) -> tuple[BaseException | None, bool]:
        """Call with some hostile values; returns what was raised, and whether anything was committed."""
        before = self.version()
        try:
            self.call(name, {each: HOSTILE[value]() for each, value in given.items()})
        except BaseException as error:
            return error, self.version() != before
        return None, self.version() != before


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedStore]:
    # A path that is text is a directory relative to the current one.
    directory = tmp_path_factory.mktemp("arguments")
    before = os.getcwd()
    os.chdir(directory)
    with closing(WatchedStore(directory)) as one:
        yield one
    os.chdir(before)


def test_every_public_parameter_is_fuzzed() -> None:
    fuzzed = {f"{name}.{each}" for name, call in CALLS.items() for each in call.good}
    public = public_parameters()
    assert sorted(public - fuzzed) == [], "give these an entry in calls.py"
    assert sorted(fuzzed - public) == [], "these are gone"
    assert all(EXEMPT.values())


def judged(scene: WatchedStore, name: str, given: dict[str, str]) -> list[str]:
    """Return what is wrong with how a call was answered."""
    if any((name, each, value) in ENDLESS for each, value in given.items()):
        return []
    error, wrote = scene.refusal(name, given)
    what = f"{name}({', '.join(f'{each}={value}' for each, value in given.items())})"
    if error is None:
        return []
    wrong = []
    message = "".join(error.args[:1]) if all(isinstance(each, str) for each in error.args[:1]) else repr(error)
    if isinstance(error, Boom) and any(value in OWN_FAULT for value in given.values()):
        pass
    elif not isinstance(error, (TypeError, ValueError, TaqubaError, TimeoutError)) or isinstance(error, UnicodeError):
        wrong.append(f"{what} raised {type(error).__name__}: {message:.150}")
    elif not isinstance(error, (TaqubaError, TimeoutError)) and not any(
        word in message
        for each, value in given.items()
        for word in (each, *ALIASES.get(each, ()), type(HOSTILE[value]()).__name__)
    ):
        wrong.append(f"{what}: the message names no argument: {type(error).__name__}: {message:.150}")
    if len(message) > 4000 and "path" not in given:
        wrong.append(f"{what}: a message of {len(message)} characters")
    if wrote:
        wrong.append(f"{what} was refused ({type(error).__name__}: {message:.80}), and something was written")
    return wrong


@pytest.mark.parametrize("name", CALLS)
def test_each_argument_takes_or_refuses_each_hostile_value(scene: WatchedStore, name: str) -> None:
    if name not in TERMINATING:
        scene.call(name, {})
    wrong = []
    for argument in CALLS[name].good:
        for value in HOSTILE:
            if not is_run_for_real(name, argument, value):
                wrong += judged(scene, name, {argument: value})
    assert not wrong, f"{len(wrong)} answers\n" + "\n".join(wrong)
    good = scene.queue.enqueue("good", b"")
    assert scene.queue.get_job(good) is not None


#: These may be called well once only: they end the claim, or the run.
TERMINATING = {"Queue.ack", "Queue.nack", "Queue.dead_letter", "Queue.advance", "WorkflowClient.retry",
               "WorkflowRuntime.retry", "Queue.requeue_dead_job", "Queue.renew_lease", "WorkflowClient.unschedule",
               "WorkflowRuntime.unschedule"}  # fmt: skip


def is_run_for_real(name: str, argument: str, value: str) -> bool:
    """Whether this one would be taken, and then wait, or grow, without end."""
    if name == "WebhookRequest" and value == "endless mapping":
        return True  # it would be copied until the memory is used up
    waits = value in ("1e308", "1e300", "timedelta.max", "2**63", "a googol", "5000 digits", "2**31", "inf", "None")
    return (name, argument) == ("Queue.claim_with_wait", "timeout") and waits


@settings(
    max_examples=150, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(data=st.data())
def test_several_hostile_arguments_at_once_are_taken_or_refused(scene: WatchedStore, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(set(CALLS) - {"Queue.claim_with_wait", "run_worker"})))
    arguments = data.draw(st.sets(st.sampled_from(sorted(CALLS[name].good)), min_size=1, max_size=3))
    given_ = {each: data.draw(st.sampled_from(sorted(HOSTILE))) for each in sorted(arguments)}
    assume(not any(is_run_for_real(name, each, value) for each, value in given_.items()))
    assert judged(scene, name, given_) == []


def fuzz(directory: Path, seconds_left: Any, seed: int) -> tuple[int, list[str]]:
    """Call with random combinations for as long as there is time; returns how many, and what went wrong."""
    chance = random.Random(seed)
    wrong: list[str] = []
    calls = 0
    before = os.getcwd()
    os.chdir(directory)
    try:
        with closing(WatchedStore(directory)) as scene:
            names = sorted(set(CALLS) - {"Queue.claim_with_wait", "run_worker"})
            while seconds_left() > 0:
                name = chance.choice(names)
                arguments = chance.sample(sorted(CALLS[name].good), min(len(CALLS[name].good), chance.randint(1, 3)))
                given_ = {each: chance.choice(sorted(HOSTILE)) for each in arguments}
                if not any(is_run_for_real(name, each, value) for each, value in given_.items()):
                    wrong += judged(scene, name, given_)
                    calls += 1
    finally:
        os.chdir(before)
    return calls, wrong
