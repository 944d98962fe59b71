"""A flow: orders charged, shipped and reported by typed functions; its worker is killed and another one goes on.

    python examples/order_flow.py

The program starts itself as a worker. The first one kills itself after a card was charged and before the order is
shipped. The second one goes on there: the ledger of the payment service, played by this program, has each charge once.
One order is refused, one waits until its carrier has a lorry, and the picture of the flow is drawn from its source.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from taquba_workflow_sync import Queue, RunFailedError, WorkflowRuntime
from taquba_workflow_sync.flow import Fail, Flow, Goto, Step

PLACE = Path(os.environ.get("ORDER_FLOW_PLACE", "."))
DIES_WITH = "lamp"


@dataclass
class Order:
    item: str
    email: str


@dataclass
class Paid:
    order: Order
    receipt: str
    asked: int = 0


class OutOfStock(Exception):
    """No other attempt will find any."""


def charge_card(email: str, *, key: str) -> str:
    """What a payment service does: a charge with a key that it knows is the same charge."""
    ledger = PLACE / "ledger"
    with ledger.open("a+") as file:
        file.seek(0)
        if key not in file.read():
            file.write(f"{key} {email}\n")
    return f"receipt-{key[:6]}"


orders = Flow[Order, str]("orders", version=1)


@orders.start(fail_on=(OutOfStock,))
def charge(order: Order, step: Step) -> Goto | Fail:
    if "@" not in order.email:
        return Fail(f"{order.email!r} is no address")
    if order.item == "unicorn":
        raise OutOfStock(order.item)
    receipt = step.once("charge", charge_card, order.email, key=step.idempotency_key("charge"))
    print(f"  pid {os.getpid()}: charged for the {order.item}, attempt {step.attempts}", flush=True)
    if order.item == DIES_WITH and step.attempts == 1:
        print("  kill -9", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    return ship.goto(Paid(order, receipt))


@orders.step(max_attempts=10, backoff=(1, 60), timeout=30)
def ship(paid: Paid) -> Goto | str:
    if paid.order.item == "piano" and paid.asked < 2:  # no lorry yet: ask again a little later
        return ship.goto(Paid(paid.order, paid.receipt, paid.asked + 1), after=0.2)
    return f"{paid.order.item} on its way to {paid.order.email} ({paid.receipt})"


def work(store: Path) -> None:
    """Run what is there to its end."""
    with Queue.open(store) as queue:
        WorkflowRuntime(queue, orders, max_concurrent_steps=1).run_until_idle(wait_for_scheduled=5)


def start_worker(place: Path) -> int:
    words = [sys.executable, __file__, "--store", str(place), "--worker"]
    return subprocess.run(words, env={**os.environ, "ORDER_FLOW_PLACE": str(place)}).returncode


def main() -> None:
    parser = argparse.ArgumentParser(description="Orders as a flow, over the death of a worker.")
    parser.add_argument("--store", type=Path, help="directory to keep the runs in (default: a temporary one)")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.store / "jobs")
        return

    with ExitStack() as stack:
        place = args.store or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        place.mkdir(parents=True, exist_ok=True)
        print(orders.graph().mermaid(), end="", flush=True)
        queue = stack.enter_context(Queue.open(place / "jobs"))
        orders.bind(queue)
        today = uuid.uuid4().hex[:8]
        handles = [
            orders.submit(Order(item, email), run_id=f"{item}-{today}")
            for item, email in (
                ("tent", "ada@example.org"),
                (DIES_WITH, "ben@example.org"),
                ("piano", "cleo@example.org"),
                ("chair", "nowhere"),
                ("unicorn", "dan@example.org"),
            )
        ]
        try:
            orders.submit(Order("book", 5))  # type: ignore[arg-type]  # to show what happens
        except TypeError as error:
            print(f"refused before anything was written: {error}")
        print("first worker", flush=True)
        died = start_worker(place)
        print(f"first worker ended by signal {-died}; second worker", flush=True)
        assert (died, start_worker(place)) == (-signal.SIGKILL, 0)
        for handle in handles:
            try:
                print(f"{handle.run_id.partition('-')[0]}: {handle.result(timeout=10)}")
            except RunFailedError as error:
                print(f"{handle.run_id.partition('-')[0]}: failed: {error.outcome.error}")
        charges = [line.split()[0] for line in (place / "ledger").read_text().splitlines()]
        assert len(charges) == len(set(charges)) and len(charges) % 3 == 0
        print("three charges in the ledger, each once")


if __name__ == "__main__":
    main()
