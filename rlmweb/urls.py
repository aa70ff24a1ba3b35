"""Every address of the site."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from rlmweb.health import healthz

urlpatterns = [
    path("", include("workspaces.urls")),
    path("", include("analyses.urls")),
    path("accounts/", include("allauth.account.urls")),
    path("accounts/2fa/", include("allauth.mfa.urls")),
    path("accounts/sessions/", include("allauth.usersessions.urls")),
    path("accounts/connections/", include("allauth.socialaccount.urls")),
    path("accounts/", include("allauth.socialaccount.providers.openid_connect.urls")),
    path("admin/", admin.site.urls),
    path("healthz", healthz, name="healthz"),
]
