"""A typed program of flows that both type checkers accept, with what they infer asserted."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, NewType, ParamSpec, TypedDict, TypeVar, assert_type

from taquba_workflow_sync import Queue, RunOutcome, RunSpec, StepRunner, WorkflowRuntime
from taquba_workflow_sync.flow import Cancel, Do, Fail, Flow, FlowHandle, FlowStep, Goto, Step
from taquba_workflow_sync.testing import Outcome, RunToEnd, assert_idempotent

_P = ParamSpec("_P")
_R = TypeVar("_R")
_S = TypeVar("_S")


class BadAddress(Exception):
    pass


@dataclass
class Parcel:
    number: str
    pending: bool


class Gateway:
    def charge(self, order: int, *, key: str) -> str:
        return f"{order}-{key}"


class Carrier:
    def book(self, order: int) -> Parcel:
        return Parcel(str(order), pending=False)


gateway, carrier = Gateway(), Carrier()


@dataclass
class Order:
    id: int
    email: str


@dataclass
class Paid:
    order: Order
    receipt: str


orders = Flow[Order, str]("orders", version=2)


@orders.start
def charge(order: Order, step: Step) -> Goto | Fail:
    receipt = step.once("charge", gateway.charge, order.id, key=step.idempotency_key("charge"))
    assert_type(receipt, str)
    return ship.goto(Paid(order, receipt))


@orders.step(max_attempts=10, backoff=(1, 600), timeout=30, retry_on=(OSError,), fail_on=(BadAddress,))
def ship(paid: Paid) -> Goto | str:
    parcel = carrier.book(paid.order.id)
    return ship.goto(paid, after=timedelta(hours=1)) if parcel.pending else parcel.number


@orders.upgrade(ship, since=2)
def with_receipt(old: Any) -> Paid:
    return Paid(Order(**old["order"]), old.get("receipt", ""))


@orders.on_end
def told(outcome: RunOutcome) -> None:
    assert_type(orders.result_of(outcome), str)


def runs() -> None:
    handle = orders.submit(Order(7, "a@b.c"), run_id="order-7")
    assert_type(handle, FlowHandle[str])
    number = orders.handle("order-7").result(timeout=60)
    assert_type(number, str)
    assert_type(orders.spec(Order(8, "x"), headers={"a": "b"}), RunSpec)
    assert_type(charge.goto(Order(7, "x")), Goto)
    assert_type(ship.test(Paid(Order(1, "x"), "r")), str | Goto | Fail | Cancel)
    orders.schedule("nightly", Order(1, "x"), cron="15 3 * * *")
    orders.submit_group("many", [Order(1, "x"), Order(2, "y")], on_failure="cancel")
    orders.signal("order-7", "approved", {"by": "Ada"})


runner: StepRunner = orders


class Approval(TypedDict):
    by: str


class Question(TypedDict):
    text: str
    asked: list[str]


asking = Flow[Question, Approval | None]("asking")


@asking.start(name="ask", priority=5)
def ask(question: Question) -> Goto:
    return answer.on_signal({"text": question["text"], "asked": ["Ada"]}, "answer", timeout=60)


@asking.step
def answer(question: Question, step: Step) -> Approval | Cancel | None:
    approval = step.signal_as(Approval)
    assert_type(approval, Approval | None)
    return approval if question["asked"] else Cancel("nobody to ask")


def of_a_typed_dict() -> None:
    asking.submit({"text": "may we?", "asked": []})


nightly = Flow[None, int]("nightly")


@nightly.start
def count() -> Goto | int:
    return done.goto() if nightly.version > 1 else 1


@nightly.step()
def done() -> int:
    return 2


def of_nothing() -> None:
    nightly.submit(run_id="tonight")
    assert_type(nightly.handle("tonight").result(), int)
    nightly.schedule("every-night", cron="@daily")


invoices = Flow[Order, str]("invoices")


def render(receipt: str) -> str:
    return f"<p>{receipt}</p>"


@invoices.durable
def invoice(order: Order, do: Do) -> str:
    receipt = do(gateway.charge, order.id, key="k")
    assert_type(receipt, str)
    return do(render, receipt)


def nested(queue: Queue) -> str:
    """In a function, and each step goes to one that is defined below it."""

    @dataclass
    class Local:
        many: int

    flow = Flow[Local, str]("nested")

    @flow.start
    def first(state: Local) -> Goto:
        return second.goto(Local(state.many + 1))

    @flow.step(name="second")
    def second(state: Local, step: Step) -> Goto | str:
        return third.on_group((state.many, "x"), "group") if step.attempts == 1 else "many"

    @flow.step
    def third(state: tuple[int, str]) -> str | Fail:
        return f"{state[0]}{state[1]}"

    found = flow.submit(Local(1), queue=queue).result()
    assert_type(found, str)
    return found


def logged(function: Callable[_P, _R]) -> Callable[_P, _R]:
    @functools.wraps(function)
    def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        return function(*args, **kwargs)

    return wrapper


UserId = NewType("UserId", int)
decorated = Flow[Order, int]("decorated")


@decorated.start
@logged
def opened(order: Order, step: Step) -> Goto | Literal[0]:
    return closed.goto(order.id) if order.id else 0


@decorated.step(timeout=5)
@logged
def closed(number: int) -> UserId:
    return UserId(number)


def of_one_step(state: type[_S], function: Callable[[_S], str]) -> Flow[_S, str]:
    flow = Flow[_S, str]("made")
    assert_type(flow.start(function), FlowStep[_S, [_S], str])
    return flow


def generic(order: Order, step: FlowStep[Order, ..., Any]) -> Goto:
    made = of_one_step(Order, lambda order: order.email)
    assert_type(made, Flow[Order, str])
    assert_type(made.submit(order).result(), str)
    made.handle("x").retry(payload=order, memo="clear")
    return step.goto(order)


def of_generic(order: Order) -> None:
    generic(order, charge)
    generic(order, opened)


def serve(queue: Queue) -> None:
    orders.bind(queue)
    asking.bind(lambda: queue)
    with orders.using(queue), WorkflowRuntime(queue, [orders, asking, nightly, invoices]):
        pass
    WorkflowRuntime(queue, orders).run_until_idle()


def tried(order: Order, taquba_run: RunToEnd) -> None:
    assert_type(taquba_run(orders, order, signals={"approved": True}, run_id="a"), Outcome[str])
    assert_type(taquba_run(nightly), Outcome[int])
    assert_type(taquba_run(ship, Paid(order, "r")).result, str | None)
    assert_idempotent(ship, Paid(order, "r"), setup=lambda: None, observe=lambda: [1])
    assert_idempotent(orders, order, setup=print, observe=lambda queue: queue.kv.get("a"))
