from __future__ import annotations

from django.urls import path

from workspaces import views

urlpatterns = [
    path("", views.home, name="home"),
    path("workspaces/new", views.workspace_new, name="workspace-new"),
    path("w/<slug:workspace>/settings/", views.workspace_settings, name="workspace-settings"),
]
