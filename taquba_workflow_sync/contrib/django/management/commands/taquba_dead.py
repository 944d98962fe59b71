"""``manage.py taquba_dead``: what ``taquba-workflow dead`` does, on a store of the project."""

from __future__ import annotations

from taquba_workflow_sync.contrib.django.commands import OfQueues


class Command(OfQueues):
    """Hands over to ``taquba-workflow dead``."""

    help = "List, show, requeue and drop dead letters."
    command = "dead"
