"""The shop's pages with the console beside them, and once more at the root of another place."""

from django.urls import URLResolver, include, path
from project.urls import urlpatterns as shop

urlpatterns = [
    # The shop has one of its own.
    *(each for each in shop if not (isinstance(each, URLResolver) and each.app_name == "taquba_console")),
    path("staff/console/", include("taquba_workflow_sync.contrib.django.console")),
    path("<slug:tenant>/own/", include("taquba_workflow_sync.contrib.django.console", namespace="own")),
]
