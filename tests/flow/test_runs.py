"""A flow is defined, bound, submitted and run; what it takes and returns is typed values."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from taquba_workflow_sync import (
    InvalidStateError,
    Queue,
    ReservedHeaderError,
    RunCancelledError,
    RunFailedError,
    RunHandle,
    RunNotFoundError,
    RunOutcome,
    WorkflowRuntime,
)
from taquba_workflow_sync.flow import Fail, Flow, FlowDefinitionError, FlowNotBoundError, Goto, Step
from taquba_workflow_sync.testing import ManualClock


@dataclass
class Order:
    id: int
    email: str


@dataclass
class Paid:
    order: Order
    receipt: str


def orders_flow() -> Flow[Order, str]:
    orders = Flow[Order, str]("orders", version=2)

    @orders.start
    def charge(order: Order, step: Step) -> Goto | Fail:
        if order.id < 0:
            return Fail("no such order")
        return ship.goto(Paid(order, step.once("charge", receipt_of, order.id)))

    @orders.step
    def ship(paid: Paid) -> str:
        return f"{paid.order.email} {paid.receipt}"

    return orders


def receipt_of(number: int) -> str:
    return f"r{number}"


def test_a_run_takes_a_state_and_results_in_a_value(queue: Queue) -> None:
    orders = orders_flow()
    orders.bind(queue)
    handle = orders.submit(Order(7, "a@b.c"), run_id="order-7")
    WorkflowRuntime(queue, orders).run_until_idle()
    assert handle.result(timeout=0) == "a@b.c r7"
    assert orders.handle("order-7").result(timeout=0) == "a@b.c r7"
    assert not orders.submit(Order(7, "a@b.c"), run_id="order-7").newly_submitted


def test_a_flow_knows_a_store_by_argument_by_context_by_binding_in_that_order(queue: Queue) -> None:
    orders = orders_flow()
    with pytest.raises(FlowNotBoundError, match="orders"):
        orders.submit(Order(1, "x"))
    with Queue.temporary() as other, Queue.temporary() as third:
        orders.bind(lambda: other)
        orders.submit(Order(1, "x"), run_id="bound")
        with orders.using(queue):
            orders.submit(Order(1, "x"), run_id="used")
            orders.submit(Order(1, "x"), run_id="given", queue=third)
        found = {
            run_id: [of.status(run_id) is not None for of in (orders.client(each) for each in (other, queue, third))]
            for run_id in ("bound", "used", "given")
        }
    assert found == {"bound": [True, False, False], "used": [False, True, False], "given": [False, False, True]}


def test_a_handle_of_nobody_says_so_when_it_is_used(queue: Queue) -> None:
    orders = orders_flow()
    handle = orders.handle("nobody", queue=queue)
    for use in (handle.status, handle.cancel, lambda: handle.result(timeout=0), lambda: handle.first_job_id):
        with pytest.raises(RunNotFoundError):
            use()


def test_one_runtime_serves_several_flows(queue: Queue) -> None:
    orders, doubles = orders_flow(), Flow[int, int]("doubles")
    ended: list[str] = []

    @doubles.start
    def double(number: int) -> int:
        return 2 * number

    @doubles.on_end
    def told(outcome: RunOutcome) -> None:
        ended.append(f"{outcome.run_id} {doubles.result_of(outcome)}")

    runtime = WorkflowRuntime(queue, [orders, doubles])
    one, other = orders.submit(Order(7, "a"), queue=queue), doubles.submit(21, run_id="x", queue=queue)
    counts = runtime.run_until_idle()
    assert (one.result(0), other.result(0), counts.succeeded, counts.steps) == ("a r7", 42, 2, 3)
    assert ended == ["x 42"]


def test_a_verdict_of_a_step_ends_the_run(queue: Queue) -> None:
    orders = orders_flow()
    handle = orders.submit(Order(-1, "a"), queue=queue)
    WorkflowRuntime(queue, orders).run_until_idle()
    with pytest.raises(RunFailedError, match="no such order"):
        handle.result(0)


def test_flows_of_one_runtime_take_turns(queue: Queue) -> None:
    ended: list[str] = []
    busy, rare = Flow[int, str]("busy"), Flow[int, str]("rare")

    def go_on(left: int) -> Goto | str:
        if left:
            return steps[0].goto(left - 1)
        ended.append("busy")
        return ""

    steps = [busy.start(go_on)]

    @rare.start
    def once(number: int) -> str:
        ended.append("rare")
        return ""

    for number in range(20):
        busy.submit(20, run_id=f"b{number}", queue=queue)
    rare.submit(1, queue=queue)
    counts = WorkflowRuntime(queue, [busy, rare], max_concurrent_steps=1).run_until_idle()
    assert counts.succeeded == 21
    assert ended.index("rare") < 10, "one busy flow does not keep the others from their turn"


def test_a_hook_of_the_runtime_is_told_of_flows_that_have_none(queue: Queue) -> None:
    one, other = Flow[int, int]("one"), Flow[int, int]("other")
    told: list[str] = []

    def same(number: int) -> int:
        return number

    one.start(same)
    other.start(same)
    one.on_end(lambda outcome: told.append(f"own {outcome.run_id}"))
    runtime = WorkflowRuntime(queue, [one, other], lambda outcome: told.append(f"runtime's {outcome.run_id}"))
    for flow in (one, other):
        flow.submit(1, run_id=f"of-{flow.name}", queue=queue)
    runtime.run_until_idle()
    assert sorted(told) == ["own of-one", "runtime's of-other"]
    with pytest.raises(ValueError, match="would be told of nothing"):
        WorkflowRuntime(queue, one, lambda outcome: None)
    with pytest.raises(FlowDefinitionError, match="has an on_end already"):
        one.on_end(lambda outcome: None)


def test_a_runtime_of_several_flows_fires_the_schedules_of_each(clock: ManualClock, queue: Queue) -> None:
    flows = [Flow[int, int]("one"), Flow[int, int]("other")]

    def same(number: int) -> int:
        return number

    for flow in flows:
        flow.start(same)
        flow.schedule("often", 7, every=60, queue=queue)
    clock.advance(60)
    assert WorkflowRuntime(queue, flows).run_until_idle().succeeded == 2


def test_a_runtime_of_several_flows_is_a_client_of_none(queue: Queue) -> None:
    orders, doubles = orders_flow(), Flow[int, int]("doubles")

    @doubles.start
    def double(number: int) -> int:
        return 2 * number

    runtime = WorkflowRuntime(queue, [orders, doubles])
    for use in (
        lambda: runtime.submit(input=b"1"),
        lambda: runtime.status("x"),
        lambda: runtime.list_runs(),
        lambda: runtime.schedules(),
        lambda: runtime.cancel("x"),
        lambda: runtime.queue_name,
        lambda: runtime.pause(),
        lambda: runtime.count_runs(),
    ):
        with pytest.raises(InvalidStateError, match=r"several flows \(orders, doubles\)"):
            use()
    one = WorkflowRuntime(queue, [doubles])
    handle = doubles.submit(4, run_id="x", queue=queue)
    one.run_until_idle()
    assert one.outcome("x") == handle.wait(0) and one.queue_name == "doubles"


def test_a_runtime_of_several_flows_stops_and_starts_again(queue: Queue) -> None:
    orders, doubles = orders_flow(), Flow[int, int]("doubles")

    @doubles.start
    def double(number: int) -> int:
        return 2 * number

    runtime = WorkflowRuntime(queue, [orders, doubles])
    for number in range(2):
        with runtime:
            assert doubles.submit(number, queue=queue).result(timeout=30) == 2 * number


def test_a_handle_has_what_a_run_handle_has(queue: Queue) -> None:
    orders = orders_flow()
    orders.bind(queue)
    handle = orders.submit(Order(7, "a"), run_id="x", run_at=datetime(2027, 1, 1, tzinfo=UTC))
    found = orders.handle("x")
    assert isinstance(found, RunHandle) and found.first_job_id == handle.first_job_id
    assert found.cancel(reason="not wanted")
    with pytest.raises(RunCancelledError, match="not wanted"):
        handle.result(timeout=0)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(handle)
    assert repr(found) == "FlowHandle('x')" and len(found.history()) == 2


def test_a_result_that_another_version_has_stored_and_does_not_fit_says_where(queue: Queue) -> None:
    older, newer = Flow[int, str]("versions"), Flow[int, Order]("versions")

    @older.start
    def text(number: int) -> str:
        return "text"

    @newer.start
    def order(number: int) -> Order:
        return Order(number, "x")

    older.submit(1, run_id="x", queue=queue)
    WorkflowRuntime(queue, older).run_until_idle()
    with pytest.raises(TypeError, match="result: expected object, got str"):
        newer.handle("x", queue=queue).result(timeout=0)


def test_input_that_does_not_fit_writes_nothing(queue: Queue) -> None:
    orders = orders_flow()
    for wrong in (Order(7, 5), {"id": 7}, 7, None):  # type: ignore[arg-type]  # that is what is tried
        with pytest.raises(TypeError, match=r"^order"):
            orders.submit(wrong, queue=queue)
    with pytest.raises(ReservedHeaderError):
        orders.submit(Order(7, "a"), headers={"workflow.flow": "9"}, queue=queue)
    assert queue.list_queues() == []


def test_a_state_may_be_given_as_json() -> None:
    orders, nothing = orders_flow(), Flow[None, str]("nothing")

    @nothing.start
    def start() -> str:
        return ""

    assert orders.input_of('{"email": "a", "id": 7}') == Order(7, "a")
    assert nothing.input_of(b"null") is None
    with pytest.raises(TypeError, match=r"^order\.email: missing"):
        orders.input_of('{"id": 7}')
    with pytest.raises(TypeError, match="takes no state"):
        nothing.input_of("5")
    with pytest.raises(ValueError, match="no JSON"):
        orders.input_of("id=7")
