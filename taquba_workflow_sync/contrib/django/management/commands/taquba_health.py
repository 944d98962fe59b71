"""``manage.py taquba_health``: what ``taquba-workflow health`` does, on a store of the project."""

from __future__ import annotations

from taquba_workflow_sync.contrib.django.commands import HandingOver


class Command(HandingOver):
    """Hands over to ``taquba-workflow health``."""

    help = "Say whether the store is healthy; exits 3 if it is not."
    command = "health"
