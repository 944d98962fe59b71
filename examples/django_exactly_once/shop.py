"""Orders of a Django shop: each is there with its run or not at all, and is paid once, whenever a worker is killed.

    python examples/django_exactly_once/shop.py postgresql://user@host/database

The database is PostgreSQL's, of the shop and of the store. Orders are taken by transactions of Django's, some of which
fail; every order that was taken has a run, and no other has. Workers pay for the orders in transactions that their
steps end in. They are killed: before the payment, behind it, behind the block, and at instants of nobody's choice.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import uuid
from typing import Any

import django
from django.conf import settings
from django.db import connection, models, transaction

from taquba_workflow_sync import (
    Queue,
    QueueConfig,
    RunSpec,
    Step,
    StepOutcome,
    Succeed,
    WorkflowClient,
    WorkflowRuntime,
)

ORDERS = 40
#: Where a worker kills itself; at the last one, a timer does.
POINTS = ("before the payment", "behind the payment", "behind the block", "any")


def set_up(url: str) -> None:
    from psycopg.conninfo import conninfo_to_dict

    said = conninfo_to_dict(url.partition("?schema=")[0].partition("&schema=")[0])
    names = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host", "PORT": "port"}
    database = {key: str(said[name]) for key, name in names.items() if name in said}
    settings.configure(USE_TZ=True, DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", **database}})
    django.setup()


def define(prefix: str) -> tuple[Any, Any]:
    """Return the models; the tables of each start of this program are its own."""

    class Order(models.Model):
        number = models.IntegerField(primary_key=True)

        class Meta:
            app_label = "shop"
            db_table = f"{prefix}_order"

    class Payment(models.Model):
        order = models.IntegerField()  # not unique: a second one would be seen

        class Meta:
            app_label = "shop"
            db_table = f"{prefix}_payment"

    return Order, Payment


def take_order(client: WorkflowClient, order: Any, number: int, *, fails: bool) -> None:
    """Take an order: its row and its run are there once this transaction has committed."""
    with transaction.atomic():
        order.objects.create(number=number)
        client.submit(RunSpec(run_id=f"order-{number}", input=str(number).encode()), connection=connection)
        if fails:
            raise LookupError("the customer has gone")


def work(url: str, prefix: str, point: str) -> None:
    """Pay for orders until a kill, or until none is left."""
    _, payment = define(prefix)

    def die(where: str) -> None:
        if where == point and random.random() < 0.2:
            os.kill(os.getpid(), signal.SIGKILL)

    def pay(step: Step) -> StepOutcome:
        with step.transaction(connection):
            die("before the payment")
            payment.objects.create(order=int(step.payload))
            die("behind the payment")
        die("behind the block")
        return Succeed()

    if point == "any":
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # which kills, as -9 does
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.3, 1.5))
    config = QueueConfig(max_attempts=100, retry_backoff_base=0)
    with Queue.open(url, default_config=config) as queue:
        WorkflowRuntime(queue, pay, queue_name=prefix, max_concurrent_steps=2).run_until_idle()


def main() -> None:
    parser = argparse.ArgumentParser(description="Orders, their runs and their payments, over the deaths of workers.")
    parser.add_argument("url", help="postgresql://user@host/database")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    set_up(args.url)
    if args.worker:
        work(args.url, *args.worker)
        return

    prefix = f"shop_{uuid.uuid4().hex[:8]}"
    order, payment = define(prefix)
    with connection.schema_editor() as editor:
        editor.create_model(order)
        editor.create_model(payment)
    config = QueueConfig(max_attempts=100)
    with Queue.open(args.url, default_config=config) as queue:
        client = WorkflowClient(queue, queue_name=prefix)
        lost = 0
        for number in range(ORDERS):
            try:
                take_order(client, order, number, fails=number % 4 == 3)
            except LookupError:
                lost += 1
        taken = order.objects.count()
        runs = len(client.list_runs(limit=1000).runs)
        print(f"{ORDERS} orders, {lost} not taken: {taken} rows, {runs} runs", flush=True)
        killed = 0
        for point in (*POINTS, "never"):
            words = [sys.executable, __file__, args.url, "--worker", prefix, point]
            killed += subprocess.run(words).returncode < 0
            print(f"a worker that may die {point}: {payment.objects.count()} payments", flush=True)
        once = payment.objects.values("order").distinct().count()
        ended = client.count_runs()["succeeded"]
        print(f"{killed} workers killed; {ended} runs ended, {payment.objects.count()} payments for {once} orders")
        assert lost and taken == runs == ended == once == payment.objects.count()
    with connection.schema_editor() as editor:
        editor.delete_model(payment)
        editor.delete_model(order)


if __name__ == "__main__":
    main()
