"""A shop whose store has something on every page of the console: orders with a history, an hour of activity.

Time is set by hand, so that what takes an hour is there at once, and every picture of it looks alike.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from taquba_workflow_sync import Queue, RunSpec, StepError, StepOutcome, WorkflowClient, WorkflowRuntime
from taquba_workflow_sync.flow import Fail, Flow, Goto, Step
from taquba_workflow_sync.storage.port.meter import SUM, Meter, Series, bucket_of
from taquba_workflow_sync.testing import ManualClock
from tests.support import wait_until


@dataclass
class Order:
    number: int
    customer: str
    cents: int
    items: list[str]


@dataclass
class Parcel:
    order: int
    item: str


class CardServiceDown(Exception):
    """It may answer a little later."""


class Carrier:
    """Stands between the flows and the test: how long things take, and what goes wrong."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.charges = iter(("timeout", "timeout", "ok"))
        self.is_on_the_way = threading.Event()
        self.may_arrive = threading.Event()


orders = Flow[Order, str]("orders")
parcels = Flow[Parcel, str]("parcels")
CARRIER: list[Carrier] = []


@orders.start
def reserve(order: Order) -> Goto | Fail:
    CARRIER[-1].clock.advance(41)
    return charge.goto(order) if order.items else Fail(f"order {order.number} has no items")


@orders.step(max_attempts=4, backoff=(90, 300))
def charge(order: Order) -> Goto:
    carrier = CARRIER[-1]
    carrier.clock.advance(65)
    if order.cents > 100_000 and next(carrier.charges, "ok") == "timeout":
        raise CardServiceDown("POST https://cards.example/charges: no answer within 30 s")
    if order.cents > 100_000:
        return approve.on_signal(order, "approved", timeout=timedelta(days=2))
    return pack.goto(order)


@orders.step
def approve(order: Order, step: Step) -> Goto:
    CARRIER[-1].clock.advance(12)
    return pack.goto(order) if step.signal is not None else refund.goto(order)


@orders.step
def pack(order: Order, step: Step) -> Goto:
    CARRIER[-1].clock.advance(95)
    specs = [
        parcels.spec(Parcel(order.number, item), run_id=f"parcel-{order.number}-{number}")
        for number, item in enumerate(order.items, 1)
    ]
    step.effects.submit_group(f"parcels-{order.number}", specs, queue_name=parcels.name)
    return hand_over.on_group(order, f"parcels-{order.number}")


@orders.step
def hand_over(order: Order, step: Step) -> Goto:
    assert step.group is not None
    return notify.goto(order)


@orders.step
def refund(order: Order) -> Goto:
    return notify.goto(order, after=3600)


@orders.step
def notify(order: Order) -> str:
    CARRIER[-1].clock.advance(3)
    return f"order {order.number} of {order.customer} is on its way"


@parcels.start
def label(parcel: Parcel) -> Goto:
    CARRIER[-1].clock.advance(20)
    return send.goto(parcel)


@parcels.step
def send(parcel: Parcel, step: Step) -> str:
    carrier = CARRIER[-1]
    carrier.clock.advance(100)
    if parcel.item == "piano":
        step.progress(12, 40, "km to the customer")
        carrier.is_on_the_way.set()
        carrier.may_arrive.wait(3_600)  # until the test lets it: however long the others of its module take
    return f"{parcel.item} sent"


#: The queues of an hour: attempts a minute, and how many of a thousand are repeated and fail.
_BUSY = {
    "orders": (120, 25, 4),
    "parcels": (210, 12, 1),
    "receipts": (95, 60, 0),
    "thumbnails": (640, 3, 2),
    "exports": (7, 90, 30),
    "webhook-deliveries": (300, 40, 9),
}


#: What the steps of an hour are called, where they are called something.
_LABELS = {"orders": "charge", "parcels": "send"}


def an_hour_of_activity(queue: Queue, clock: ManualClock) -> None:
    """Write the minutes of an hour up to the clock's time, with a bad quarter of an hour in it."""
    chance = random.Random(7)
    clock.advance(-3600)
    for minute in range(60):
        clock.advance(60)
        is_bad = 31 <= minute < 42
        added: dict[Series, int] = {}
        for name, (many, repeated, failed) in _BUSY.items():
            wave = 1 + 0.35 * ((minute % 24) / 24 - 0.5) + chance.uniform(-0.12, 0.12)
            whole = int(many * wave * (0.7 if is_bad else 1))
            hitch = whole * repeated * (7 if is_bad and name in ("orders", "receipts") else 1) // 1000
            bad = whole * failed * (9 if is_bad and name in ("orders", "exports") else 1) // 1000
            outcomes = {"continued": (whole - hitch - bad) // 2, "retried": hitch, "dead": bad}
            outcomes["succeeded"] = whole - sum(outcomes.values())
            for outcome, times in outcomes.items():
                if times:
                    added[Series(name, _LABELS.get(name, ""), Meter.ATTEMPTS, outcome)] = times
            if name in _LABELS:
                took = [min(max(chance.lognormvariate(-2.2, 0.9), 0.002), 40) for _ in range(whole)]
                for seconds in took:
                    series = Series(name, _LABELS[name], Meter.TOOK, str(bucket_of(seconds)))
                    added[series] = added.get(series, 0) + 1
                added[Series(name, _LABELS[name], Meter.TOOK, SUM)] = int(sum(took) * 1_000_000)
        queue.handle.store.add_to_meters(added)  # as a dispatcher does


#: How many seconds of the clock's it takes to fill a store, and a little more.
TAKES = 1_900


def fill(queue: Queue, clock: ManualClock) -> WorkflowRuntime:
    """Fill a store; return a runtime that has one parcel on its way. It takes some half an hour of the clock's.

    Of three orders one waits for its parcels, one has failed, one is sent.
    """
    carrier = Carrier(clock)
    CARRIER.append(carrier)
    runtime = WorkflowRuntime(queue, [orders, parcels], max_concurrent_steps=1)
    large = Order(1042, "Ada Lovelace", 249_900, ["lamp", "tent", "piano"])
    headers = {"customer": "ada@example.org", "channel": "web"}
    with orders.using(queue):
        runtime.start()
        sent = orders.submit(Order(1043, "Ben", 1_900, ["lamp"]), run_id="order-1043", headers={"channel": "phone"})
        failed = orders.submit(Order(1044, "Cleo", 2_900, []), run_id="order-1044", headers={"channel": "web"})
        wait_until(lambda: all(each.status().finished_at for each in (sent, failed)))
        handle = orders.submit(large, run_id="order-1042", headers=headers)
        for attempts, wait in ((1, 96), (2, 185)):
            wait_until(
                lambda attempts=attempts: (handle.status().waiting_for, handle.status().attempts) == ("time", attempts)
            )
            clock.advance(wait)
        wait_until(lambda: handle.status().waiting_for == "signal:approved")
        clock.advance(420)
        orders.signal("order-1042", "approved", {"by": "cleo"})
    assert carrier.is_on_the_way.wait(30)
    _wait_and_fail(queue)
    orders.client(queue).schedule(
        "nightly-report", cron="0 3 * * *", timezone="Europe/Berlin", spec=RunSpec(input=b"{}")
    )
    orders.client(queue).schedule("stock", every=3600, spec=RunSpec(input=b"{}"))
    orders.client(queue).pause_schedule("stock")
    orders.client(queue).set_limit(concurrency=5)
    orders.client(queue).set_limit(key="customer-*", concurrency=1, rate=(10, 60))
    return runtime


def _wait_and_fail(queue: Queue) -> None:
    """Have some runs wait in line, for nobody, and some fail."""
    for name, many in (("thumbnails", 23), ("webhook-deliveries", 4)):
        for number in range(many):
            WorkflowClient(queue, queue_name=name).submit(run_id=f"{name}-{number}", input=b"{}")
    for number in range(3):
        WorkflowClient(queue, queue_name="exports").submit(run_id=f"export-2026-{number}", input=b'{"format": "xlsx"}')
    WorkflowRuntime(queue, _export, queue_name="exports").run_until_idle()


def _export(step: Step) -> StepOutcome:
    raise StepError.permanent(f"PermissionError: [Errno 13] Permission denied: '/srv/exports/{step.run_id}.xlsx'")


@contextmanager
def closed(runtime: WorkflowRuntime) -> Iterator[None]:
    """Have what is on its way arrive at the end, and stop."""
    try:
        yield
    finally:
        CARRIER[-1].may_arrive.set()
        runtime.stop()


def new_clock() -> ManualClock:
    return ManualClock(datetime.now(UTC))
