"""Orders, what was paid for them, and the parcels."""

from django.db import models


class Order(models.Model):
    email = models.EmailField()
    item = models.CharField(max_length=100)
    cents = models.PositiveIntegerField()
    placed_at = models.DateTimeField(auto_now_add=True)

    def __str__(self):
        return f"order {self.pk}: {self.item}"

    @property
    def run_id(self):
        return f"order-{self.pk}"


class Payment(models.Model):
    order = models.OneToOneField(Order, on_delete=models.CASCADE)
    receipt = models.CharField(max_length=64)


class Shipment(models.Model):
    order = models.OneToOneField(Order, on_delete=models.CASCADE)
    parcel = models.CharField(max_length=64)
    receipt_sent = models.BooleanField(default=False)
