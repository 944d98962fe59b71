"""The shop's own pages of the admin; those of the runs come with the app taquba."""

from django.contrib import admin

from shop.models import Order, Payment, Shipment

admin.site.register([Order, Payment, Shipment])
