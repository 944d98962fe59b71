"""Runs in a Django project: add ``"taquba_workflow_sync.contrib.django"`` to ``INSTALLED_APPS``, and set ``TAQUBA``."""

from taquba_workflow_sync.contrib.django.on_commit import submit_on_commit
from taquba_workflow_sync.contrib.django.serving import with_connections
from taquba_workflow_sync.contrib.django.stores import store

__all__ = ["store", "submit_on_commit", "with_connections"]
