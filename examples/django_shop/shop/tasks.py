"""Work that nobody waits for."""

from shop.models import Shipment

try:
    from django.tasks import task
except ImportError:  # Django 5.2
    from django_tasks import task


@task
def send_receipt(order_id):
    """Mail the receipt; here it is only noted that it was."""
    return Shipment.objects.filter(order_id=order_id).update(receipt_sent=True)
