"""The operator's view of corpora, runs and shares. What the recorder and the ingest write is read here, never changed."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from analyses.models import Corpus, CorpusVersion, Run, Share, UploadLimit
from workspaces import rights


class ReadOnly(admin.ModelAdmin):  # type: ignore[type-arg]
    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class VersionInline(admin.TabularInline):  # type: ignore[type-arg]
    model = CorpusVersion
    fields = readonly_fields = ("number", "document_count", "characters", "bytes", "created_by", "created_at")
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Corpus)
class CorpusAdmin(ReadOnly):
    list_display = ("name", "workspace", "created_by", "created_at")
    list_select_related = ("workspace", "created_by")
    search_fields = ("name", "key", "workspace__name", "workspace__slug")
    inlines = (VersionInline,)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # runs stand on it, and its blobs would stay: deleting is a verb of the app


@admin.register(UploadLimit)
class UploadLimitAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """How the operator gives one workspace more, or less, than the settings give all."""

    list_display = ("workspace", "name", "value", "by")
    list_filter = ("by", "name")
    list_select_related = ("workspace",)
    search_fields = ("workspace__name", "workspace__slug")
    fields = ("workspace", "name", "value", "by")
    autocomplete_fields = ("workspace",)


@admin.register(Run)
class RunAdmin(ReadOnly):
    list_display = (
        "number",
        "workspace",
        "status",
        "short_question",
        "endpoint",
        "calls",
        "cost",
        "created_by",
        "created_at",
    )
    list_display_links = ("number", "short_question")
    list_filter = ("status", "strategy", "endpoint")
    list_select_related = ("workspace", "created_by")
    search_fields = ("question", "key", "workspace__name", "workspace__slug", "created_by__email")
    date_hierarchy = "created_at"
    show_full_result_count = False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # as of a corpus

    def get_queryset(self, request: HttpRequest) -> QuerySet[Run]:
        runs: QuerySet[Run] = super().get_queryset(request)
        return runs.defer("answer_display", "sandbox")

    @admin.display(description="question")
    def short_question(self, run: Run) -> str:
        return run.question[:80]


@admin.register(Share)
class ShareAdmin(ReadOnly):
    """Shares can be revoked here, by the action; their tokens are not shown: a token is the key to a run."""

    list_display = ("run", "workspace", "created_by", "created_at", "expires_at", "revoked_at", "views")
    list_select_related = ("run__workspace", "created_by")
    list_filter = (("revoked_at", admin.EmptyFieldListFilter),)
    search_fields = ("run__key", "run__question", "run__workspace__slug")
    fields = ("run", "created_by", "created_at", "expires_at", "revoked_at", "with_sources", "with_outputs", "views")
    actions = ("revoke",)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(ordering="run__workspace")
    def workspace(self, share: Share) -> str:
        return str(share.run.workspace)

    @admin.action(description="Revoke the links chosen")
    def revoke(self, request: HttpRequest, shares: QuerySet[Share]) -> None:
        count = shares.filter(revoked_at=None).update(revoked_at=timezone.now())
        rights.changed()
        self.message_user(request, f"{count} revoked.")
