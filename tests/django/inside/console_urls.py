"""The shop's pages with the console beside them, and once more at the root of another place."""

from django.urls import include, path
from project.urls import urlpatterns as shop

urlpatterns = [
    *shop,
    path("staff/console/", include("taquba_workflow_sync.contrib.django.console")),
    path("<slug:tenant>/own/", include("taquba_workflow_sync.contrib.django.console", namespace="own")),
]
