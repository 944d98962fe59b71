"""The shop's own tests: python manage.py test."""

from shop.models import Order, Shipment
from shop.workflows import orders
from taquba_workflow_sync import RunState
from taquba_workflow_sync.contrib.django.test import TaqubaTestCase


class OrderTest(TaqubaTestCase):
    def order(self, cents):
        with self.captureOnCommitCallbacks(execute=True):
            answer = self.client.post("/orders/", {"email": "a@b.c", "item": "lamp", "cents": cents})
        self.assertEqual(answer.status_code, 202)
        return answer.json()

    def test_an_order_is_paid_and_shipped(self):
        placed = self.order(1900)
        self.assertEqual(orders.handle(placed["run"]).result(timeout=10), f"parcel-{placed['order']}")
        self.assertTrue(Shipment.objects.get(order=placed["order"]).receipt_sent)
        self.assertEqual(self.client.get(f"/orders/{placed['order']}/").json()["state"], "succeeded")

    def test_a_declined_card_ends_the_order(self):
        placed = self.order(2_000_000)
        status = orders.handle(placed["run"]).status()
        self.assertEqual(status.state, RunState.FAILED)
        self.assertIn("CardDeclined", status.error)

    def test_nothing_is_submitted_before_the_commit(self):
        with self.captureOnCommitCallbacks() as callbacks:
            answer = self.client.post("/orders/", {"email": "a@b.c", "item": "lamp", "cents": 5})
        self.assertIsNone(orders.client().status(answer.json()["run"]))
        self.assertEqual(len(callbacks), 1)
        self.assertEqual(Order.objects.count(), 1)
