"""Memos of steps and runs: what a step has done already is not done again (FEATURES 1)."""

from __future__ import annotations

import hashlib
import threading

import pytest

from taquba_workflow_sync import (
    Cancel,
    ClaimLostError,
    Continue,
    Fail,
    InvalidStateError,
    MemoFullError,
    PayloadTooLargeError,
    Queue,
    QueueConfig,
    RunNotFoundError,
    Step,
    StepError,
    StepOutcome,
    Succeed,
    TerminalStatus,
    WorkflowClient,
    WorkflowRuntime,
    content_key,
)
from taquba_workflow_sync.storage.port import memo as rules
from taquba_workflow_sync.storage.port.settlement import Ack, Settlement
from tests.queue.support import PATIENCE
from tests.support import await_event

from .support import Gate, ended

ONCE_MORE = QueueConfig(retry_backoff_base=0, max_attempts=5)


class Counting:
    """A function that counts its calls."""

    def __init__(self, answer: bytes = b"answer") -> None:
        self.calls: list[tuple[object, ...]] = []
        self.answer = answer

    def __call__(self, *args: object, **kwargs: object) -> bytes:
        self.calls.append((*args, *kwargs.items()))
        return self.answer


def run_all(queue: Queue, run_step: object, **fields: object) -> tuple[WorkflowRuntime, str]:
    """Submit one run and run it to its end."""
    runtime = WorkflowRuntime(queue, run_step)  # type: ignore[arg-type]
    handle = runtime.submit(run_id="r", **fields)
    runtime.run_until_idle(PATIENCE)
    return runtime, handle.run_id


@pytest.mark.parametrize("memo_of", ["memo", "run_memo"])
def test_what_was_called_before_a_failure_is_not_called_again(queue: Queue, memo_of: str) -> None:
    charge = Counting(b"receipt")

    def run_step(step: Step) -> StepOutcome:
        receipt = getattr(step, memo_of).call("charge", charge, "order", amount=7)
        if step.attempts < 3:
            raise StepError.transient("after the charge")
        return Succeed(receipt)

    runtime, run_id = run_all(queue, run_step, max_attempts_per_step=5)
    assert ended(runtime, run_id).result == b"receipt"
    assert charge.calls == [("order", ("amount", 7))]


def test_a_retried_run_sees_what_its_failed_step_noted(queue: Queue) -> None:
    charge = Counting()
    outcomes: list[StepOutcome] = [Fail("no"), Succeed()]

    def run_step(step: Step) -> StepOutcome:
        step.memo.call("charge", charge)
        return outcomes.pop(0)

    runtime, run_id = run_all(queue, run_step)
    assert runtime.memo(run_id).items == [("charge", b"answer")]
    runtime.retry(run_id)
    runtime.run_until_idle(PATIENCE)
    assert ended(runtime, run_id).status is TerminalStatus.SUCCEEDED
    assert len(charge.calls) == 1
    assert runtime.memo(run_id).items == [], "a success takes the step's memo along"


def test_a_step_has_a_memo_of_its_own_and_the_run_one_for_all(queue: Queue) -> None:
    seen: list[tuple[bytes | None, bytes | None]] = []

    def run_step(step: Step) -> StepOutcome:
        seen.append((step.memo.get("key"), step.run_memo.get("key")))
        step.memo.put("key", b"step %d" % step.step_number)
        step.run_memo.put("key", b"first")
        return Continue(b"") if step.step_number < 2 else Succeed()

    runtime, run_id = run_all(queue, run_step)
    assert seen == [(None, None), (None, b"first"), (None, b"first")]
    assert runtime.memo(run_id, scope="run").items == [("key", b"first")]


def test_the_first_write_wins_and_a_put_says_what_is_there(queue: Queue) -> None:
    answers: list[bytes] = []

    def run_step(step: Step) -> StepOutcome:
        answers.append(step.memo.put("key", b"%d" % step.attempts))
        if step.attempts == 1:
            raise StepError.transient("once more")
        return Succeed()

    run_all(queue, run_step)
    assert answers == [b"1", b"1"]


def test_an_exception_notes_nothing_and_the_next_attempt_calls_again(queue: Queue) -> None:
    calls: list[int] = []

    def flaky(attempt: int) -> bytes:
        calls.append(attempt)
        if attempt == 1:
            raise ConnectionError("away")
        return b"here"

    runtime, run_id = run_all(queue, lambda step: Succeed(step.memo.call("key", flaky, step.attempts)))
    assert ended(runtime, run_id).result == b"here"
    assert calls == [1, 2]


def test_keys_come_in_the_order_of_writing(queue: Queue) -> None:
    def run_step(step: Step) -> StepOutcome:
        for key in ("b", "a", "c"):
            step.memo.put(key, b"")
        return Succeed(",".join(step.memo.keys()).encode())

    runtime, run_id = run_all(queue, run_step)
    assert ended(runtime, run_id).result == b"b,a,c"


def test_two_threads_of_a_step_call_once(queue: Queue) -> None:
    entered, go, calls, answers = threading.Event(), threading.Event(), [], []

    def slow() -> bytes:
        calls.append(threading.get_ident())
        entered.set()
        await_event(go, "the word to go on")
        return b"once"

    def run_step(step: Step) -> StepOutcome:
        memo = step.memo
        threads = [threading.Thread(target=lambda: answers.append(memo.call("key", slow))) for _ in range(4)]
        for thread in threads:
            thread.start()
        await_event(entered, "one of them in the function")
        go.set()
        for thread in threads:
            thread.join(PATIENCE)
        return Succeed()

    run_all(queue, run_step)
    assert (len(calls), answers) == (1, [b"once"] * 4)


def test_threads_call_for_two_keys_at_once(queue: Queue) -> None:
    barrier = threading.Barrier(2)

    def meet() -> bytes:
        barrier.wait(PATIENCE)
        return b"met"

    def run_step(step: Step) -> StepOutcome:
        other = threading.Thread(target=step.memo.call, args=("other", meet))
        other.start()
        met = step.memo.call("one", meet)
        other.join(PATIENCE)
        return Succeed(met)

    runtime, run_id = run_all(queue, run_step)
    assert ended(runtime, run_id).result == b"met"


def test_a_thread_that_waited_for_one_that_failed_calls_itself(queue: Queue) -> None:
    entered, go, answers = threading.Event(), threading.Event(), []

    def failing() -> bytes:
        entered.set()
        await_event(go, "the word to fail")
        raise ValueError("no")

    def run_step(step: Step) -> StepOutcome:
        memo = step.memo

        def first() -> None:
            with pytest.raises(ValueError, match="no"):
                memo.call("key", failing)

        one = threading.Thread(target=first)
        one.start()
        await_event(entered, "the first in its function")
        two = threading.Thread(target=lambda: answers.append(memo.call("key", lambda: b"second")))
        two.start()
        go.set()
        one.join(PATIENCE)
        two.join(PATIENCE)
        return Succeed()

    run_all(queue, run_step)
    assert answers == [b"second"]


def test_a_call_for_a_key_from_within_its_own_call_is_refused(queue: Queue) -> None:
    def run_step(step: Step) -> StepOutcome:
        def inner() -> bytes:
            with pytest.raises(RuntimeError, match="another key"):
                step.memo.call("key", lambda: b"never")
            return step.memo.call("other", lambda: b"fine")

        return Succeed(step.memo.call("key", inner))

    runtime, run_id = run_all(queue, run_step)
    assert ended(runtime, run_id).result == b"fine"


def test_a_zombie_notes_nothing(queue: Queue) -> None:
    """Another handle takes the step over while its thread still runs; what the first then notes is refused."""
    gate = Gate()
    errors: list[BaseException] = []

    def then(step: Step) -> StepOutcome:
        try:
            step.memo.put("late", b"value")
        except ClaimLostError as error:
            errors.append(error)
            raise
        return Succeed()

    gate.then = then
    with WorkflowRuntime(queue, gate) as runtime:
        handle = runtime.submit()
        await_event(gate.started, "the step")
        (claim,) = queue.handle.store.running()
        queue.handle.settle(Settlement(claim.job_id, claim.token, Ack()))
        gate.go.set()
        handle.wait(PATIENCE)
        runtime.stop(PATIENCE)
    assert len(errors) == 1


def test_a_cancelled_step_may_still_note_what_it_did(queue: Queue) -> None:
    gate = Gate()
    gate.then = lambda step: Succeed(step.memo.put("charged", b"yes"))
    with WorkflowRuntime(queue, gate) as runtime:
        handle = runtime.submit(run_id="r")
        await_event(gate.started, "the step")
        assert handle.cancel()
        gate.go.set()
        assert handle.wait(PATIENCE).status is TerminalStatus.CANCELLED
    assert runtime.memo("r").items == []


def test_a_full_memo_is_a_permanent_error(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MOST_ENTRIES", 2)

    def run_step(step: Step) -> StepOutcome:
        for number in range(3):
            step.memo.put(str(number), b"")
        return Succeed()

    runtime, run_id = run_all(queue, run_step)
    outcome = ended(runtime, run_id)
    assert outcome.error is not None and outcome.error.startswith("MemoFullError: ")
    assert MemoFullError.is_permanent


WRONG = {
    "no text": (5, b"", TypeError),
    "empty": ("", b"", ValueError),
    "long": ("x" * 513, b"", ValueError),
    "long in bytes": ("\u00fc" * 257, b"", ValueError),
    "a NUL": ("a\0b", b"", ValueError),
    "a surrogate": ("\ud800", b"", ValueError),
    "value of text": ("key", "text", TypeError),
    "value too large": ("key", b"x" * (2**20 + 1), PayloadTooLargeError),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_entry_is_refused_and_notes_nothing(queue: Queue, what: str) -> None:
    key, value, expected = WRONG[what]
    seen: list[type[BaseException]] = []

    def run_step(step: Step) -> StepOutcome:
        for memo in (step.memo, step.run_memo):
            with pytest.raises(expected) as caught:
                memo.put(key, value)  # type: ignore[arg-type]
            seen.append(caught.type)
            with pytest.raises(expected):
                memo.call(key, lambda: value)  # type: ignore[arg-type,return-value]
            assert memo.keys() == []
        return Succeed()

    runtime, run_id = run_all(queue, run_step)
    assert ended(runtime, run_id).status is TerminalStatus.SUCCEEDED
    assert len(seen) == 2


def test_the_longest_key_and_the_largest_value_are_taken(queue: Queue) -> None:
    def run_step(step: Step) -> StepOutcome:
        step.memo.put("\u00fc" * 256, b"x" * 2**20)
        return Succeed(b"%d" % len(step.memo.get("\u00fc" * 256) or b""))

    runtime, run_id = run_all(queue, run_step)
    assert ended(runtime, run_id).result == b"1048576"


def test_a_function_that_cannot_be_called_is_refused(queue: Queue) -> None:
    runtime, run_id = run_all(queue, lambda step: Succeed(step.memo.call("key", b"no function")))  # type: ignore[arg-type]
    assert "function must be callable" in str(ended(runtime, run_id).error)


def test_a_step_made_by_hand_has_no_store(queue: Queue) -> None:
    step = Step("r", 0, b"", {}, "J", 1, 3, threading.Event(), threading.Event())
    for look in (lambda: step.memo, lambda: step.run_memo):
        with pytest.raises(InvalidStateError, match="made by hand"):
            look()
    assert len(step.idempotency_key()) == 64


# Operators


def test_a_page_of_a_memo_from_another_client(queue: Queue) -> None:
    def run_step(step: Step) -> StepOutcome:
        for number in range(5):
            step.memo.put(f"key-{number}", b"%d" % number)
        return Fail("to be looked at")

    run_all(queue, run_step)
    client = WorkflowClient(queue)
    first = client.memo("r", limit=3)
    rest = client.memo("r", limit=3, cursor=first.next_cursor)
    assert [key for key, _ in first.items + rest.items] == [f"key-{number}" for number in range(5)]
    assert rest.next_cursor is None
    assert client.memo("r", scope="run").items == []


def test_a_memo_of_nobody_is_said_to_be(queue: Queue) -> None:
    client = WorkflowClient(queue)
    with pytest.raises(RunNotFoundError):
        client.memo("nobody")
    client.submit(run_id="r")
    with pytest.raises(ValueError, match="scope is 'all'"):
        client.memo("r", scope="all")
    with pytest.raises(TypeError, match="scope must be a str"):
        client.memo("r", scope=5)  # type: ignore[arg-type]
    for limit in (0, 10_001):
        with pytest.raises(ValueError, match="limit"):
            client.memo("r", limit=limit)
    with pytest.raises(ValueError, match="none of ours"):
        client.memo("r", cursor="x")


def test_a_cancelled_run_has_no_step_memo(queue: Queue) -> None:
    def run_step(step: Step) -> StepOutcome:
        step.memo.put("key", b"")
        return Cancel("enough")

    runtime, run_id = run_all(queue, run_step)
    assert runtime.memo(run_id).items == []


# Keys


def test_an_idempotency_key_is_the_same_at_every_attempt_and_after_a_retry(queue: Queue) -> None:
    seen: list[tuple[int, str, str]] = []
    outcomes: list[object] = [StepError.transient("again"), Fail("no"), Continue(b""), Succeed()]

    def run_step(step: Step) -> StepOutcome:
        seen.append((step.step_number, step.idempotency_key(), step.idempotency_key("refund")))
        outcome = outcomes.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome  # type: ignore[return-value]

    runtime, run_id = run_all(queue, run_step)
    runtime.retry(run_id)
    runtime.run_until_idle(PATIENCE)
    assert len(seen) == 4
    assert len({(plain, named) for number, plain, named in seen if number == 0}) == 1, "whichever attempt it is"
    keys = {key for _, *pair in seen for key in pair}
    assert len(keys) == 4, "another step, and another name, have others"
    assert all(len(key) == 64 and set(key) <= set("0123456789abcdef") for key in keys)


def test_another_run_of_the_same_name_has_other_keys(queue: Queue) -> None:
    seen: set[str] = set()

    def run_step(step: Step) -> StepOutcome:
        seen.add(step.idempotency_key())
        return Succeed()

    runtime = WorkflowRuntime(queue, run_step, keep_runs=None)
    for _ in range(2):
        runtime.submit(run_id="r")
        runtime.run_until_idle(PATIENCE)
    assert len(seen) == 2


def test_content_keys_tell_contents_apart_and_nothing_else() -> None:
    assert content_key("a", {"x": 1, "y": [2, None, True]}) == content_key("a", {"y": (2, None, True), "x": 1})
    different = [
        content_key(), content_key([]), content_key("a", "b"), content_key("ab"), content_key(["a", "b"]),
        content_key(1), content_key("1"), content_key(1.5), content_key(True), content_key(None), content_key("None"),
        content_key({"a": 1}), content_key({"a": "1"}), content_key("\u00fc"), content_key("u\u0308"),
    ]  # fmt: skip
    assert len(set(different)) == len(different)


def test_a_content_key_is_the_sha_256_of_the_canonical_json() -> None:
    text = '["order",{"a":[1,2.5,null],"\u00fc":"x"},true]'
    assert content_key("order", {"\u00fc": "x", "a": (1, 2.5, None)}, True) == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    ("part", "expected"),
    [(b"bytes", TypeError), ({1: "x"}, TypeError), ({"a"}, TypeError), (object(), TypeError),
     (float("nan"), ValueError), (float("inf"), ValueError), ("\ud800", ValueError)],
)  # fmt: skip
def test_what_json_cannot_say_makes_no_key(part: object, expected: type[Exception]) -> None:
    with pytest.raises(expected):
        content_key("a", part)
    with pytest.raises(expected):
        content_key([{"deep": part}])


def test_parts_that_contain_themselves_make_no_key() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(ValueError, match="too deep"):
        content_key(endless)


@pytest.mark.parametrize("name", [5, None, b"x"])
def test_a_name_that_is_no_text_makes_no_key(name: object) -> None:
    step = Step("r", 0, b"", {}, "J", 1, 3, threading.Event(), threading.Event())
    with pytest.raises(TypeError, match="name must be a str"):
        step.idempotency_key(name)  # type: ignore[arg-type]
