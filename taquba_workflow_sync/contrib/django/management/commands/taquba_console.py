"""``manage.py taquba_console``: what ``taquba-workflow console`` does, on a store of the project."""

from __future__ import annotations

from taquba_workflow_sync.contrib.django.commands import HandingOver


class Command(HandingOver):
    """Hands over to ``taquba-workflow console``."""

    help = "Serve pages about the store to a browser, for whoever has the address that is printed."
    command = "console"
