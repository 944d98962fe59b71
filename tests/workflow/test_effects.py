"""Effects: what a step writes with its own end, once or not at all (FEATURES 2)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from taquba_workflow_sync import (
    AttemptOutcome,
    Cancel,
    Continue,
    ContinueAfter,
    DuplicateJobIdError,
    EffectConflictError,
    Effects,
    EffectsSealedError,
    Fail,
    IfFinished,
    InputMismatchError,
    InvalidNameError,
    JobStatus,
    PayloadTooLargeError,
    Queue,
    QueueConfig,
    RunOutcome,
    RunSpec,
    RunState,
    Step,
    StepError,
    StepOutcome,
    Succeed,
    TerminalStatus,
    WorkflowClient,
    WorkflowRuntime,
)
from taquba_workflow_sync.queue import effects as staging
from taquba_workflow_sync.storage.port.effects import MOST_REFUSALS
from taquba_workflow_sync.storage.port.settlement import Ack, Nack, Settlement
from taquba_workflow_sync.testing import ManualClock, RecordingHook, ScriptedRunner
from taquba_workflow_sync.workflow import refusals
from tests.queue.support import PATIENCE, START, await_event, stored

from .support import NOTICES, STEPS, Gate, ended, state, wait_until

Stage = Callable[[Step], Any]
OUTCOMES: dict[str, StepOutcome] = {
    "Continue": Continue(b"next"),
    "ContinueAfter": ContinueAfter(b"next", 3_600),
    "Succeed": Succeed(),
    "Fail": Fail("no"),
    "Cancel": Cancel("enough"),
}


def run_once(queue: Queue, stage: Stage, outcome: StepOutcome | None = None, **fields: Any) -> WorkflowRuntime:
    """Run one run whose first step stages effects and returns ``outcome``, and whose others succeed."""

    def run_step(step: Step) -> StepOutcome:
        if step.step_number:
            return Succeed()
        stage(step)
        return outcome or Succeed()

    runtime = WorkflowRuntime(queue, run_step)
    runtime.submit(run_id="r", **fields)
    runtime.run_until_idle(PATIENCE)
    return runtime


def values(queue: Queue) -> dict[str, bytes]:
    return dict(queue.kv.scan("").items)


def error_of(runtime: WorkflowRuntime, run_id: str = "r") -> str:
    outcome = ended(runtime, run_id)
    assert outcome.status is TerminalStatus.FAILED and outcome.error is not None
    return outcome.error


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused steps come back in a millisecond."""
    monkeypatch.setattr(refusals, "LEAST_JITTER_MS", 1)
    monkeypatch.setattr(refusals, "MOST_JITTER_MS", 1)


# -- with the end of the step ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OUTCOMES)
def test_effects_are_applied_with_whatever_outcome_the_runner_returns(queue: Queue, name: str) -> None:
    queue.kv.put("old", b"value")
    queue.kv.put("seen", b"1")

    def stage(step: Step) -> None:
        effects = step.effects
        effects.put("put", b"value")
        effects.delete("old")
        effects.compare_put("seen", step.kv.get("seen"), b"2")
        effects.add("count", 3)
        effects.enqueue("other", b"job", job_id="enqueued")
        effects.submit(RunSpec(run_id="child", input=b"in"), queue_name="children")

    run_once(queue, stage, OUTCOMES[name])
    assert values(queue) == {"put": b"value", "seen": b"2", "count": b"3"}
    assert stored(queue, "enqueued").payload == b"job"
    assert state(WorkflowClient(queue, queue_name="children"), "child") is RunState.PENDING


def test_what_is_staged_is_in_memory_until_the_step_ends(queue: Queue) -> None:
    gate = Gate()

    def run_step(step: Step) -> StepOutcome:
        step.effects.put("key", b"new")
        assert step.kv.get("key") is None, "what is committed is read, not what is staged"
        return gate.run_step(step)

    with WorkflowRuntime(queue, run_step) as runtime:
        runtime.submit(run_id="r")
        await_event(gate.started)
        assert values(queue) == {}
        gate.go.set()
        ended(runtime, "r")
    assert values(queue) == {"key": b"new"}


@pytest.mark.parametrize(
    "item", [StepError.permanent("no"), StepError.transient("later"), ValueError("no"), None, Continue(b"x" * 200)]
)
def test_effects_are_dropped_when_the_runner_returns_no_outcome_that_counts(tmp_path: Any, item: Any) -> None:
    config = QueueConfig(retry_backoff_base=0, max_attempts=1)
    with Queue.open(tmp_path / "small", default_config=config, max_payload_bytes=100) as queue:

        def run_step(step: Step) -> Any:
            step.effects.put("key", b"value")
            if isinstance(item, Exception):
                raise item
            return item

        runtime = WorkflowRuntime(queue, run_step)
        runtime.submit(run_id="r")
        runtime.run_until_idle(PATIENCE)
        error_of(runtime)
        assert values(queue) == {}


def test_the_effects_of_a_failed_attempt_are_dropped_and_those_of_the_next_are_applied(queue: Queue) -> None:
    def stage(step: Step) -> None:
        step.effects.add("count", 1)
        step.effects.put(f"attempt {step.attempts}", b"")
        if step.attempts < 3:
            raise StepError.transient("once more")

    run_once(queue, stage, max_attempts_per_step=5)
    assert values(queue) == {"count": b"1", "attempt 3": b""}


def test_a_requested_cancellation_drops_the_effects(queue: Queue) -> None:
    def stage(step: Step) -> None:
        step.effects.put("key", b"value")
        step.effects.compare_put("never", b"there", b"")
        assert WorkflowClient(queue).cancel("r")

    runtime = run_once(queue, stage)
    assert ended(runtime, "r").status is TerminalStatus.CANCELLED
    assert values(queue) == {}


def test_a_lost_claim_drops_the_effects(queue: Queue) -> None:
    def stage(step: Step) -> None:
        step.effects.put("key", b"value")
        step.effects.compare_put("never", b"there", b"")
        (claim,) = queue.handle.store.running()
        assert queue.handle.settle(Settlement(claim.job_id, claim.token, Ack(result=b"other"))) is None

    runtime = run_once(queue, stage)
    assert ended(runtime, "r").result == b"other"
    assert values(queue) == {}


def test_many_steps_in_one_turn_apply_each_their_own(queue: Queue) -> None:
    def run_step(step: Step) -> StepOutcome:
        step.effects.add("steps", 1)
        step.effects.put("last", b"%d" % step.step_number)
        return Continue() if step.step_number < 19 else Succeed()

    runtime = WorkflowRuntime(queue, run_step)
    for number in range(5):
        runtime.submit(run_id=f"r{number}")
    counts = runtime.run_until_idle(PATIENCE)
    assert (counts.steps, values(queue)) == (100, {"steps": b"100", "last": b"19"})


# -- what can be said --------------------------------------------------------------------------------------------------


def test_methods_return_what_they_make_and_nothing_else(queue: Queue) -> None:
    effects = Effects()
    assert [effects.put("a", b""), effects.delete("b"), effects.compare_put("c", None, b""), effects.add("d", 1)] == [  # type: ignore[func-returns-value]  # that is what is looked at
        None
    ] * 4
    job_id = effects.enqueue("other", b"job")
    run_id = effects.submit(RunSpec())
    assert effects.submit(RunSpec(run_id="named")) == "named"
    assert effects.enqueue("other", b"", job_id="given") == "given"
    queue.commit(effects)
    assert (stored(queue, job_id).payload, stored(queue, "given").payload) == (b"job", b"")
    assert state(WorkflowClient(queue), run_id) is state(WorkflowClient(queue), "named") is RunState.PENDING


def test_an_enqueue_takes_the_options_of_the_queue_and_its_defaults(tmp_path: Any) -> None:
    with Queue.open(tmp_path / "s", default_config=QueueConfig(max_attempts=7, default_priority=5)) as queue:
        effects = Effects()
        later = datetime(2100, 1, 1, tzinfo=UTC)
        plain = effects.enqueue("other", b"plain")
        full = effects.enqueue(
            "other", b"", priority=1, max_attempts=2, run_at=later, dedup_key="k", headers={"h": "1"}
        )
        queue.commit(effects)
        job = stored(queue, plain)
        assert (job.priority, job.max_attempts, job.status) == (5, 7, JobStatus.PENDING)
        job = stored(queue, full)
        assert (job.priority, job.max_attempts, job.run_at, job.dedup_key) == (1, 2, later, "k")
        assert (job.headers, job.status) == ({"h": "1"}, JobStatus.SCHEDULED)


def test_headers_are_taken_as_they_are_at_the_call(queue: Queue) -> None:
    headers = {"h": "1"}
    effects = Effects()
    job_id = effects.enqueue("other", b"", headers=headers)
    headers["h"] = "2"
    queue.commit(effects)
    assert stored(queue, job_id).headers == {"h": "1"}


def test_a_held_dedup_key_enqueues_nothing_and_commits_the_rest(queue: Queue) -> None:
    queue.enqueue("other", b"holder", dedup_key="k")

    def stage(step: Step) -> None:
        step.effects.enqueue("other", b"second", dedup_key="k")
        step.effects.put("key", b"value")

    run_once(queue, stage)
    assert queue.stats("other").pending == 1 and values(queue) == {"key": b"value"}


def test_a_put_lives_as_long_as_it_says_and_an_add_leaves_that_alone(still: Queue, clock: ManualClock) -> None:
    effects = Effects()
    effects.put("key", b"1", ttl=timedelta(seconds=10))
    still.commit(effects)
    effects = Effects()
    effects.add("key", -2)
    still.commit(effects)
    assert still.kv.get("key") == b"-1"
    clock.advance(10)
    assert still.kv.get("key") is None


def test_one_effect_a_key_and_only_a_put_replaces_a_put(queue: Queue) -> None:
    makers: dict[str, Callable[[Effects], None]] = {
        "put": lambda effects: effects.put("key", b"value"),
        "delete": lambda effects: effects.delete("key"),
        "compare_put": lambda effects: effects.compare_put("key", None, b"value"),
        "add": lambda effects: effects.add("key", 1),
    }
    for first, one in makers.items():
        for second, other in makers.items():
            effects = Effects()
            one(effects)
            if first == second == "put":
                effects.put("key", b"replaced")
                queue.commit(effects)
                assert values(queue) == {"key": b"replaced"}
                continue
            with pytest.raises(ValueError, match=r"'key' has a \w+ staged"):
                other(effects)


def test_at_most_a_thousand_effects(queue: Queue) -> None:
    effects = Effects()
    for number in range(998):
        effects.put(f"{number}", b"")
    effects.enqueue("other", b"")
    effects.submit(RunSpec())
    for one_more in (
        lambda: effects.put("one more", b""), lambda: effects.enqueue("other", b""), lambda: effects.submit(RunSpec()),
    ):  # fmt: skip
        with pytest.raises(PayloadTooLargeError, match="1000 effects"):
            one_more()
        with pytest.raises(ValueError, match="1000 effects"):
            one_more()
    effects.put("0", b"replaced")
    queue.commit(effects)
    assert len(queue.kv.scan("", limit=2_000).items) == 998


def test_at_most_sixteen_mebibytes_of_effects(queue: Queue) -> None:
    effects = Effects()
    for number in range(15):
        effects.put(f"{number:02}", bytes(2**20))
    with pytest.raises(PayloadTooLargeError, match="16777216"):
        effects.enqueue("other", bytes(2**20))
    effects.put("00", b"")
    effects.enqueue("other", bytes(2**20))
    with pytest.raises(PayloadTooLargeError, match="16777216"):
        effects.compare_put("15", bytes(2**20), b"")
    queue.commit(effects)
    assert queue.stats("other").pending == 1


def test_what_a_submit_carries_counts_too(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "MOST_EFFECTS", 3)
    inner = Effects()
    inner.put("a", b"")
    inner.put("b", b"")
    effects = Effects()
    effects.submit(RunSpec(effects=inner))
    with pytest.raises(PayloadTooLargeError, match="3 effects"):
        effects.submit(RunSpec())


WRONG: dict[str, tuple[Callable[[Effects], Any], type[Exception]]] = {
    "key": (lambda effects: effects.put(5, b""), TypeError),  # type: ignore[arg-type]  # on purpose, as those below
    "long key": (lambda effects: effects.add("x" * 513, 1), ValueError),
    "value": (lambda effects: effects.put("k", "v"), TypeError),  # type: ignore[arg-type]
    "large value": (lambda effects: effects.put("k", bytes(2**20 + 1)), PayloadTooLargeError),
    "ttl": (lambda effects: effects.put("k", b"", ttl=-1), ValueError),
    "expected": (lambda effects: effects.compare_put("k", "v", b""), TypeError),  # type: ignore[arg-type]
    "delta": (lambda effects: effects.add("k", 1.5), TypeError),  # type: ignore[arg-type]
    "bool": (lambda effects: effects.add("k", True), TypeError),
    "large delta": (lambda effects: effects.add("k", 2**63 + 1), ValueError),
    "queue name": (lambda effects: effects.enqueue("", b""), InvalidNameError),
    "payload": (lambda effects: effects.enqueue("q", "text"), TypeError),  # type: ignore[arg-type]
    "job id": (lambda effects: effects.enqueue("q", b"", job_id="no good"), InvalidNameError),
    "headers": (lambda effects: effects.enqueue("q", b"", headers=5), TypeError),  # type: ignore[arg-type]
    "spec": (lambda effects: effects.submit(None), TypeError),  # type: ignore[arg-type]
    "queue of a submit": (lambda effects: effects.submit(RunSpec(), queue_name="q.terminal"), InvalidNameError),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_argument_is_refused_at_the_call(queue: Queue, what: str) -> None:
    call, error = WRONG[what]
    refused: list[type[BaseException]] = []

    def stage(step: Step) -> None:
        for effects in (step.effects, Effects()):
            with pytest.raises(error) as caught:
                call(effects)
            refused.append(caught.type)

    run_once(queue, stage)
    assert len(refused) == 2 and values(queue) == {}


def test_a_step_knows_what_its_store_refuses_and_others_learn_it_at_the_commit(tmp_path: Any) -> None:
    with Queue.open(tmp_path / "s", max_payload_bytes=10) as queue:

        def stage(step: Step) -> None:
            for call in (
                lambda: step.effects.enqueue("q", b"x" * 11), lambda: step.effects.submit(RunSpec(input=b"x" * 11)),
            ):  # fmt: skip
                with pytest.raises(PayloadTooLargeError):
                    call()

        assert ended(run_once(queue, stage), "r").status is TerminalStatus.SUCCEEDED
        effects = Effects()
        effects.put("key", b"")
        effects.enqueue("q", b"x" * 11)
        with pytest.raises(PayloadTooLargeError):
            queue.commit(effects)
        assert values(queue) == {}


def test_after_the_runner_has_returned_nothing_can_be_staged(queue: Queue) -> None:
    kept: list[Step] = []

    def run_step(step: Step) -> StepOutcome:
        kept.append(step)
        match step.payload:
            case b"staged":
                step.effects.put("key", b"value")
            case b"raises":
                step.effects.put("other", b"value")
                raise StepError.permanent("no")
        return Succeed()

    runtime = WorkflowRuntime(queue, run_step)
    for payload in (b"staged", b"nothing", b"raises"):
        runtime.submit(input=payload)
    runtime.run_until_idle(PATIENCE)
    for step in kept:
        with pytest.raises(EffectsSealedError):
            step.effects.put("key", b"late")
        with pytest.raises(EffectsSealedError):
            step.effects.submit(RunSpec())
    assert values(queue) == {"key": b"value"}


def test_the_threads_of_a_step_stage_together(queue: Queue) -> None:
    def stage(step: Step) -> None:
        def put(number: int) -> None:
            step.effects.put(f"{number}", b"")

        threads = [threading.Thread(target=put, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)

    run_once(queue, stage)
    assert len(values(queue)) == 8


# -- submits -----------------------------------------------------------------------------------------------------------


def test_a_step_submits_to_the_queue_of_its_runtime_and_for_as_long(still: Queue, clock: ManualClock) -> None:
    def run_step(step: Step) -> StepOutcome:
        if step.payload == b"parent":
            step.effects.submit(RunSpec(run_id="child"))
            step.effects.submit(RunSpec(run_id="elsewhere"), queue_name="other")
        return Succeed()

    runtime = WorkflowRuntime(still, run_step, queue_name="mine", keep_runs=3_600)
    other = WorkflowRuntime(still, run_step, queue_name="other")
    runtime.submit(input=b"parent")
    runtime.run_until_idle(PATIENCE)
    other.run_until_idle(PATIENCE)
    for client, run_id in ((runtime, "child"), (other, "elsewhere")):
        assert state(client, run_id) is RunState.SUCCEEDED
    clock.advance(3_601)
    assert (state(runtime, "child"), state(other, "elsewhere")) == (None, None)


def test_outside_of_a_step_a_submit_goes_to_the_default_queue_and_is_kept_for_a_week(
    still: Queue, clock: ManualClock
) -> None:
    effects = Effects()
    effects.submit(RunSpec(run_id="one"))
    effects.submit(RunSpec(run_id="two"), queue_name="other")
    still.commit(effects)
    clients = (
        WorkflowRuntime(still, ScriptedRunner([Succeed()])),
        WorkflowRuntime(still, ScriptedRunner([Succeed()]), queue_name="other"),
    )
    for client, run_id in zip(clients, ("one", "two"), strict=True):
        client.run_until_idle(PATIENCE)
        assert state(client, run_id) is RunState.SUCCEEDED
    clock.advance(timedelta(days=7).total_seconds() - 1)
    assert state(clients[0], "one") is state(clients[1], "two") is RunState.SUCCEEDED
    clock.advance(2)
    assert (state(clients[0], "one"), state(clients[1], "two")) == (None, None)


@pytest.mark.parametrize("outcome", [Succeed(), Fail("no"), Cancel("enough")])
def test_a_run_that_ends_may_submit_its_own_name(queue: Queue, outcome: StepOutcome) -> None:
    def run_step(step: Step) -> StepOutcome:
        number = int(step.payload)
        if number < 4:
            step.effects.submit(RunSpec(run_id="r", input=b"%d" % (number + 1), if_finished=IfFinished.RERUN))
            return outcome
        return Succeed(b"fifth")

    hook = RecordingHook()
    runtime = WorkflowRuntime(queue, run_step, hook)
    runtime.submit(run_id="r", input=b"0")
    runtime.run_until_idle(PATIENCE)
    assert ended(runtime, "r").result == b"fifth"
    assert len(hook.outcomes) == 5 and len({each.job_id for each in hook.outcomes}) == 5


def test_a_submit_that_a_client_would_refuse_is_permanent(queue: Queue) -> None:
    client = WorkflowClient(queue)
    client.submit(run_id="active", input=b"one", run_at=datetime(2100, 1, 1, tzinfo=UTC))

    def stage(step: Step) -> None:
        step.effects.put("key", b"value")
        step.effects.submit(RunSpec(run_id="active", input=b"other"))

    runtime = run_once(queue, stage, max_attempts_per_step=5)
    assert error_of(runtime).startswith("InputMismatchError: ")
    assert values(queue) == {}
    assert [each.outcome for each in queue.attempt_history(ended(runtime, "r").job_id)] == [AttemptOutcome.DEAD]


def test_a_kept_run_refuses_a_submit_too_unless_it_is_a_rerun(queue: Queue) -> None:
    runtime = run_once(queue, lambda step: None)

    def submit(run_id: str, **fields: Any) -> None:
        handle = runtime.submit(run_id=run_id, input=b"stage")
        other = WorkflowRuntime(queue, lambda step: (step.effects.submit(RunSpec(run_id="r", **fields)), Succeed())[1])
        other.run_until_idle(PATIENCE)
        assert handle.wait(PATIENCE)

    submit("keeps", input=b"other")
    assert error_of(runtime, "keeps").startswith("InputMismatchError: ")
    submit("repeats", input=b"")
    assert ended(runtime, "repeats").status is TerminalStatus.SUCCEEDED


def test_a_taken_job_id_is_permanent(queue: Queue) -> None:
    queue.enqueue("other", b"", job_id="taken")

    def stage(step: Step) -> None:
        step.effects.put("key", b"value")
        step.effects.enqueue("other", b"", job_id="taken")

    runtime = run_once(queue, stage, max_attempts_per_step=5)
    assert error_of(runtime).startswith("DuplicateJobIdError: ")
    assert values(queue) == {} and queue.stats("other").pending == 1


def test_a_job_that_would_have_the_id_of_the_runs_notification_is_permanent_and_named(queue: Queue) -> None:
    hook = RecordingHook()

    def stage(step: Step) -> StepOutcome:
        step.effects.enqueue("other", b"", job_id=f"{step.job_id}-1")
        return Succeed()

    runtime = WorkflowRuntime(queue, stage, hook)
    runtime.submit(run_id="r", max_attempts_per_step=5)
    runtime.run_until_idle(PATIENCE)
    (outcome,) = hook.outcomes
    assert (outcome.error or "").startswith(f"DuplicateJobIdError: job id '{outcome.job_id}-1' ")
    assert queue.stats("other").pending == 0


def test_an_add_to_what_is_no_integer_is_permanent(queue: Queue) -> None:
    queue.kv.put("count", b"many")

    def stage(step: Step) -> None:
        step.effects.put("key", b"value")
        step.effects.add("count", 1)

    runtime = run_once(queue, stage, max_attempts_per_step=5)
    assert error_of(runtime).startswith("EffectConflictError: ") and "'count'" in error_of(runtime)
    assert values(queue) == {"count": b"many"}
    assert len(queue.attempt_history(ended(runtime, "r").job_id)) == 1


def test_adds_never_conflict(queue: Queue) -> None:
    def run_step(step: Step) -> StepOutcome:
        step.effects.add("count", 1)
        return Continue() if step.step_number < 4 else Succeed()

    runtime = WorkflowRuntime(queue, run_step, max_concurrent_steps=8)
    handles = runtime.submit_many([RunSpec() for _ in range(16)])
    counts = runtime.run_until_idle(PATIENCE)
    assert (counts.steps, counts.succeeded, queue.kv.get("count")) == (80, 16, b"80")
    for handle in handles:
        outcomes = {each.outcome for each in queue.attempt_history(handle.first_job_id)}
        assert outcomes == {AttemptOutcome.CONTINUED, AttemptOutcome.SUCCEEDED}


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_a_refused_step_goes_back_uncharged_looks_again_and_ends(queue: Queue) -> None:
    queue.kv.put("version", b"1")
    seen: list[tuple[int, bytes | None]] = []

    def stage(step: Step) -> None:
        version = step.kv.get("version")
        seen.append((step.attempts, version))
        step.effects.compare_put("version", version, b"mine")
        step.effects.put("key", b"value")
        if len(seen) == 1:
            queue.kv.put("version", b"theirs")

    runtime = run_once(queue, stage, max_attempts_per_step=1)
    assert ended(runtime, "r").status is TerminalStatus.SUCCEEDED
    assert seen == [(1, b"1"), (1, b"theirs")]
    assert values(queue) == {"version": b"mine", "key": b"value"}
    first, second = queue.attempt_history(ended(runtime, "r").job_id)
    assert (first.outcome, second.outcome) == (AttemptOutcome.PUT_BACK, AttemptOutcome.SUCCEEDED)
    assert first.error is not None and first.error.startswith("EffectConflictError: key 'version'")


def test_many_runs_of_one_counter_all_end_with_one_attempt_each(queue: Queue) -> None:
    """Charged refusals killed 13 of 16."""

    def run_step(step: Step) -> StepOutcome:
        count = step.kv.get("count")
        step.effects.compare_put("count", count, b"%d" % (int(count or 0) + 1))
        return Succeed()

    runtime = WorkflowRuntime(queue, run_step, max_concurrent_steps=8)
    runtime.submit_many([RunSpec(max_attempts_per_step=1) for _ in range(16)])
    counts = runtime.run_until_idle(PATIENCE)
    assert (counts.succeeded, counts.failed, queue.kv.get("count")) == (16, 0, b"16")


def test_a_refused_step_stays_away_for_ten_to_a_hundred_milliseconds(still: Queue) -> None:
    """By a clock that stands still, so that it stays away for good."""

    def run_step(step: Step) -> StepOutcome:
        step.effects.compare_put("never", b"there", b"")
        return Succeed()

    with WorkflowRuntime(still, run_step) as runtime:
        jobs = [runtime.submit().first_job_id for _ in range(20)]
        wait_until(lambda: still.stats(STEPS).scheduled == len(jobs))
    waits = {(job.run_at or START) - START for job in still.list_jobs(STEPS).jobs}
    assert timedelta(milliseconds=10) <= min(waits) and max(waits) <= timedelta(milliseconds=100)
    assert len(waits) > 1, "each for as long as it happens to be"
    assert all(job.attempts == 0 for job in still.list_jobs(STEPS).jobs)


def test_the_hundredth_refusal_in_a_row_is_a_dead_letter(queue: Queue, quick: None) -> None:
    attempts: list[int] = []

    def stage(step: Step) -> None:
        attempts.append(step.attempts)
        step.effects.compare_put("never", b"there", b"")

    hook = RecordingHook()

    def run_step(step: Step) -> StepOutcome:
        stage(step)
        return Succeed()

    runtime = WorkflowRuntime(queue, run_step, hook)
    runtime.submit(run_id="r")
    counts = runtime.run_until_idle(PATIENCE)
    assert attempts == [1] * MOST_REFUSALS == [1] * 100
    assert error_of(runtime).startswith("EffectConflictError: key 'never'")
    assert "100 times in a row" in error_of(runtime)
    assert (counts.failed, counts.dead, len(hook.outcomes)) == (1, 1, 1)
    attempts.clear()
    runtime.retry("r")
    runtime.run_until_idle(PATIENCE)
    assert len(attempts) == 100, "a retry has as many refusals before it as a new run"


def test_the_refusals_are_counted_over_processes_and_reset_when_the_step_ends(tmp_path: Any, quick: None) -> None:
    stop_after = 60

    def run_step(step: Step) -> StepOutcome:
        tries.append(step.step_number)
        if len(tries) in (stop_after + 1, 2 * stop_after + 2):
            return Continue(b"")
        step.effects.compare_put("never", b"there", b"")
        return Succeed()

    tries: list[int] = []
    for _ in range(2):  # the second time as another process would
        with Queue.open(tmp_path / "store", durability="relaxed") as queue:
            with WorkflowRuntime(queue, run_step) as runtime:
                runtime.submit(run_id="r")
                already = len(tries)
                wait_until(lambda: len(tries) >= already + 40)  # noqa: B023  # called at once
    with Queue.open(tmp_path / "store", durability="relaxed") as queue:
        runtime = WorkflowRuntime(queue, run_step)
        runtime.run_until_idle(PATIENCE)
        assert error_of(runtime).startswith("EffectConflictError")
    assert tries.count(0) == stop_after + 1
    assert tries.count(1) == stop_after + 1
    assert tries.count(2) == 100


def test_run_until_idle_waits_for_the_jitter_of_a_refusal(queue: Queue) -> None:
    queue.kv.put("version", b"0")

    def stage(step: Step) -> None:
        version = int(step.kv.get("version") or b"")
        step.effects.compare_put("version", b"%d" % version, b"mine")
        if version < 3:
            queue.kv.put("version", b"%d" % (version + 1))

    runtime = run_once(queue, stage)
    assert state(runtime, "r") is RunState.SUCCEEDED and queue.kv.get("version") == b"mine"


def test_a_cancellation_meets_a_refused_step(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "LEAST_JITTER_MS", 3_600_000)
    monkeypatch.setattr(refusals, "MOST_JITTER_MS", 3_600_000)

    def run_step(step: Step) -> StepOutcome:
        step.effects.compare_put("never", b"there", b"")
        return Succeed()

    with WorkflowRuntime(queue, run_step) as runtime:
        runtime.submit(run_id="r")
        wait_until(lambda: queue.stats(STEPS).scheduled == 1)
        assert runtime.cancel("r")
        assert ended(runtime, "r").status is TerminalStatus.CANCELLED


def test_a_nack_in_between_ends_the_row(queue: Queue, quick: None) -> None:
    calls: list[int] = []

    def stage(step: Step) -> None:
        calls.append(step.attempts)
        if len(calls) == 60:
            raise StepError.transient("something else")
        step.effects.compare_put("never", b"there", b"")

    runtime = run_once(queue, stage, max_attempts_per_step=2)
    assert error_of(runtime).startswith("EffectConflictError")
    assert len(calls) == 160


# -- with a submission, and alone --------------------------------------------------------------------------------------


def test_the_effects_of_a_submission_are_applied_if_it_is_new(queue: Queue) -> None:
    client = WorkflowClient(queue)

    def spec(**fields: Any) -> RunSpec:
        effects = Effects()
        effects.add("submitted", 1)
        effects.enqueue("other", b"", job_id=None)
        return RunSpec(run_id="r", effects=effects, **fields)

    assert client.submit(spec()).newly_submitted
    assert not client.submit(spec()).newly_submitted
    with pytest.raises(InputMismatchError):
        client.submit(spec(input=b"other"))
    assert queue.kv.get("submitted") == b"1" and queue.stats("other").pending == 1


def test_a_submission_whose_expectation_fails_is_refused_and_nothing_is_written(queue: Queue) -> None:
    client = WorkflowClient(queue)
    effects = Effects()
    effects.compare_put("lock", None, b"r")
    assert client.submit(run_id="one", effects=effects).newly_submitted
    with pytest.raises(EffectConflictError, match="'lock'") as caught:
        client.submit_many([RunSpec(run_id="plain"), RunSpec(run_id="two", effects=effects)])
    assert not caught.value.is_permanent
    assert (state(client, "plain"), state(client, "two")) == (None, None)


def test_several_submissions_apply_theirs_in_order(queue: Queue) -> None:
    client = WorkflowClient(queue)
    specs = []
    for number in range(3):
        effects = Effects()
        effects.add("submitted", 1)
        effects.put("last", b"%d" % number)
        specs.append(RunSpec(effects=effects))
    assert all(handle.newly_submitted for handle in client.submit_many(specs))
    assert values(queue) == {"submitted": b"3", "last": b"2"}


def test_a_step_submits_a_run_with_effects_of_its_own(queue: Queue) -> None:
    def stage(step: Step) -> None:
        inner = Effects()
        inner.add("children", 1)
        inner.submit(RunSpec(run_id="grandchild", run_at=datetime(2100, 1, 1, tzinfo=UTC)))
        step.effects.submit(RunSpec(run_id="child", effects=inner, run_at=datetime(2100, 1, 1, tzinfo=UTC)))

    runtime = run_once(queue, stage)
    assert state(runtime, "child") is state(runtime, "grandchild") is RunState.PENDING
    assert values(queue) == {"children": b"1"}


def test_effects_that_submit_themselves_come_to_an_end(queue: Queue) -> None:
    effects = Effects()
    effects.submit(RunSpec(run_id="r", effects=effects))
    queue.commit(effects)
    assert state(WorkflowClient(queue), "r") is RunState.PENDING


def test_a_steps_own_effects_are_committed_by_nobody_else(queue: Queue) -> None:
    def stage(step: Step) -> None:
        for call in (
            lambda: queue.commit(step.effects), lambda: RunSpec(effects=step.effects),
            lambda: step.effects.submit(RunSpec(effects=step.effects)),
        ):  # fmt: skip
            with pytest.raises(ValueError, match="end of their step"):
                call()

    assert ended(run_once(queue, stage), "r").status is TerminalStatus.SUCCEEDED


@pytest.mark.parametrize("wrong", [5, "effects", {}, []])
def test_what_are_no_effects_is_refused(queue: Queue, wrong: Any) -> None:
    with pytest.raises(TypeError, match="effects"):
        queue.commit(wrong)
    with pytest.raises(TypeError, match="effects"):
        RunSpec(effects=wrong)


def test_a_program_commits_all_or_nothing(queue: Queue) -> None:
    queue.kv.put("version", b"1")
    effects = Effects()
    effects.compare_put("version", b"2", b"3")
    effects.put("key", b"value")
    effects.submit(RunSpec(run_id="r"))
    with pytest.raises(EffectConflictError, match="'version'"):
        queue.commit(effects)
    assert values(queue) == {"version": b"1"} and state(WorkflowClient(queue), "r") is None
    queue.kv.put("version", b"2")
    queue.commit(effects)
    assert values(queue) == {"version": b"3", "key": b"value"}
    assert state(WorkflowClient(queue), "r") is RunState.PENDING


def test_a_repeated_commit_meets_the_ids_of_its_jobs(queue: Queue) -> None:
    effects = Effects()
    effects.add("count", 1)
    effects.enqueue("other", b"")
    queue.commit(effects)
    with pytest.raises(DuplicateJobIdError):
        queue.commit(effects)
    assert queue.kv.get("count") == b"1" and queue.stats("other").pending == 1


def test_nothing_staged_is_nothing_to_commit(queue: Queue) -> None:
    queue.commit(Effects())
    assert queue.list_queues() == []


def test_a_run_that_is_submitted_by_effects_wakes_a_runtime(queue: Queue) -> None:
    with WorkflowRuntime(queue, lambda step: Succeed(), poll_interval=3_600) as runtime:
        effects = Effects()
        run_id = effects.submit(RunSpec())
        queue.commit(effects)
        assert ended(runtime, run_id).status is TerminalStatus.SUCCEEDED


# -- hooks -------------------------------------------------------------------------------------------------------------


class Hook:
    """A hook object that takes effects."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def on_termination(self, outcome: RunOutcome, effects: Effects) -> None:
        self.calls.append(outcome.run_id)
        effects.add("told", 1)
        if len(self.calls) == 1:
            raise ConnectionError("once more")


def test_what_a_hook_stages_is_committed_with_its_ack(queue: Queue) -> None:
    hook = Hook()
    runtime = WorkflowRuntime(queue, lambda step: Succeed(), hook)
    runtime.submit(run_id="r")
    runtime.run_until_idle(PATIENCE)
    assert hook.calls == ["r", "r"] and queue.kv.get("told") == b"1"


def hooks_of_every_shape(told: list[Any]) -> dict[str, Any]:
    def by_name(outcome: RunOutcome, effects: Effects) -> None:
        told.append(effects)

    def by_keyword(outcome: RunOutcome, *, effects: Effects) -> None:
        told.append(effects)

    def by_place(outcome: RunOutcome, more: Effects, /) -> None:
        told.append(more)

    def later(outcome: RunOutcome, log: object = None, effects: Effects | None = None) -> None:
        told.append(effects)

    def plain(outcome: RunOutcome) -> None:
        told.append(None)

    def with_default(outcome: RunOutcome, log: Any = None) -> None:
        told.append(log)

    def with_rest(outcome: RunOutcome, *rest: Any, **more: Any) -> None:
        told.append((rest, more) if rest or more else None)

    return {
        "by name": by_name, "by keyword": by_keyword, "by place": by_place, "later": later,
        "plain": plain, "with a default": with_default, "with the rest": with_rest,
    }  # fmt: skip


@pytest.mark.parametrize("shape", hooks_of_every_shape([]))
def test_a_hook_gets_effects_if_it_has_a_place_for_them(queue: Queue, shape: str) -> None:
    told: list[Any] = []
    runtime = WorkflowRuntime(queue, lambda step: Succeed(), hooks_of_every_shape(told)[shape])
    runtime.submit()
    runtime.run_until_idle(PATIENCE)
    takes = shape in ("by name", "by keyword", "by place", "later")
    assert [isinstance(each, Effects) for each in told] == [takes]
    if not takes:
        assert told == [None]
    else:
        with pytest.raises(EffectsSealedError):
            told[0].put("key", b"late")


def test_a_hook_submits_to_the_queue_of_its_runtime(queue: Queue) -> None:
    def hook(outcome: RunOutcome, effects: Effects) -> None:
        if outcome.run_id == "first":
            effects.submit(RunSpec(run_id="second"))

    runtime = WorkflowRuntime(queue, lambda step: Succeed(), hook, queue_name="mine")
    runtime.submit(run_id="first")
    runtime.run_until_idle(PATIENCE)
    assert state(runtime, "second") is RunState.SUCCEEDED


def test_a_refused_hook_is_called_again_uncharged(queue: Queue) -> None:
    calls: list[bytes | None] = []

    def hook(outcome: RunOutcome, effects: Effects) -> None:
        version = queue.kv.get("version")
        calls.append(version)
        if len(calls) < 5:
            queue.kv.put("version", b"%d" % len(calls))
        effects.compare_put("version", version, b"mine")

    runtime = WorkflowRuntime(queue, lambda step: Succeed(), hook)
    runtime.submit()
    runtime.run_until_idle(PATIENCE)
    assert len(calls) == 5 and queue.kv.get("version") == b"mine"
    assert queue.stats(NOTICES).dead == 0


def test_the_hundredth_refusal_of_a_hook_is_a_dead_letter(queue: Queue, quick: None) -> None:
    calls: list[str] = []

    def hook(outcome: RunOutcome, effects: Effects) -> None:
        calls.append(outcome.run_id)
        effects.compare_put("never", b"there", b"")

    runtime = WorkflowRuntime(queue, lambda step: Succeed(), hook)
    runtime.submit(run_id="r")
    runtime.run_until_idle(PATIENCE)
    (letter,) = queue.dead_jobs(NOTICES).jobs
    assert len(calls) == 100 and (letter.last_error or "").startswith("EffectConflictError: ")


def test_a_hook_that_a_cancel_calls_in_line_commits_its_effects(queue: Queue) -> None:
    calls: list[str] = []

    def hook(outcome: RunOutcome, effects: Effects) -> None:
        calls.append(outcome.run_id)
        effects.add("told", 1)
        if outcome.run_id == "refused" and len(calls) == 2:
            effects.compare_put("never", b"there", b"")

    runtime = WorkflowRuntime(queue, lambda step: Succeed(), hook)
    for run_id in ("fine", "refused"):
        runtime.submit(run_id=run_id)
        assert runtime.cancel(run_id)
    assert calls == ["fine", "refused"] and queue.kv.get("told") == b"1"
    assert queue.stats(NOTICES).scheduled == 1, "put back, to be called again"
    runtime.run_until_idle(PATIENCE)
    assert calls == ["fine", "refused", "refused"] and queue.kv.get("told") == b"2"


def test_a_retry_keeps_no_effects_of_the_failed_attempt(queue: Queue) -> None:
    def stage(step: Step) -> None:
        step.effects.add("count", 1)
        if step.headers:
            raise StepError.permanent("no")

    runtime = run_once(queue, stage, headers={"fails": "1"})
    assert error_of(runtime) == "no" and values(queue) == {}


def test_a_step_made_by_hand_has_no_effects() -> None:
    step = Step("r", 0, b"", {}, "job", 1, 3, threading.Event(), threading.Event())
    from taquba_workflow_sync import InvalidStateError

    for name in ("effects", "kv"):
        with pytest.raises(InvalidStateError, match="by hand"):
            getattr(step, name)


def test_a_step_that_was_put_back_by_another_has_its_effects_dropped(queue: Queue) -> None:
    """Its claim was ended under it, and what it staged is nobody's."""

    def stage(step: Step) -> None:
        step.effects.add("count", 1)
        if step.attempts == 1:
            (claim,) = queue.handle.store.running()
            queue.handle.settle(Settlement(claim.job_id, claim.token, Nack("taken over")))

    run_once(queue, stage)
    assert values(queue) == {"count": b"1"}
