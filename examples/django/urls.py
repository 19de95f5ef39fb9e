"""The project's URLs."""

from django.contrib import admin
from django.urls import path

from incidents import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("incidents/", views.report),
    path("incidents/<uuid:key>/acknowledge/", views.acknowledge),
]
