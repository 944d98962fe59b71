"""The one model of the app: it has no table, and carries the URLs of the admin and the permissions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models

from taquba_workflow_sync.contrib.django.untyped import Untyped

if TYPE_CHECKING:
    _Manager = Untyped
    _Model = Untyped
else:
    from django.db.models import Manager as _Manager
    from django.db.models import Model as _Model


class NoRows(_Manager):
    """Finds nothing, and asks no database for it: ``dumpdata`` goes through every model."""

    def get_queryset(self) -> Any:
        """Return the empty query."""
        return super().get_queryset().none()  # type: ignore[misc]  # Django has no types


class Run(_Model):
    """A run, as permissions and the admin's log speak of it; runs themselves are in the stores."""

    run_id: Any = models.CharField(max_length=128, primary_key=True)
    objects: Any = NoRows()

    class Meta:
        """No table, and permissions of its own in place of Django's four."""

        managed: bool = False
        base_manager_name: str = "objects"
        default_manager_name: str = "objects"
        default_permissions: tuple[str, ...] = ("view",)
        permissions: tuple[tuple[str, str], ...] = (
            ("cancel_run", "Can cancel run"),
            ("retry_run", "Can retry run"),
            ("requeue_run", "Can requeue run"),
            ("operate_run", "Can do all that the console can"),
        )
        verbose_name: str = "run"

    def __str__(self) -> str:
        return str(self.run_id)
