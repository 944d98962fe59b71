"""Makes the model ``Run`` known, for its permissions; it has no table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import migrations, models

from taquba_workflow_sync.contrib.django.untyped import Untyped

if TYPE_CHECKING:
    _Migration = Untyped
else:
    from django.db.migrations import Migration as _Migration


class Migration(_Migration):
    """Changes no database: the model is unmanaged."""

    initial: bool = True
    operations: list[Any] = [  # noqa: RUF012  # as Django writes them
        migrations.CreateModel(
            name="Run",
            fields=[("run_id", models.CharField(max_length=128, primary_key=True, serialize=False))],
            options={
                "verbose_name": "run",
                "managed": False,
                "base_manager_name": "objects",
                "default_manager_name": "objects",
                "default_permissions": ("view",),
                "permissions": (
                    ("cancel_run", "Can cancel run"),
                    ("retry_run", "Can retry run"),
                    ("requeue_run", "Can requeue run"),
                ),
            },
        ),
    ]
