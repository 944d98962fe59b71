"""The shop's pages, the admin with the runs, and the console."""

from django.contrib import admin
from django.urls import include, path
from shop import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("console/", include("taquba_workflow_sync.contrib.django.console")),
    path("orders/", views.place_order),
    path("orders/<int:order_id>/", views.show_order),
]
