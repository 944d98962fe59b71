"""Two views: one takes an order, one says how far it is."""

from django.db import transaction
from django.http import JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from shop.models import Order
from shop.workflows import Placed, orders
from taquba_workflow_sync.contrib.django import submit_on_commit


@csrf_exempt  # a JSON interface for programs, without cookies
@require_POST
def place_order(request):
    with transaction.atomic():
        order = Order.objects.create(
            email=request.POST["email"], item=request.POST["item"], cents=int(request.POST["cents"])
        )
        submit_on_commit(orders, Placed(order.pk), run_id=order.run_id)
    return JsonResponse({"order": order.pk, "run": order.run_id}, status=202)


def show_order(request, order_id):
    order = get_object_or_404(Order, pk=order_id)
    status = orders.client().status(order.run_id)
    if status is None:
        return JsonResponse({"order": order_id, "state": "waits to be submitted"})
    return JsonResponse({"order": order_id, "state": status.state, "step": status.label, "error": status.error})
