"""Flows for the commands of these tests; they need the extra [typed]."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from taquba_workflow_sync.flow import Flow, Goto, Step


@dataclass
class Order:
    id: int
    email: str


orders = Flow[Order, str]("orders")


@orders.start
def charge(order: Order) -> Goto:
    return ship.goto(order)


@orders.step
def ship(order: Order) -> str:
    return f"sent to {order.email}"


approvals = Flow[None, int]("approvals")


@approvals.start
def ask() -> Goto:
    return decide.on_signal(None, "answer", timeout=timedelta(days=1))


@approvals.step
def decide(state: None, step: Step) -> int:
    return step.signal_as(int)


both = [orders, approvals]
