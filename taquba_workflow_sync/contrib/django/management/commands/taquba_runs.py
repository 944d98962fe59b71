"""``manage.py taquba_runs``: what ``taquba-workflow runs`` does, on a store of the project."""

from __future__ import annotations

from taquba_workflow_sync.contrib.django.commands import OfQueues


class Command(OfQueues):
    """Hands over to ``taquba-workflow runs``."""

    help = "List, show, wait for, cancel, retry, signal and wake runs."
    command = "runs"
