"""What becomes of an order: it is paid, then it is shipped. Found by Django because of this file's name."""

from dataclasses import dataclass

from django.db import transaction

from shop.gateway import CardDeclined, charge
from shop.models import Order, Payment, Shipment
from taquba_workflow_sync.flow import Flow, Goto, Step


@dataclass
class Placed:
    order_id: int


@dataclass
class Paid:
    order_id: int
    receipt: str


orders = Flow[Placed, str]("orders")


@orders.start(fail_on=(CardDeclined,))
def pay(placed: Placed, step: Step) -> Goto:
    order = Order.objects.get(pk=placed.order_id)
    receipt = step.once("charge", charge, order.pk, order.cents, step.idempotency_key("charge"))
    Payment.objects.get_or_create(order=order, defaults={"receipt": receipt})
    return ship.goto(Paid(order.pk, receipt))


@orders.step(max_attempts=5, backoff=(1, 60))
def ship(paid: Paid) -> str:
    from shop.tasks import send_receipt

    parcel = f"parcel-{paid.order_id}"
    with transaction.atomic():
        Shipment.objects.get_or_create(order_id=paid.order_id, defaults={"parcel": parcel})
        transaction.on_commit(lambda: send_receipt.enqueue(paid.order_id))
    return parcel


@orders.missing
def orders_without_a_run():
    """Orders that are not shipped yet; `manage.py taquba_repair` submits those that have no run."""
    for order_id in Order.objects.filter(shipment=None).values_list("pk", flat=True):
        yield f"order-{order_id}", Placed(order_id)
