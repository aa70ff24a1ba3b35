from __future__ import annotations

from django.urls import path

from workspaces import views, views_audit, views_deletion, views_members

urlpatterns = [
    path("", views.home, name="home"),
    path("workspaces/new", views.workspace_new, name="workspace-new"),
    path("join/<str:token>/", views_members.invitation, name="invitation"),
    path("w/<slug:workspace>/settings/", views.workspace_settings, name="workspace-settings"),
    path("w/<slug:workspace>/settings/delete", views_deletion.workspace_delete, name="workspace-delete"),
    path("w/<slug:workspace>/deleted/", views_deletion.workspace_deleted, name="workspace-deleted"),
    path("accounts/delete/", views_deletion.account_delete, name="account-delete"),
    path("w/<slug:workspace>/audit/", views_audit.audit, name="audit"),
    path("w/<slug:workspace>/settings/invite", views_members.invite, name="invite"),
    path(
        "w/<slug:workspace>/settings/invitations/<int:invitation_id>/revoke",
        views_members.invitation_revoke,
        name="invitation-revoke",
    ),
    path("w/<slug:workspace>/settings/members/<int:member_id>/role", views_members.member_role, name="member-role"),
    path(
        "w/<slug:workspace>/settings/members/<int:member_id>/remove", views_members.member_remove, name="member-remove"
    ),
]
