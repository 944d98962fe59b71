"""Wrong uses of flows: mypy and pyright refuse each line that ends so: ``# wrong``, and no other."""

from __future__ import annotations

from typing import TypedDict

from taquba_workflow_sync import Queue, WorkflowRuntime
from taquba_workflow_sync.flow import Do, Fail, Flow, Goto, Step
from taquba_workflow_sync.testing import RunToEnd, assert_idempotent
from tests.flow.typing.right import Order, Paid, answer, charge, orders, ship


class Question(TypedDict):
    text: str


def wrong_states(order: Order, queue: Queue) -> None:
    ship.goto(order)  # wrong
    ship.goto()  # wrong
    ship.goto(Paid(order, "r"), after="soon")  # wrong
    ship.on_signal(order, "approved")  # wrong
    ship.on_group(Paid(order, "r"))  # wrong
    answer.goto({"text": "without the rest"})  # wrong
    answer.goto({"text": 5, "asked": []})  # wrong
    ship.test(order)  # wrong
    ship(order)  # wrong
    charge(order)  # wrong


def wrong_runs(order: Order, queue: Queue) -> None:
    orders.submit(Paid(order, "r"))  # wrong
    orders.submit("7")  # wrong
    orders.submit()  # wrong
    orders.submit(order, priority="high")  # wrong
    orders.submit(order, colour="red")  # wrong
    orders.submit(order, queue="var/jobs")  # wrong
    orders.spec(7)  # wrong
    orders.schedule("nightly", 7, cron="@daily")  # wrong
    orders.submit_group("many", [7])  # wrong
    number: int = orders.handle("order-7").result()  # wrong
    orders.bind("var/jobs")  # wrong
    WorkflowRuntime(queue, [orders, 5])  # wrong
    Flow[Order, str](7)  # wrong
    Flow[Order]("orders")  # wrong
    print(number)


def wrong_steps() -> None:
    flow = Flow[Order, str]("wrong")

    @flow.start  # wrong
    def of_another(paid: Paid) -> str:
        return paid.receipt

    @flow.start  # wrong
    def of_nothing() -> str:
        return ""

    @flow.step  # wrong
    def of_another_result(paid: Paid) -> int:
        return 1

    @flow.step(max_attempts=3)  # wrong
    def of_three(paid: Paid, step: Step, more: int) -> str:
        return ""

    @flow.step(name=5)  # wrong
    def named(paid: Paid) -> str:
        return ""

    @flow.step(attempts=5)  # wrong
    def optioned(paid: Paid) -> str:
        return ""

    @flow.step  # wrong
    async def asynchronous(paid: Paid) -> str:
        return paid.receipt

    @flow.step  # wrong
    def swapped(step: Step, paid: Paid) -> str:
        return paid.receipt

    @flow.step
    def forgotten(paid: Paid) -> Goto | str:  # wrong
        ship.goto(paid)

    @flow.step
    def returning(paid: Paid) -> Goto | Fail:
        return paid  # wrong

    @flow.durable  # wrong
    def straight(order: Order, do: Do) -> int:
        return 1

    @orders.upgrade(ship, since=2)  # wrong
    def upgraded(old: object) -> Order:
        return Order(1, "x")


class Methods:
    @orders.step  # wrong
    def method(self, paid: Paid) -> str:
        return paid.receipt


def wrong_calls(step: Step, do: Do) -> None:
    one: int = step.once("name", str, 5)  # wrong
    step.once("book", divmod, 1)  # wrong
    step.once("int", len, 5)  # wrong
    two: str = step.signal_as(str)  # wrong
    three: int = do(str, 5)  # wrong
    do(len, 5)  # wrong
    do("charge")  # wrong
    print(one, two, three)


def wrong_tests(order: Order, taquba_run: RunToEnd) -> None:
    taquba_run(orders, Paid(order, "r"))  # wrong
    taquba_run(ship, order)  # wrong
    taquba_run(orders)  # wrong
    len(taquba_run(orders, order).result)  # wrong
    assert_idempotent(ship, order, setup=print, observe=dict)  # wrong
    assert_idempotent(orders, "7", setup=print, observe=dict)  # wrong
    assert_idempotent(ship, Paid(order, "r"), setup=print)  # wrong
