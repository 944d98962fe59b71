"""A program on Django whose database holds the store: what it does in transactions of Django's. Run by a test."""

from __future__ import annotations

import sys
from typing import Any

import django
from django.conf import settings
from django.db import close_old_connections, connection, models, transaction
from psycopg.conninfo import conninfo_to_dict

from taquba_workflow_sync import Queue, QueueConfig, RunSpec, Step, Succeed, WorkflowClient, WorkflowRuntime
from taquba_workflow_sync.storage.postgres.address import parsed

URL = sys.argv[1]
_DSN = conninfo_to_dict(parsed(URL).dsn)
settings.configure(
    USE_TZ=True,
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": _DSN["dbname"],
            "USER": _DSN["user"],
            "HOST": _DSN["host"],
            "PORT": _DSN["port"],
        }
    },
)
django.setup()


class Mine(models.Model):
    what = models.TextField(primary_key=True)

    class Meta:
        app_label = "shop"
        db_table = "mine"


def rows() -> list[str]:
    return list(Mine.objects.order_by("what").values_list("what", flat=True))


def outside(client: WorkflowClient) -> None:
    with transaction.atomic():
        Mine.objects.create(what="order-1")
        client.submit(RunSpec(input=b"in", run_id="order-1"), connection=connection)
        with transaction.atomic():
            client.submit(RunSpec(input=b"in", run_id="order-2"), connection=connection)
        assert client.status("order-1") is None
    assert client.status("order-1") is not None
    assert client.status("order-2") is not None
    try:
        with transaction.atomic():
            Mine.objects.create(what="order-3")
            client.submit(RunSpec(input=b"in", run_id="order-3"), connection=connection)
            raise LookupError
    except LookupError:
        pass
    assert client.status("order-3") is None
    client.submit(RunSpec(input=b"in", run_id="order-4"), connection=connection)  # autocommit
    assert client.status("order-4") is not None
    assert connection.get_autocommit()
    assert rows() == ["order-1"]


def own(queue: Queue, client: WorkflowClient) -> None:
    told: list[str] = []

    def run(step: Step) -> Any:
        try:
            with step.transaction(connection) as given:
                assert given is connection
                Mine.objects.create(what=f"paid {step.run_id}")
                with transaction.atomic():
                    Mine.objects.filter(what="nothing").delete()
                transaction.on_commit(lambda: told.append(f"{step.run_id} {step.attempts}"))
            if step.attempts == 1:
                raise LookupError
            assert not told or told[-1] != f"{step.run_id} {step.attempts}"
            return Succeed()
        finally:
            close_old_connections()  # as a worker does after each piece of work

    def spoilt(step: Step) -> Any:
        with step.transaction(connection):
            Mine.objects.create(what="spoilt")
            connection.connection.commit()
        return Succeed()

    runtime = WorkflowRuntime(queue, run)
    runtime.run_until_idle()
    done = ["order-1", "order-2", "order-4"]
    assert [client.outcome(each).status for each in done] == ["succeeded"] * 3  # type: ignore[union-attr]
    assert rows() == sorted(["order-1", *(f"paid {each}" for each in done)])
    assert sorted(told) == [f"{each} 2" for each in done]
    client.submit(RunSpec(input=b"in", run_id="spoilt"))
    WorkflowRuntime(queue, spoilt).run_until_idle()
    assert "committed, rolled back or closed" in str(client.outcome("spoilt"))

    def inside(step: Step) -> Any:
        with transaction.atomic():
            try:
                with step.transaction(connection):
                    raise AssertionError
            except ValueError:
                return Succeed()

    client.submit(RunSpec(input=b"in", run_id="inside"))
    WorkflowRuntime(queue, inside).run_until_idle()
    assert client.outcome("inside").status == "succeeded"  # type: ignore[union-attr]


def main() -> None:
    with Queue.open(URL, default_config=QueueConfig(retry_backoff_base=0)) as queue:
        client = WorkflowClient(queue)
        outside(client)
        own(queue, client)


if __name__ == "__main__":
    main()
