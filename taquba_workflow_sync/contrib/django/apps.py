"""The Django app ``taquba``: its stores, its flows, its checks."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.signals import setting_changed

from taquba_workflow_sync.contrib.django.stores import stores
from taquba_workflow_sync.contrib.django.untyped import Untyped
from taquba_workflow_sync.flow import Flow

if TYPE_CHECKING:
    _AppConfig = Untyped
else:
    from django.apps import AppConfig as _AppConfig


class TaqubaConfig(_AppConfig):
    """``flows``: those of every ``workflows.py``, in the order of the apps."""

    name = "taquba_workflow_sync.contrib.django"
    label = "taquba"
    verbose_name = "Taquba"
    default_auto_field = "django.db.models.AutoField"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.flows: list[Flow[Any, Any]] = []

    def ready(self) -> None:
        """Find the flows of the project; opens no store."""
        from taquba_workflow_sync.contrib.django import checks
        from taquba_workflow_sync.contrib.django.discovery import discover
        from taquba_workflow_sync.contrib.django.served import served_by

        checks.register_checks()
        if getattr(settings, "TASKS", None):
            # Django registers the checks of tasks, ours among them, when this is imported.
            with suppress(ImportError):
                import taquba_workflow_sync.contrib.django.tasks_compat  # noqa: F401  # for what its import does
        setting_changed.connect(self._changed, dispatch_uid="taquba")
        self.flows = discover()
        stores().served_by = served_by

    def _changed(self, *, setting: str, **_: Any) -> None:
        if setting == "TAQUBA":
            stores().close()
