"""Groups: fan out, fan in, as users see it (FEATURES 4)."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from taquba_workflow_sync import (
    Cancel,
    Continue,
    ContinueOnGroup,
    Effects,
    EffectsSealedError,
    Fail,
    Group,
    GroupMismatchError,
    GroupNotFoundError,
    GroupStatus,
    InputMismatchError,
    InvalidNameError,
    InvalidStateError,
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
from taquba_workflow_sync.ids import new_ulid
from taquba_workflow_sync.storage.port.group import HeldBy, NewGroup, Progress
from taquba_workflow_sync.storage.port.job import NewJob
from taquba_workflow_sync.storage.relational.transitions import group as embedded_group
from taquba_workflow_sync.testing import ManualClock
from taquba_workflow_sync.workflow.group_writing import new_group
from taquba_workflow_sync.workflow.new_run import new_run
from tests.queue.support import PATIENCE
from tests.storage.memory import groups as memory_groups
from tests.support import await_event, in_thread

from .support import Gate, echo, ended, state

ONCE = QueueConfig(retry_backoff_base=0, max_attempts=1)


def specs(many: int, **fields: Any) -> list[RunSpec]:
    return [RunSpec(input=b"%d" % index, **fields) for index in range(many)]


class FanOut:
    """A parent that submits a group and waits for it; a member that fails where its input says so."""

    def __init__(self, many: int = 3, **options: Any) -> None:
        self.many = many
        self.timeout = options.pop("timeout", None)
        self.options = options
        self.client: WorkflowClient | None = None
        self.fails: set[bytes] = set()
        self.seen: list[tuple[int, bool, GroupStatus | None]] = []

    def run_step(self, step: Step) -> StepOutcome:
        if step.run_id != "parent":
            if step.payload in self.fails:
                raise StepError.permanent("bad input")
            return Succeed(b"did " + step.payload)
        if step.step_number == 0:
            assert self.client is not None
            self.client.submit_group("g", specs(self.many), **self.options)
            return ContinueOnGroup(b"x", "g", self.timeout)
        self.seen.append((step.attempts, step.wait_timed_out, step.group.status() if step.group else None))
        return Succeed(b"all")


def runtime_of(queue: Queue, runner: FanOut) -> WorkflowRuntime:
    runner.client = WorkflowRuntime(queue, runner)
    return runner.client


@pytest.fixture
def client(queue: Queue) -> WorkflowClient:
    return WorkflowClient(queue)


@pytest.fixture
def timed(clock: ManualClock, tmp_path: Path) -> Iterator[Queue]:
    """A store whose time the test moves."""
    with Queue.open(tmp_path / "timed", clock=clock, durability="relaxed") as one:
        yield one


# Fan out, fan in


def test_a_parent_waits_as_a_row_for_all_its_members_and_reads_their_results(queue: Queue) -> None:
    runner = FanOut(5)
    runtime = runtime_of(queue, runner)
    runtime.submit(run_id="parent")
    counts = runtime.run_until_idle(PATIENCE)
    assert (counts.succeeded, counts.failed) == (6, 0)
    assert runner.seen == [(1, False, GroupStatus(5, 5, 0, 0, 0))]
    page = runtime.group("g").results()
    assert [each and each.result for each in page.results] == [b"did %d" % index for index in range(5)]
    assert page.next_cursor is None


def test_the_parents_thread_is_free_while_it_waits(queue: Queue) -> None:
    runner = FanOut(3)
    runtime = runtime_of(queue, runner)
    runtime._size = 1
    runtime.submit(run_id="parent")
    with runtime:
        assert ended(runtime, "parent").result == b"all"


def test_more_members_than_enter_the_line_at_once_all_run(queue: Queue) -> None:
    runner = FanOut(1_203)
    runtime = runtime_of(queue, runner)
    runtime.submit(run_id="parent")
    runtime.run_until_idle(3 * PATIENCE)
    assert runner.seen == [(1, False, GroupStatus(1_203, 1_203, 0, 0, 0))]


def test_a_waiting_parent_says_what_it_waits_for(queue: Queue, client: WorkflowClient) -> None:
    gate = Gate(then=echo)

    def run_step(step: Step) -> StepOutcome:
        if step.run_id == "parent":
            return ContinueOnGroup(b"", "g") if step.step_number == 0 else Succeed()
        return gate.run_step(step)

    client.submit_group("g", specs(1))
    client.submit(run_id="parent")
    with WorkflowRuntime(queue, run_step) as runtime:
        await_event(gate.started)
        found = client.status("parent")
        while found is not None and found.current_step == 0:
            found = client.status("parent")
        assert found is not None
        assert (found.state, found.waiting_for) == (RunState.PENDING, "group:g")
        gate.go.set()
        ended(runtime, "parent")
    after = client.status("parent")
    assert after is not None and after.waiting_for is None


def test_waiting_for_an_unknown_group_is_permanent(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, lambda step: ContinueOnGroup(b"", "nowhere"))
    runtime.submit(run_id="r")
    runtime.run_until_idle(PATIENCE)
    outcome = ended(runtime, "r")
    assert outcome.status is TerminalStatus.FAILED and "GroupNotFoundError" in str(outcome.error)
    row = runtime.status("r")
    assert row is not None and row.attempts == 1


def test_a_second_waiter_is_permanent(queue: Queue, client: WorkflowClient) -> None:
    client.submit_group("g", specs(1), queue_name="nobody-serves-it")
    runtime = WorkflowRuntime(queue, lambda step: ContinueOnGroup(b"", "g"))
    runtime.submit(run_id="first")
    runtime.run_until_idle(PATIENCE)
    runtime.submit(run_id="second")
    runtime.run_until_idle(PATIENCE)
    assert state(runtime, "first") is RunState.PENDING
    assert "awaited by another run" in str(ended(runtime, "second").error)


def test_the_timeout_comes_first(timed: Queue, clock: ManualClock) -> None:
    queue = timed
    runner = FanOut(1, queue_name="nobody-serves-it", timeout=5)
    runtime = runtime_of(queue, runner)
    runtime.submit(run_id="parent")
    runtime.run_until_idle(PATIENCE)
    assert runner.seen == []
    clock.advance(5)
    runtime.run_until_idle(PATIENCE)
    assert runner.seen == [(1, True, GroupStatus(1, 0, 0, 0, 1))]


def test_how_a_wait_ended_is_the_same_at_every_attempt(queue: Queue, client: WorkflowClient) -> None:
    seen: list[bool] = []

    def run_step(step: Step) -> StepOutcome:
        if step.run_id != "parent":
            return Succeed()
        if step.step_number == 0:
            return ContinueOnGroup(b"", "g", timeout=0)
        seen.append(step.wait_timed_out)
        if step.attempts == 1:
            assert step.group is not None
            client.submit_group("other", [])
            step.group.cancel()
            raise RuntimeError("once")
        return Succeed()

    client.submit_group("g", specs(2), queue_name="nobody-serves-it")
    runtime = WorkflowRuntime(queue, run_step)
    runtime.submit(run_id="parent", max_attempts_per_step=3)
    runtime.run_until_idle(PATIENCE)
    assert seen == [True, True]
    assert client.group("g").status().cancelled == 2


def test_a_step_that_waited_for_nothing_has_no_group(queue: Queue) -> None:
    seen: list[tuple[object, bool]] = []

    def run_step(step: Step) -> StepOutcome:
        seen.append((step.group, step.wait_timed_out))
        return Continue() if step.step_number == 0 else Succeed()

    runtime = WorkflowRuntime(queue, run_step)
    runtime.submit()
    runtime.run_until_idle(PATIENCE)
    assert seen == [(None, False), (None, False)]


def test_a_later_step_has_no_group(queue: Queue, client: WorkflowClient) -> None:
    seen: list[object] = []

    def run_step(step: Step) -> StepOutcome:
        if step.step_number == 0:
            return ContinueOnGroup(b"", "g")
        seen.append(None if step.group is None else step.group.group_id)
        return Continue() if step.step_number == 1 else Succeed()

    client.submit_group("g", [])
    runtime = WorkflowRuntime(queue, run_step)
    runtime.submit()
    runtime.run_until_idle(PATIENCE)
    assert seen == ["g", None]
    assert client.group("g").status().total == 0, "it is there for whoever asks"


def test_the_outcome_is_checked_when_it_is_made() -> None:
    assert ContinueOnGroup(b"", "g", timeout=1.5).timeout_ms == 1_500
    for wrong in ("", "a b", "x" * 121, "a\0"):
        with pytest.raises(ValueError, match="1 to 120"):
            ContinueOnGroup(b"", wrong)
    with pytest.raises(TypeError):
        ContinueOnGroup("text", "g")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        ContinueOnGroup(b"", 5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="timeout"):
        ContinueOnGroup(b"", "g", timeout=-1)


# Submitted


def test_members_are_runs_like_any_other_named_by_their_spec_or_their_place(queue: Queue) -> None:
    told: list[RunOutcome] = []
    runtime = WorkflowRuntime(queue, echo, told.append)
    members = [RunSpec(input=b"a", run_id="mine", headers={"h": "v"}), RunSpec(input=b"b")]
    group = runtime.submit_group("g", members)
    assert [run.run_id for run in runtime.list_runs().runs] == ["mine", "g-1"]
    assert group.group_id == "g" and repr(group) == "Group('g')"
    runtime.run_until_idle(PATIENCE)
    assert {(each.run_id, each.result) for each in told} == {("mine", b"a"), ("g-1", b"b")}
    assert told[0].headers in ({"h": "v"}, {})
    status = runtime.status("mine")
    assert status is not None and (status.state, status.headers) == (RunState.SUCCEEDED, {"h": "v"})


def test_the_same_group_again_is_a_no_op(client: WorkflowClient) -> None:
    client.submit_group("g", specs(3))
    before = client.list_runs()
    assert client.submit_group("g", specs(3)).status() == GroupStatus(3, 0, 0, 0, 3)
    assert client.list_runs() == before


OTHERS: dict[str, dict[str, Any]] = {
    "fewer members": {"specs": specs(2)},
    "another input": {"specs": [*specs(2), RunSpec(input=b"else")]},
    "another name": {"specs": [*specs(2), RunSpec(input=b"2", run_id="named")]},
    "another order": {"specs": [RunSpec(input=b"%d" % index, run_id=f"g-{index}") for index in (1, 0, 2)]},
    "another queue": {"specs": specs(3), "queue_name": "other"},
    "another on_failure": {"specs": specs(3), "on_failure": "cancel"},
}


@pytest.mark.parametrize("how", OTHERS)
def test_another_group_of_that_id_is_refused(client: WorkflowClient, how: str) -> None:
    client.submit_group("g", specs(3))
    before = client.list_runs()
    with pytest.raises(GroupMismatchError, match="'g'"):
        client.submit_group("g", **OTHERS[how])
    assert client.list_runs() == before


def test_a_member_that_says_its_own_default_name_is_the_same_member(client: WorkflowClient) -> None:
    client.submit_group("g", specs(2))
    client.submit_group("g", [RunSpec(input=b"0", run_id="g-0"), RunSpec(input=b"1", run_id="g-1")])


def test_two_members_of_one_name_are_refused(client: WorkflowClient) -> None:
    for members in ([RunSpec(run_id="a"), RunSpec(run_id="a")], [RunSpec(run_id="g-1"), RunSpec()]):
        with pytest.raises(ValueError, match="another member"):
            client.submit_group("g", members)
    assert client.list_runs().runs == []


@pytest.mark.parametrize("is_active", [True, False], ids=["active", "kept"])
def test_a_members_name_that_a_run_outside_the_group_has_is_refused(queue: Queue, is_active: bool) -> None:
    runtime = WorkflowRuntime(queue, echo)
    runtime.submit(run_id="g-1", input=b"1")
    if not is_active:
        runtime.run_until_idle(PATIENCE)
    before = runtime.list_runs()
    with pytest.raises(GroupMismatchError, match="'g-1'"):
        runtime.submit_group("g", specs(3))
    assert runtime.list_runs() == before
    with pytest.raises(GroupNotFoundError):
        runtime.group("g")
    runtime.submit(run_id="g-0")


def test_a_taken_name_far_behind_leaves_nothing_either(client: WorkflowClient) -> None:
    client.submit(run_id="g-2500")
    with pytest.raises(GroupMismatchError, match="g-2500"):
        client.submit_group("g", specs(3_000))
    assert [run.run_id for run in client.list_runs(limit=10_000).runs] == ["g-2500"]
    client.submit_group("g", specs(100))


@pytest.mark.parametrize("group_id", ["", "a b", "x" * 121, "g/1"])
def test_ids_have_1_to_120_characters(client: WorkflowClient, group_id: str) -> None:
    with pytest.raises(InvalidNameError, match="1 to 120"):
        client.submit_group(group_id, [])
    with pytest.raises(InvalidNameError):
        client.group(group_id)


def test_the_longest_id_can_name_its_members(client: WorkflowClient) -> None:
    client.submit_group("x" * 120, specs(2))
    assert client.list_runs().runs[1].run_id == "x" * 120 + "-1"


def test_ids_are_unique_in_the_store_whatever_the_queue(queue: Queue, client: WorkflowClient) -> None:
    client.submit_group("g", specs(1))
    other = WorkflowClient(queue, queue_name="other")
    with pytest.raises(GroupMismatchError):
        other.submit_group("g", specs(1))
    assert other.group("g").status().total == 1


def test_wrong_arguments_are_refused_before_anything_is_written(client: WorkflowClient, queue: Queue) -> None:
    too_large = b"x" * (queue.handle.max_payload_bytes + 1)
    wrong: list[tuple[type[Exception], Any, dict[str, Any]]] = [
        (TypeError, RunSpec(), {}),
        (TypeError, [RunSpec(), "text"], {}),
        (TypeError, 5, {}),
        (PayloadTooLargeError, [RunSpec(), RunSpec(input=too_large)], {}),
        (ValueError, [], {"on_failure": "explode"}),
        (TypeError, [], {"on_failure": 5}),
        (ValueError, [], {"queue_name": ""}),
        (ValueError, (RunSpec() for _ in range(100_001)), {}),
    ]
    for error, members, options in wrong:
        with pytest.raises(error):
            client.submit_group("g", members, **options)
    assert client.list_runs().runs == []
    with pytest.raises(GroupNotFoundError):
        client.group("g")


def test_a_generator_will_do(client: WorkflowClient) -> None:
    assert client.submit_group("g", iter(specs(2))).status().total == 2


def test_an_empty_group_has_ended(queue: Queue, client: WorkflowClient) -> None:
    group = client.submit_group("g", [])
    assert group.wait() == GroupStatus(0, 0, 0, 0, 0)
    assert group.results().results == []
    group.forget()


def test_members_of_another_queue_run_there(queue: Queue, client: WorkflowClient) -> None:
    group = client.submit_group("g", specs(2), queue_name="other")
    assert client.list_runs().runs == []
    WorkflowRuntime(queue, echo, queue_name="other").run_until_idle(PATIENCE)
    assert group.status().succeeded == 2


# How it stands, and what came of it


def test_results_come_in_the_order_of_submission_with_none_for_open_members(queue: Queue) -> None:
    gate = Gate()
    runtime = WorkflowRuntime(queue, lambda step: gate.run_step(step) if step.payload == b"1" else echo(step))
    group = runtime.submit_group("g", specs(3))
    with runtime:
        await_event(gate.started)
        ended(runtime, "g-2")
        ended(runtime, "g-0")
        assert group.status() == GroupStatus(3, 2, 0, 0, 1)
        assert [each and each.result for each in group.results().results] == [b"0", None, b"2"]
        gate.go.set()
        assert group.wait(PATIENCE) == GroupStatus(3, 3, 0, 0, 0)


def test_results_come_in_pages(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, echo)
    group = runtime.submit_group("g", specs(5))
    runtime.run_until_idle(PATIENCE)
    seen: list[bytes | None] = []
    cursor = None
    for size in (2, 2, 1):
        page = group.results(limit=2, cursor=cursor)
        assert len(page.results) == size
        seen += [each.result if each else None for each in page.results]
        cursor = page.next_cursor
    assert cursor is None and seen == [b"0", b"1", b"2", b"3", b"4"]
    for wrong in ({"limit": 0}, {"cursor": "nonsense"}):
        with pytest.raises(ValueError, match=r"limit|none of"):
            group.results(**wrong)  # type: ignore[arg-type]


def test_waiting_for_a_group_ends_with_its_last_member(queue: Queue) -> None:
    gate = Gate()
    runtime = WorkflowRuntime(queue, gate)
    group = runtime.submit_group("g", specs(3))
    with runtime:
        await_event(gate.started)
        with pytest.raises(TimeoutError, match="'g'"):
            group.wait(0)
        joined = in_thread(lambda: group.wait(PATIENCE))
        gate.go.set()
        assert joined() == GroupStatus(3, 3, 0, 0, 0)


def test_another_handle_waits_for_a_group_too(queue: Queue, client: WorkflowClient) -> None:
    gate = Gate()
    runtime = WorkflowRuntime(queue, gate)
    runtime.submit_group("g", specs(2))
    other = client.group("g")
    with runtime:
        await_event(gate.started)
        joined = in_thread(lambda: other.wait(PATIENCE))
        gate.go.set()
        assert joined().succeeded == 2


def test_an_endless_wait_from_a_step_of_the_members_queue_is_refused(queue: Queue) -> None:
    seen: list[str] = []

    def run_step(step: Step) -> StepOutcome:
        if step.run_id == "parent":
            with pytest.raises(RuntimeError, match="timeout"):
                runtime.group("g").wait()
            seen.append(step.run_id)
        return Succeed()

    runtime = WorkflowRuntime(queue, run_step)
    runtime.submit(run_id="parent", priority=1)
    runtime.submit_group("g", specs(1))
    runtime.run_until_idle(PATIENCE)
    assert seen == ["parent"]


def test_an_unknown_group_is_not_found(client: WorkflowClient) -> None:
    group = client.submit_group("g", [])
    group.forget()
    with pytest.raises(GroupNotFoundError, match="'g'"):
        client.group("g")
    for call in (group.status, group.results, group.wait, group.cancel, group.retry_failed, group.forget):
        with pytest.raises(GroupNotFoundError, match="'g'"):
            call()


def test_a_group_cannot_be_pickled(client: WorkflowClient) -> None:
    with pytest.raises(TypeError, match="group_id"):
        pickle.dumps(client.submit_group("g", []))


# Failures


def test_with_collect_every_member_runs_and_the_parent_sees_what_failed(queue: Queue) -> None:
    runner = FanOut(3)
    runner.fails = {b"1"}
    runtime = runtime_of(queue, runner)
    runtime.submit(run_id="parent")
    runtime.run_until_idle(PATIENCE)
    assert runner.seen == [(1, False, GroupStatus(3, 2, 1, 0, 0))]
    results = runtime.group("g").results().results
    assert [each and each.status for each in results] == ["succeeded", "failed", "succeeded"]


def test_failed_members_are_retried_and_counted_again(queue: Queue) -> None:
    runner = FanOut(3)
    runner.fails = {b"0", b"1"}
    runtime = runtime_of(queue, runner)
    group = runtime.submit_group("g", specs(3))
    runtime.run_until_idle(PATIENCE)
    assert group.status() == GroupStatus(3, 1, 2, 0, 0)
    runner.fails = {b"0"}
    assert group.retry_failed() == 2
    assert group.status() == GroupStatus(3, 1, 0, 0, 2)
    runtime.run_until_idle(PATIENCE)
    assert group.status() == GroupStatus(3, 2, 1, 0, 0)
    runner.fails = set()
    runtime.retry("g-0")
    runtime.run_until_idle(PATIENCE)
    assert group.status() == GroupStatus(3, 3, 0, 0, 0)
    assert group.retry_failed() == 0


def test_more_failed_members_than_a_piece_are_retried(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    a_piece = 20
    for engine in (embedded_group, memory_groups):
        monkeypatch.setattr(engine, "MEMBERS_A_PIECE", a_piece)
    runtime = WorkflowRuntime(queue, lambda step: Fail("no") if step.attempts == 1 and failing else Succeed())
    failing = True
    many = 2 * a_piece + 10
    group = runtime.submit_group("g", specs(many))
    runtime.run_until_idle(PATIENCE)
    failing = False
    assert group.retry_failed() == many
    runtime.run_until_idle(PATIENCE)
    assert group.status().succeeded == many


def test_a_member_retries_by_itself_before_it_counts_as_failed(queue: Queue) -> None:
    def run_step(step: Step) -> StepOutcome:
        if step.attempts == 1:
            raise RuntimeError("once")
        return Succeed()

    with Queue.temporary(default_config=QueueConfig(retry_backoff_base=0), durability="relaxed") as own:
        runtime = WorkflowRuntime(own, run_step)
        group = runtime.submit_group("g", specs(3), on_failure="cancel")
        runtime.run_until_idle(PATIENCE)
        assert group.status() == GroupStatus(3, 3, 0, 0, 0)


def test_on_failure_cancel_wakes_the_parent_and_cancels_the_rest(queue: Queue) -> None:
    runner = FanOut(600, on_failure="cancel")
    runner.fails = {b"0"}
    runtime = runtime_of(queue, runner)
    runtime._size = 1
    runtime.submit(run_id="parent", priority=1)
    runtime.run_until_idle(PATIENCE)
    ((attempts, timed_out, _),) = runner.seen
    assert (attempts, timed_out) == (1, False)
    assert runtime.group("g").status() == GroupStatus(600, 0, 1, 599, 0)


def test_a_cancelled_member_cancels_nobody(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, lambda step: Cancel("me") if step.payload == b"0" else Succeed())
    group = runtime.submit_group("g", specs(3), on_failure="cancel")
    runtime.run_until_idle(PATIENCE)
    assert group.status() == GroupStatus(3, 2, 0, 1, 0)


# Cancelling


def test_cancelling_a_group_ends_what_waits_and_stops_what_runs(queue: Queue) -> None:
    gate = Gate()
    runtime = WorkflowRuntime(queue, gate, max_concurrent_steps=1)
    group = runtime.submit_group("g", specs(700))
    with runtime:
        await_event(gate.started)
        group.cancel()
        assert group.status() == GroupStatus(700, 0, 0, 699, 1)
        (step,) = gate.steps
        await_event(step.cancel_token, "the step's token")
        gate.go.set()
        assert group.wait(PATIENCE) == GroupStatus(700, 0, 0, 700, 0)
    assert len(gate.steps) == 1
    group.cancel()


def test_a_waiting_parent_that_is_cancelled_cancels_its_group(queue: Queue, client: WorkflowClient) -> None:
    runner = FanOut(3, queue_name="members")
    runtime = runtime_of(queue, runner)
    runtime.submit(run_id="parent")
    runtime.run_until_idle(PATIENCE)
    assert runtime.cancel("parent")
    WorkflowRuntime(queue, echo, queue_name="members").run_until_idle(PATIENCE)
    assert runtime.group("g").status() == GroupStatus(3, 0, 0, 3, 0)


def test_a_hook_is_told_of_every_member_that_was_cancelled(queue: Queue) -> None:
    told: list[str] = []
    runtime = WorkflowRuntime(queue, echo, lambda outcome: told.append(f"{outcome.run_id} {outcome.status}"))
    group = runtime.submit_group("g", specs(3))
    group.cancel()
    runtime.run_until_idle(PATIENCE)
    assert sorted(told) == ["g-0 cancelled", "g-1 cancelled", "g-2 cancelled"]


def test_other_ends_of_a_parent_leave_its_group_running(queue: Queue, client: WorkflowClient) -> None:
    def run_step(step: Step) -> StepOutcome:
        return ContinueOnGroup(b"", "g", timeout=0) if step.step_number == 0 else Fail("enough")

    group = client.submit_group("g", specs(2), queue_name="members")
    runtime = WorkflowRuntime(queue, run_step)
    runtime.submit(run_id="parent")
    runtime.run_until_idle(PATIENCE)
    assert group.status() == GroupStatus(2, 0, 0, 0, 2)
    WorkflowRuntime(queue, echo, queue_name="members").run_until_idle(PATIENCE)
    assert group.status().succeeded == 2


# Forgotten, and kept


def test_a_group_with_open_members_cannot_be_forgotten(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, echo)
    group = runtime.submit_group("g", specs(2))
    with pytest.raises(InvalidStateError, match="open members"):
        group.forget()
    runtime.run_until_idle(PATIENCE)
    group.forget()
    assert runtime.outcome("g-0") is not None, "its members stay"
    runtime.submit_group("g", [RunSpec(run_id="other")])


def test_results_are_there_as_long_after_the_groups_end_as_runs_are_kept(timed: Queue, clock: ManualClock) -> None:
    queue = timed
    runtime = WorkflowRuntime(queue, echo, keep_runs=100)
    group = runtime.submit_group("g", [RunSpec(input=b"0"), RunSpec(input=b"1", priority=5_000)])
    runtime.run_until_idle(PATIENCE)
    clock.advance(99)
    assert [each and each.result for each in group.results().results] == [b"0", b"1"]
    assert state(runtime, "g-0") is RunState.SUCCEEDED
    with pytest.raises(InputMismatchError):
        runtime.submit(run_id="g-0", input=b"else")
    clock.advance(1)
    assert state(runtime, "g-0") is None
    while queue.handle.sweep():
        pass
    with pytest.raises(GroupNotFoundError):
        runtime.group("g")
    runtime.submit_group("g", specs(3))


def test_a_client_that_keeps_no_runs_reads_results_all_the_same(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, echo, keep_runs=None)
    group = runtime.submit_group("g", specs(2))
    runtime.run_until_idle(PATIENCE)
    assert [each and each.result for each in group.results().results] == [b"0", b"1"]


# A process that dies


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "store"


class Stopped(Exception):
    """What stands for the death of a process in the middle of a submit."""


def test_a_submit_that_was_cut_short_is_seen_by_nobody_and_goes_on_when_repeated(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    write = queue.handle.group_write

    def dying(group: NewGroup, position: int, members: Sequence[NewJob], writer: HeldBy | None) -> Progress:
        if position == 2_000 and len(written) == 2:
            raise Stopped
        written.append(position)
        return write(group, position, members, writer)

    monkeypatch.setattr(queue.handle, "group_write", dying)
    client = WorkflowClient(queue)
    with pytest.raises(Stopped):
        client.submit_group("g", specs(2_500))
    assert client.list_runs().runs == []
    with pytest.raises(GroupNotFoundError):
        client.group("g")
    with pytest.raises(InputMismatchError, match="being written"):
        client.submit(run_id="g-0", input=b"0")
    group = client.submit_group("g", specs(2_500))
    assert written == [0, 1_000, 0, 2_000], "the second call asks how far it is, and goes on"
    assert group.status() == GroupStatus(2_500, 0, 0, 0, 2_500)
    assert len(client.list_runs(limit=10_000).runs) == 2_500
    assert queue.check().ok


def test_a_submit_that_nobody_repeats_is_swept(directory: Path) -> None:
    first = Queue.open(directory, durability="relaxed")
    job = new_run(first.handle, RunSpec(run_id="g-0"), "workflow-steps", 0, new_ulid())
    first.handle.group_write(new_group("g", "workflow-steps", specs(2, run_id="x"), "collect", 0), 0, [job], None)
    first.close()
    with Queue.open(directory, durability="relaxed") as queue:
        runtime = WorkflowRuntime(queue, echo)
        runtime.run_until_idle(PATIENCE)
        while queue.handle.sweep():
            pass
        runtime.submit(run_id="g-0")
        assert queue.check().ok


def test_two_submits_of_one_group_at_once_make_one(directory: Path) -> None:
    members = specs(3_000)
    with Queue.open(directory, durability="relaxed") as queue:
        go = threading.Barrier(2)

        def submit() -> Group:
            go.wait(PATIENCE)
            return WorkflowClient(queue).submit_group("g", members)

        first, second = in_thread(submit), in_thread(submit)
        assert first().status() == second().status() == GroupStatus(3_000, 0, 0, 0, 3_000)
        assert len(WorkflowClient(queue).list_runs(limit=10_000).runs) == 3_000
        assert queue.check().ok


# As an effect of a step


class Spawner:
    """A parent whose step submits a group with its end, as often as it is tried; members succeed."""

    def __init__(self, many: int = 3, then: Any = None, **options: Any) -> None:
        self.many = many
        self.options = options
        self.then = then or (lambda step: ContinueOnGroup(b"x", "g"))
        self.seen: list[GroupStatus | None] = []
        self.effects: Any = None

    def run_step(self, step: Step) -> StepOutcome:
        if step.run_id != "parent":
            return Succeed(b"did " + step.payload)
        if step.step_number == 0:
            self.effects = step.effects
            assert step.effects.submit_group("g", specs(self.many), **self.options) is None
            outcome: StepOutcome = self.then(step)
            return outcome
        self.seen.append(step.group.status() if step.group else None)
        return Succeed(b"all")


def run_parent(queue: Queue, runner: Spawner, **fields: Any) -> WorkflowRuntime:
    runtime = WorkflowRuntime(queue, runner)
    runtime.submit(run_id="parent", **fields)
    runtime.run_until_idle(PATIENCE)
    return runtime


def test_a_step_submits_a_group_with_its_end_and_waits_for_it(queue: Queue) -> None:
    runner = Spawner(3)
    runtime = run_parent(queue, runner)
    assert runner.seen == [GroupStatus(3, 3, 0, 0, 0)]
    status = runtime.status("parent")
    assert status is not None and status.children == 3
    assert {each.parent for each in runtime.list_runs(parent="parent").runs} == {"parent"}
    assert queue.check().ok


def test_an_empty_group_of_a_step_has_ended(queue: Queue) -> None:
    runner = Spawner(0)
    run_parent(queue, runner)
    assert runner.seen == [GroupStatus(0, 0, 0, 0, 0)]


def test_nobody_sees_the_members_before_the_step_ends(queue: Queue) -> None:
    seen: list[Any] = []

    def look(step: Step) -> StepOutcome:
        client = WorkflowClient(queue)
        seen.append((client.status("g-0"), len(client.list_runs().runs)))
        with pytest.raises(GroupNotFoundError):
            client.group("g")
        return ContinueOnGroup(b"x", "g")

    run_parent(queue, Spawner(2, look))
    assert seen == [(None, 1)]


def test_a_step_that_raises_submits_nothing_and_its_next_attempt_goes_on(queue: Queue) -> None:
    def fail_once(step: Step) -> StepOutcome:
        if step.attempts == 1:
            raise RuntimeError("once")
        return ContinueOnGroup(b"x", "g")

    runner = Spawner(2_100, fail_once)
    run_parent(queue, runner)
    assert runner.seen == [GroupStatus(2_100, 2_100, 0, 0, 0)]


def test_a_run_that_ends_without_it_leaves_no_member(queue: Queue) -> None:
    def refuse(step: Step) -> StepOutcome:
        raise StepError.permanent("no")

    runtime = run_parent(queue, Spawner(3, refuse))
    while queue.handle.sweep():
        pass
    assert [each.run_id for each in runtime.list_runs().runs] == ["parent"]
    runtime.submit(run_id="g-0")
    assert queue.check().ok


def test_a_step_may_submit_the_same_group_twice(queue: Queue) -> None:
    def again(step: Step) -> StepOutcome:
        step.effects.submit_group("g", specs(2))
        return ContinueOnGroup(b"x", "g")

    runner = Spawner(2, again)
    run_parent(queue, runner)
    assert runner.seen == [GroupStatus(2, 2, 0, 0, 0)]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda step: step.effects.submit_group("g", specs(4)), GroupMismatchError),
        (lambda step: step.effects.submit_group("g", specs(3), on_failure="cancel"), GroupMismatchError),
        (lambda step: step.effects.submit_group("", specs(3)), ValueError),
        (lambda step: step.effects.submit_group("h", specs(2, run_id="same")), ValueError),
        (lambda step: step.effects.submit_group("h", [RunSpec(effects=Effects())]), ValueError),
        (lambda step: step.effects.submit_group("h", specs(1), queue_name="x.terminal"), InvalidNameError),
        (lambda step: step.effects.submit_group("h", [RunSpec(run_id="parent")]), GroupMismatchError),
    ],
)
def test_what_cannot_be_submitted_is_refused_at_the_call(queue: Queue, call: Any, error: type[Exception]) -> None:
    def refused(step: Step) -> StepOutcome:
        with pytest.raises(error):
            call(step)
        return ContinueOnGroup(b"x", "g")

    runner = Spawner(3, refused)
    run_parent(queue, runner)
    assert runner.seen == [GroupStatus(3, 3, 0, 0, 0)]


def test_after_the_step_has_returned_no_group_is_submitted(queue: Queue) -> None:
    runner = Spawner(1)
    run_parent(queue, runner)
    with pytest.raises(EffectsSealedError):
        runner.effects.submit_group("late", specs(1))


def test_only_a_step_has_groups_as_effects(queue: Queue) -> None:
    with pytest.raises(InvalidStateError, match="WorkflowClient"):
        Effects().submit_group("g", specs(1))


def test_a_step_that_waits_for_a_group_that_it_has_not_submitted_fails_for_good(queue: Queue) -> None:
    runtime = run_parent(queue, Spawner(1, lambda step: ContinueOnGroup(b"x", "another")))
    outcome = runtime.wait("parent", PATIENCE)
    assert outcome.status is TerminalStatus.FAILED and "GroupNotFoundError" in (outcome.error or "")


def test_what_a_step_submits_alone_is_its_child_too(queue: Queue) -> None:
    def run_step(step: Step) -> StepOutcome:
        if step.run_id == "parent":
            step.effects.submit(RunSpec(run_id="child"))
        return Succeed()

    runtime = WorkflowRuntime(queue, run_step)
    runtime.submit(run_id="parent")
    runtime.run_until_idle(PATIENCE)
    parent, spawned = runtime.status("parent"), runtime.status("child")
    assert parent is not None and spawned is not None
    assert (parent.children, spawned.parent, spawned.state) == (1, "parent", RunState.SUCCEEDED)
