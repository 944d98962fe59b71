"""A step that does something twice is found, at the point where it does; a step that is mended passes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest

from taquba_workflow_sync import Queue, StepError, StepOutcome, Succeed
from taquba_workflow_sync import Step as RawStep
from taquba_workflow_sync.testing import assert_idempotent

pytest.importorskip("msgspec")

from taquba_workflow_sync.flow import Do, Fail, Flow, Goto, Step


@dataclass
class Order:
    id: int


ORDER = Order(7)


class Gateway:
    """Takes money: once for each key, if it is given one."""

    def __init__(self) -> None:
        self.charges: list[int] = []
        self._keys: set[str] = set()

    def empty(self) -> None:
        self.charges.clear()
        self._keys.clear()

    def charge(self, number: int, key: str | None = None) -> str:
        if key is None or key not in self._keys:
            self.charges.append(number)
            self._keys.add(key or "")
        return f"receipt {number}"

    def receipt(self) -> str:
        return "receipt"


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


def check(
    gateway: Gateway, step: Any, state: Any = ORDER, *, observe: Callable[..., object] | None = None, **more: Any
) -> None:
    assert_idempotent(step, state, setup=gateway.empty, observe=observe or (lambda: gateway.charges), **more)


def flow_of(function: Callable[[Order, Step], Any], **options: Any) -> Any:
    """Return a step that is the only one of its flow."""

    def only(order: Order, step: Step) -> str | Fail:
        return function(order, step)  # type: ignore[no-any-return]  # what the test says

    return Flow[Order, str]("orders").start(**options)(only)


def test_a_charge_that_is_noted_only_when_it_is_made_is_made_twice(gateway: Gateway) -> None:
    step = flow_of(lambda order, step: step.once("charge", gateway.charge, order.id))

    with pytest.raises(AssertionError) as caught:
        check(gateway, step)
    assert str(caught.value) == (
        "only is not idempotent: cut at inside-once (note 1 of the step) and taken up again, observe() returned"
        " [7, 7]; after an unbroken run [7]"
    )


def test_a_charge_with_a_key_is_made_once(gateway: Gateway) -> None:
    def pay(order: Order, step: Step) -> str:
        return step.once("charge", gateway.charge, order.id, key=step.idempotency_key("charge"))

    check(gateway, flow_of(pay))
    check(gateway, flow_of(pay, max_attempts=1))  # what the cut has used up is given back by a retry


def test_a_charge_that_is_no_note_at_all_is_found_where_the_step_has_returned(gateway: Gateway) -> None:
    with pytest.raises(AssertionError, match=r"cut at after-runner and taken up again.*\[7, 7\]"):
        check(gateway, flow_of(lambda order, step: gateway.charge(order.id)))


def test_an_effect_is_there_once(gateway: Gateway) -> None:
    def sell(order: Order, step: Step) -> str:
        step.effects.add("sold", 1)
        return "sold"

    check(gateway, flow_of(sell), observe=lambda queue: queue.kv.get("sold"))


def test_a_value_that_is_written_at_once_is_there_twice(gateway: Gateway) -> None:
    store: list[Queue] = []

    def sell(order: Order, step: Step) -> str:
        (queue,) = store
        queue.kv.put("sold", (queue.kv.get("sold") or b"") + b"x")
        return "sold"

    def setup(queue: Queue) -> None:
        store[:] = [queue]

    with pytest.raises(AssertionError, match=r"after-runner.*b'xx'"):
        assert_idempotent(flow_of(sell), Order(1), setup=setup, observe=lambda queue: queue.kv.get("sold"))


def test_every_note_of_a_step_is_tried(gateway: Gateway) -> None:
    def twice(order: Order, step: Step) -> str:
        step.once("first", gateway.charge, 1, key="first")
        return step.once("second", gateway.charge, 2)

    with pytest.raises(AssertionError, match=r"inside-once \(note 2 of the step\)"):
        check(gateway, flow_of(twice))


def test_a_step_that_refuses_to_go_on_where_it_was_is_not_idempotent(gateway: Gateway) -> None:
    def pay(order: Order, step: Step) -> str:
        if gateway.charges:
            raise StepError.permanent("charged already")
        return gateway.charge(order.id)

    with pytest.raises(AssertionError, match=r"after-runner.*the run failed \(charged already\); .* succeeded"):
        check(gateway, flow_of(pay))


def test_only_the_step_that_is_named_is_cut_but_all_of_them_of_a_flow(gateway: Gateway) -> None:
    flow = Flow[Order, str]("orders")

    @flow.start
    def begin(order: Order) -> Goto:
        return pay.goto(order, after=60)

    @flow.step
    def pay(order: Order) -> str:
        return gateway.charge(order.id)

    check(gateway, begin)
    for of in (pay, flow):
        with pytest.raises(AssertionError, match=rf"{of.name} is not idempotent.*\[7, 7\]"):
            check(gateway, of)


def test_a_step_may_begin_what_waits_for_a_signal(gateway: Gateway) -> None:
    flow = Flow[Order, str]("orders")

    @flow.start
    def ask(order: Order) -> Goto:
        return pay.on_signal(order, "may")

    @flow.step
    def pay(order: Order, step: Step) -> str:
        return gateway.charge(order.id) if step.signal_as(bool) else "no"

    check(gateway, ask)  # it stops there, however it was cut
    check(gateway, flow, signals={"may": False})
    with pytest.raises(AssertionError, match=r"after-runner.*\[7, 7\]"):
        check(gateway, flow, signals={"may": True})


def test_a_durable_function_is_checked_call_by_call(gateway: Gateway) -> None:
    right = Flow[Order, str]("right")
    wrong = Flow[Order, str]("wrong")

    @right.durable
    def pay(order: Order, do: Do) -> str:
        return do(gateway.charge, order.id, do.step.idempotency_key("first")) + do(gateway.receipt)

    @wrong.durable
    def pay_twice(order: Order, do: Do) -> str:
        return do(gateway.receipt) + do(gateway.charge, order.id)

    check(gateway, pay)
    for each in (pay_twice, wrong):
        with pytest.raises(AssertionError, match=r"inside-once \(note 2 of the step\)"):
            check(gateway, each)


def test_a_runner_of_bytes_is_checked_as_well(gateway: Gateway) -> None:
    def run_step(step: RawStep) -> StepOutcome:
        gateway.charge(int(step.payload), key=step.idempotency_key())
        return Succeed()

    check(gateway, run_step, b"7")

    def run_twice(step: RawStep) -> StepOutcome:
        gateway.charge(int(step.payload))
        return Succeed()

    with pytest.raises(AssertionError, match="run_twice is not idempotent: cut at after-runner"):
        check(gateway, run_twice, b"7")


def test_a_step_that_fails_uncut_proves_nothing(gateway: Gateway) -> None:
    def fails(order: Order, step: Step) -> str:
        raise ValueError("no such order")

    with pytest.raises(AssertionError, match=r"only does not get through even if nothing cuts it: failed .*no such"):
        check(gateway, flow_of(fails))


def test_a_verdict_is_an_end_like_any_other(gateway: Gateway) -> None:
    check(gateway, flow_of(lambda order, step: Fail("sold out")))


def test_what_is_observed_must_not_hang_on_chance(gateway: Gateway) -> None:
    numbers = count()
    with pytest.raises(AssertionError, match="two unbroken runs of only differ"):
        check(gateway, flow_of(lambda order, step: "done"), observe=lambda: next(numbers))


def test_what_cannot_be_compared_later_is_refused(gateway: Gateway) -> None:
    with pytest.raises(TypeError, match="cannot be copied"):
        check(gateway, flow_of(lambda order, step: "done"), observe=threading.Lock)


def test_what_is_no_function_is_refused_before_anything_runs(gateway: Gateway) -> None:
    step = flow_of(lambda order, step: gateway.charge(order.id))
    with pytest.raises(TypeError, match="observe must be a function, not list"):
        assert_idempotent(step, Order(7), setup=gateway.empty, observe=gateway.charges)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"order\.id"):
        check(gateway, step, Order("x"))  # type: ignore[arg-type]

    assert gateway.charges == []
