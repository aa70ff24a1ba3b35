"""People and the workspaces they share. A workspace is the tenant: everything else belongs to one."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.db import models
from django.urls import reverse
from django.utils import timezone
from django.utils.text import slugify

from workspaces.secrets import seal, unseal


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str, password: str | None = None, **fields: Any) -> User:
        if not email:
            raise ValueError("A user needs an e-mail address")
        user = self.model(email=self.normalize_email(email).lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> User:
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)


class User(AbstractBaseUser, PermissionsMixin):
    """A person, known by an e-mail address."""

    email = models.EmailField(unique=True)
    name = models.CharField(max_length=120, blank=True)
    is_staff = models.BooleanField(default=False)
    is_active = models.BooleanField(default=True)
    date_joined = models.DateTimeField(default=timezone.now)

    objects: ClassVar[UserManager] = UserManager()
    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    def __str__(self) -> str:
        return self.name or self.email.partition("@")[0]


class WorkspaceQuerySet(models.QuerySet["Workspace"]):
    def visible_to(self, user: Any) -> WorkspaceQuerySet:
        """The workspaces of which this person is a member."""
        if not user.is_authenticated:
            return self.none()
        return self.filter(members__user=user, delete_at=None)

    def deleted_by(self, user: Any) -> WorkspaceQuerySet:
        """Those that this person deleted, or another owner, and can still bring back."""
        if not user.is_authenticated:
            return self.none()
        owned = self.filter(members__user=user, members__role=Member.Role.OWNER)
        return owned.filter(delete_at__gt=timezone.now())


class Workspace(models.Model):
    class RunsThen(models.TextChoices):
        """What becomes of runs by their age."""

        KEEP = "keep"
        ARCHIVE = "archive"
        DELETE = "delete"

    name = models.CharField(max_length=80)
    slug = models.SlugField(max_length=60, unique=True)
    created_at = models.DateTimeField(default=timezone.now)
    delete_at = models.DateTimeField(
        null=True, db_index=True
    )  # deleted by its owner: until then it can be brought back
    confirm_above = models.FloatField(null=True, blank=True)  # dollars: a dearer question is asked about first
    runs_then = models.CharField(max_length=10, choices=RunsThen.choices, default=RunsThen.KEEP)
    runs_days = models.PositiveIntegerField(default=90)  # after a run's end, until it is archived or deleted

    objects = WorkspaceQuerySet.as_manager()

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("workspace-home", args=[self.slug])

    @classmethod
    def start(cls, name: str, owner: User) -> Workspace:
        """Make a workspace with its owner. The slug's random tail keeps names from telling who else is here."""
        slug = f"{slugify(name)[:40] or 'workspace'}-{secrets.token_hex(3)}"
        workspace = cls.objects.create(name=name[:80], slug=slug)
        workspace.members.create(user=owner, role=Member.Role.OWNER)
        return workspace


class Member(models.Model):
    """A person in a workspace, and what they may do there."""

    class Role(models.TextChoices):
        OWNER = "owner"
        ADMIN = "admin"
        EDITOR = "editor"
        VIEWER = "viewer"

    workspace = models.ForeignKey(Workspace, models.CASCADE, related_name="members")
    user = models.ForeignKey(User, models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role.choices, default=Role.EDITOR)
    joined_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["workspace", "user"], name="member_once_a_workspace")]

    def __str__(self) -> str:
        return f"{self.user} ({self.role})"

    @property
    def may_edit(self) -> bool:
        return self.role != self.Role.VIEWER


INVITATION_DAYS = 7


def new_token() -> str:
    """128 random bits: a link that cannot be guessed."""
    return secrets.token_urlsafe(16)


def week_from_now() -> datetime:
    return timezone.now() + timedelta(days=INVITATION_DAYS)


class InvitationQuerySet(models.QuerySet["Invitation"]):
    def open(self) -> InvitationQuerySet:
        """Those that can still be accepted."""
        now = timezone.now()
        return self.filter(accepted_at=None, revoked_at=None, expires_at__gt=now, workspace__delete_at=None)


class Invitation(models.Model):
    """A link that makes one person a member, until it is used, revoked or too old."""

    workspace = models.ForeignKey(Workspace, models.CASCADE, related_name="invitations")
    token = models.CharField(max_length=48, unique=True, default=new_token)
    role = models.CharField(max_length=10, choices=Member.Role.choices, default=Member.Role.EDITOR)
    email = models.EmailField(blank=True)  # where given, only the person with this confirmed address may accept
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(default=week_from_now)
    revoked_at = models.DateTimeField(null=True)
    accepted_at = models.DateTimeField(null=True)
    accepted_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")

    objects = InvitationQuerySet.as_manager()

    def __str__(self) -> str:
        return f"invitation to {self.workspace} as {self.role}"

    def get_absolute_url(self) -> str:
        return reverse("invitation", args=[self.token])


class ModelEndpoint(models.Model):
    """A place where models answer, of one workspace. Its key is encrypted, and goes nowhere but into requests to it."""

    class Dialect(models.TextChoices):
        ASYNC = "async"
        PAPER = "paper"

    workspace = models.ForeignKey(Workspace, models.CASCADE, related_name="model_endpoints")
    name = models.CharField(max_length=60)
    base_url = models.CharField(max_length=300)
    sealed_key = models.TextField(blank=True)
    root_model = models.CharField(max_length=120)
    child_model = models.CharField(max_length=120, blank=True)  # empty: the root model
    dialect = models.CharField(max_length=10, choices=Dialect.choices, default=Dialect.ASYNC)
    window = models.PositiveIntegerField(default=128_000)  # tokens
    # Dollars a million tokens, where the price list does not know the model.
    input_price = models.FloatField(null=True, blank=True)
    output_price = models.FloatField(null=True, blank=True)
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["workspace", "name"], name="endpoint_name_once_a_workspace")]

    def __str__(self) -> str:
        return self.name

    def set_key(self, key: str) -> None:
        self.sealed_key = seal(key)

    @property
    def key(self) -> str:
        """The key itself; raises secrets.Unreadable."""
        return unseal(self.sealed_key)


class Budget(models.Model):
    """The most that may be used: by the workspace or a member in a calendar month (UTC), or by one run."""

    class Of(models.TextChoices):
        WORKSPACE = "workspace"
        MEMBER = "member"
        RUN = "run"

    workspace = models.ForeignKey(Workspace, models.CASCADE, related_name="budgets")
    of = models.CharField(max_length=10, choices=Of.choices)
    user = models.ForeignKey(User, models.CASCADE, null=True, related_name="+")  # this member's own, not every member's
    cost = models.FloatField(null=True, blank=True)  # dollars; null: no budget of that kind
    tokens = models.PositiveBigIntegerField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["workspace", "of"], condition=models.Q(user=None), name="budget_once_a_workspace"
            ),
            models.UniqueConstraint(fields=["workspace", "user"], name="budget_once_a_member"),
        ]

    def __str__(self) -> str:
        return f"budget of {self.user or self.of}"


class DeletedUsage(models.Model):
    """What deleted runs had used, without a word of theirs: deleting a run does not give its money back."""

    workspace = models.ForeignKey(Workspace, models.CASCADE, related_name="deleted_usage")
    user = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    day = models.DateField()  # on which they were asked
    endpoint = models.CharField(max_length=80)
    root_model = models.CharField(max_length=120)
    child_model = models.CharField(max_length=120)
    runs = models.PositiveIntegerField()
    unknown = models.PositiveIntegerField()  # runs whose cost nobody knows
    cost = models.FloatField()
    prompt_tokens = models.PositiveBigIntegerField()
    completion_tokens = models.PositiveBigIntegerField()

    class Meta:
        verbose_name_plural = "usage of deleted runs"
        indexes = [models.Index(fields=["workspace", "day"], name="deleted_usage_of_day")]

    def __str__(self) -> str:
        return f"{self.runs} deleted runs of {self.day}"


class AuditQuerySet(models.QuerySet["AuditEntry"]):
    """Entries are added and read. Only the retention takes the oldest away."""

    def update(self, **kwargs: Any) -> int:
        raise TypeError("an audit entry is never changed")

    def delete(self) -> tuple[int, dict[str, int]]:
        raise TypeError("audit entries go by their age alone: prune(before)")

    def prune(self, before: datetime) -> int:
        removed, _ = super(AuditQuerySet, self.filter(at__lt=before)).delete()
        return removed


class AuditEntry(models.Model):
    """Who did what, when, and from where. No secret stands in it."""

    workspace = models.ForeignKey(Workspace, models.CASCADE, null=True, related_name="audit")  # none: of the instance
    at = models.DateTimeField(default=timezone.now, db_index=True)
    actor = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    actor_email = models.CharField(max_length=254, blank=True)  # as it was then
    action = models.CharField(max_length=40)
    target = models.CharField(max_length=300, blank=True)
    details = models.JSONField(default=dict)
    address = models.GenericIPAddressField(null=True)

    objects = AuditQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "audit entries"
        ordering = ["-at", "-pk"]
        indexes = [models.Index(fields=["workspace", "-at"], name="audit_of_workspace")]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M} {self.actor_email} {self.action} {self.target}".strip()

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise TypeError("an audit entry is never changed")
        super().save(*args, **kwargs)
