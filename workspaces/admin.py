"""The operator's pages. Signing in to them goes by the same page as everywhere, with its limits on guessing."""

from __future__ import annotations

from typing import Any

from allauth.account.decorators import secure_admin_login
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from allauth.usersessions.models import UserSession
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as BaseUserAdmin
from django.contrib.auth.forms import AdminUserCreationForm
from django.db.models import Count, QuerySet
from django.http import HttpRequest

from workspaces.audit import Did, record
from workspaces.models import AuditEntry, Budget, DeletedUsage, Invitation, Member, ModelEndpoint, User, Workspace

admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]
admin.site.site_header = admin.site.site_title = "rlmweb, operator"

for _of_allauth in (Authenticator, SocialApp, SocialToken, SocialAccount, UserSession):
    admin.site.unregister(_of_allauth)  # its pages show secrets, or let them be written


class NewUserForm(AdminUserCreationForm):  # type: ignore[type-arg]
    class Meta:
        model = User
        fields = ("email",)


class MemberInline(admin.TabularInline):  # type: ignore[type-arg]
    model = Member
    extra = 0
    autocomplete_fields = ("user", "workspace")


class MembersChanged:
    """What the operator changes in who is in a workspace stands in that workspace's audit."""

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        super().save_formset(request, form, formset, change)  # type: ignore[misc]
        if formset.model is not Member:
            return
        done = [(Did.ADDED_MEMBER, member, {"role": member.role}) for member in formset.new_objects]
        done += [(Did.CHANGED_ROLE, member, {"now": member.role}) for member, _ in formset.changed_objects]
        done += [(Did.REMOVED_MEMBER, member, {"role": member.role}) for member in formset.deleted_objects]
        for did, member, details in done:
            record(request, did, workspace=member.workspace, target=member.user.email, by="the operator", **details)


@admin.register(User)
class UserAdmin(MembersChanged, BaseUserAdmin):  # type: ignore[type-arg]
    list_display = ("email", "name", "is_active", "is_staff", "date_joined", "last_login")
    list_filter = ("is_active", "is_staff", "is_superuser")
    search_fields = ("email", "name")
    ordering = ("email",)
    readonly_fields = ("date_joined", "last_login")
    fieldsets = (
        (None, {"fields": ("email", "name", "password")}),
        ("Operator", {"fields": ("is_active", "is_staff", "is_superuser", "groups", "user_permissions")}),
        ("Times", {"fields": ("date_joined", "last_login")}),
    )
    add_form = NewUserForm
    add_fieldsets = ((None, {"classes": ("wide",), "fields": ("email", "usable_password", "password1", "password2")}),)
    inlines = (MemberInline,)


@admin.register(Workspace)
class WorkspaceAdmin(MembersChanged, admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("name", "slug", "member_count", "created_at")
    search_fields = ("name", "slug", "members__user__email")
    readonly_fields = ("created_at", "delete_at")
    inlines = (MemberInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Workspace]:
        workspaces: QuerySet[Workspace] = super().get_queryset(request)
        return workspaces.annotate(_members=Count("members"))

    @admin.display(description="members", ordering="_members")
    def member_count(self, workspace: Any) -> int:
        count: int = workspace._members
        return count


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Invitation)
class InvitationAdmin(ReadOnlyAdmin):
    """Without the token: it is the key to a membership."""

    list_display = ("workspace", "role", "email", "created_by", "created_at", "expires_at", "revoked_at", "accepted_by")
    list_select_related = ("workspace", "created_by", "accepted_by")
    exclude = ("token",)


@admin.register(ModelEndpoint)
class ModelEndpointAdmin(ReadOnlyAdmin):
    """Without the key, encrypted or not."""

    list_display = ("name", "workspace", "base_url", "root_model", "has_key", "updated_at")
    list_select_related = ("workspace",)
    search_fields = ("name", "workspace__name", "workspace__slug", "base_url")
    exclude = ("sealed_key",)

    @admin.display(boolean=True, description="key")
    def has_key(self, endpoint: ModelEndpoint) -> bool:
        return bool(endpoint.sealed_key)


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    list_display = ("at", "actor_email", "action", "target", "workspace", "address")
    list_filter = ("action",)
    list_select_related = ("workspace",)
    search_fields = ("actor_email", "target", "workspace__slug")
    date_hierarchy = "at"
    show_full_result_count = False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Authenticator)
class AuthenticatorAdmin(ReadOnlyAdmin):
    """Can be taken away from who lost theirs. Without its data: a code of the app could be made from it."""

    list_display = ("user", "type", "created_at", "last_used_at")
    list_filter = ("type",)
    list_select_related = ("user",)
    search_fields = ("user__email",)
    exclude = ("data",)


@admin.register(SocialAccount)
class SocialAccountAdmin(ReadOnlyAdmin):
    """Which account of the OpenID Connect provider is whose."""

    list_display = ("user", "provider", "uid", "date_joined", "last_login")
    list_select_related = ("user",)
    search_fields = ("user__email", "uid")
    exclude = ("extra_data",)


@admin.register(Budget)
class BudgetAdmin(ReadOnlyAdmin):
    list_display = ("workspace", "of", "user", "cost", "tokens")
    list_filter = ("of",)
    list_select_related = ("workspace", "user")
    search_fields = ("workspace__name", "workspace__slug", "user__email")


@admin.register(DeletedUsage)
class DeletedUsageAdmin(ReadOnlyAdmin):
    list_display = ("day", "workspace", "user", "endpoint", "root_model", "runs", "cost")
    list_select_related = ("workspace", "user")
    search_fields = ("workspace__name", "workspace__slug", "user__email")
    date_hierarchy = "day"

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # the month's budget would forget it


@admin.register(UserSession)
class UserSessionAdmin(ReadOnlyAdmin):
    """Where people are signed in. Without the session's key: whoever has it is signed in as they are."""

    list_display = ("user", "created_at", "last_seen_at", "ip", "user_agent")
    list_select_related = ("user",)
    search_fields = ("user__email", "ip")
    exclude = ("session_key", "data")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # the row would go and the session stay: people end theirs on their own page
