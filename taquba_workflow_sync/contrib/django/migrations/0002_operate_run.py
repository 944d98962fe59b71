"""Makes the permission of the console known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import migrations

from taquba_workflow_sync.contrib.django.untyped import Untyped

if TYPE_CHECKING:
    _Migration = Untyped
else:
    from django.db.migrations import Migration as _Migration


class Migration(_Migration):
    """Changes no database: the model is unmanaged."""

    dependencies: list[Any] = [("taquba", "0001_initial")]  # noqa: RUF012  # as Django writes them
    operations: list[Any] = [  # noqa: RUF012  # likewise
        migrations.AlterModelOptions(
            name="run",
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
                    ("operate_run", "Can do all that the console can"),
                ),
            },
        ),
    ]
