"""Corpora and runs. A run is a tree of calls, each a list of cells; Call and Cell rows are written by the recorder alone."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.db import models
from django.urls import reverse
from django.utils import timezone
from django.utils.crypto import constant_time_compare, salted_hmac

from analyses.contents import ALL, Contents
from analyses.fields import JSONAsWritten
from analyses.querysets import CorpusQuerySet, DocumentQuerySet, RunQuerySet, ShareQuerySet
from workspaces.models import Workspace


def new_key() -> str:
    """A name for a URL that cannot be guessed: 128 random bits."""
    return secrets.token_urlsafe(16)


class Status(models.TextChoices):
    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    PAUSED = "paused"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"
    LIMIT = "limit"


ENDED = (Status.DONE, Status.FAILED, Status.STOPPED, Status.LIMIT)
FAILURES = (Status.FAILED, Status.LIMIT)  # who was stopped has not failed


class Corpus(models.Model):
    """An uploaded set of documents. Changing it makes a new version; runs keep the version they ran on."""

    workspace = models.ForeignKey(Workspace, models.CASCADE, related_name="corpora")
    key = models.CharField(max_length=24, unique=True, default=new_key)
    name = models.CharField(max_length=200)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    sample_questions = models.JSONField(default=list, blank=True)

    objects = CorpusQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "corpora"
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("corpus-detail", args=[self.workspace.slug, self.key])

    @property
    def latest(self) -> CorpusVersion | None:
        return self.versions.order_by("-number").first()


class CorpusVersion(models.Model):
    """One state of a corpus: a packed text (all documents' UTF-8, one after the other) and the index into it."""

    corpus = models.ForeignKey(Corpus, models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    text = models.CharField(max_length=64)  # sha256 of the packed text's blob
    document_count = models.PositiveIntegerField()
    characters = models.PositiveBigIntegerField()
    bytes = models.PositiveBigIntegerField()
    change = models.CharField(max_length=300, blank=True)  # from the version before, in words
    created_at = models.DateTimeField(default=timezone.now)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["corpus", "number"], name="version_once_a_corpus")]

    def __str__(self) -> str:
        return f"{self.corpus}, version {self.number}"


class Document(models.Model):
    """One file of a corpus version, in order: where its text lies in the packed text, and what it came from."""

    version = models.ForeignKey(CorpusVersion, models.CASCADE, related_name="documents")
    position = models.PositiveIntegerField()  # from 0, as in context[position]
    title = models.CharField(max_length=300)
    name = models.CharField(max_length=500)  # the file's name, with its path where it had one
    byte_start = models.PositiveBigIntegerField()
    byte_end = models.PositiveBigIntegerField()
    char_start = models.PositiveBigIntegerField()
    characters = models.PositiveBigIntegerField()
    format = models.CharField(max_length=12)
    encoding = models.CharField(max_length=40)
    original = models.CharField(max_length=64)  # sha256 of the uploaded bytes' blob
    original_bytes = models.PositiveBigIntegerField()
    meta = JSONAsWritten(default=dict)
    marks = models.CharField(max_length=64, blank=True)  # blob of JSON: characters → moments, pages, chapters

    objects = DocumentQuerySet.as_manager()

    class Meta:
        ordering = ["position"]
        constraints = [models.UniqueConstraint(fields=["version", "position"], name="document_once_a_position")]

    def __str__(self) -> str:
        return self.title


class Upload(models.Model):
    """Files on their way into a corpus: the ledger of what became of each. It makes one version when all are settled."""

    workspace = models.ForeignKey(Workspace, models.CASCADE, related_name="uploads")
    corpus = models.ForeignKey(Corpus, models.CASCADE, null=True, related_name="uploads")  # none yet: it will make one
    version = models.ForeignKey(CorpusVersion, models.SET_NULL, null=True, related_name="+")  # what it made
    key = models.CharField(max_length=24, unique=True, default=new_key)
    name = models.CharField(max_length=200, blank=True)  # of the corpus to be made
    replaces = models.JSONField(null=True)  # the document in whose place its files come: position, original, name
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    closed_at = models.DateTimeField(null=True)  # no more files will come
    finished_at = models.DateTimeField(null=True)  # every file is settled, and the version made if there is one
    reason = models.TextField(blank=True)  # why it made nothing

    # Who works on it, and until when; as with runs, a lease that has run out may be taken by another worker.
    lease_token = models.CharField(max_length=32, blank=True)
    lease_expires_at = models.DateTimeField(null=True)

    objects = CorpusQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        indexes = [models.Index(fields=["finished_at", "lease_expires_at"], name="upload_to_claim")]

    def __str__(self) -> str:
        return self.name or self.key

    def get_absolute_url(self) -> str:
        return reverse("upload-detail", args=[self.workspace.slug, self.key])


class UploadFile(models.Model):
    """One file of an upload, or one member of an archive in it: where it stands, and why."""

    class State(models.TextChoices):
        UPLOADING = "uploading"  # announced; its bytes are not all here
        QUEUED = "queued"
        EXTRACTING = "extracting"
        READY = "ready"
        FAILED = "failed"
        DUPLICATE = "duplicate"
        SKIPPED = "skipped"

    upload = models.ForeignKey(Upload, models.CASCADE, related_name="files")
    archive = models.ForeignKey("self", models.CASCADE, null=True, related_name="members")  # the archive it came in
    position = models.PositiveIntegerField()  # in the upload, by arrival; members follow their archive
    name = models.CharField(max_length=500)
    size = models.PositiveBigIntegerField()  # bytes, as announced
    received = models.PositiveBigIntegerField(default=0)  # bytes that are here
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    reason = models.TextField(blank=True)
    may_retry = models.BooleanField(default=False)  # another try could end otherwise
    blob = models.CharField(max_length=64, blank=True)  # its bytes, while somebody may need them
    text = models.CharField(max_length=64, blank=True)  # the blob of its text, until it is packed
    marks = models.CharField(max_length=64, blank=True)
    title = models.CharField(max_length=300, blank=True)
    format = models.CharField(max_length=12, blank=True)
    encoding = models.CharField(max_length=40, blank=True)
    meta = JSONAsWritten(default=dict)
    document_chars = models.PositiveBigIntegerField(default=0)
    document_bytes = models.PositiveBigIntegerField(default=0)
    attempts = models.PositiveSmallIntegerField(default=0)  # times that a worker began to read it
    settled_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["position", "name"]
        indexes = [models.Index(fields=["upload", "state"], name="upload_file_state")]

    def __str__(self) -> str:
        return self.name

    @property
    def settled(self) -> bool:
        return self.state in SETTLED


SETTLED = (UploadFile.State.READY, UploadFile.State.FAILED, UploadFile.State.DUPLICATE, UploadFile.State.SKIPPED)


class UploadLimit(models.Model):
    """How much an upload of one workspace may be, where that is not what the operator's settings say."""

    class Name(models.TextChoices):
        FILES = "files", "files of an upload"
        BYTES = "bytes", "bytes of an upload, unpacked"
        CHARACTERS = "characters", "characters of an upload"
        RATIO = "ratio", "times its size that an archive unpacks to"
        DEPTH = "depth", "levels of archives in archives"
        SECONDS = "seconds", "seconds of reading one file"

    class By(models.TextChoices):
        OPERATOR = "operator", "the operator: in place of the setting"
        WORKSPACE = "workspace", "the workspace: holds where it is lower"

    workspace = models.ForeignKey(Workspace, models.CASCADE, related_name="upload_limits")
    name = models.CharField(max_length=10, choices=Name.choices)
    by = models.CharField(max_length=10, choices=By.choices, default=By.OPERATOR)
    value = models.PositiveBigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["workspace", "name", "by"], name="upload_limit_once"),
            models.CheckConstraint(condition=models.Q(value__gte=1), name="upload_limit_at_least_one"),
        ]

    def __str__(self) -> str:
        return f"{self.workspace}: {self.value:,} {self.name}"


class LooseBlob(models.Model):
    """A blob that lost a row that named it. It is deleted some time later, if no row names it then."""

    sha = models.CharField(max_length=64, unique=True)
    since = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.sha


class Answered(models.Model):
    """The answer of a run or a call: the whole value (sandbox.Value.dump) in the row, or in a blob where it is large;

    and what a page shows of it.
    """

    answer_value = models.BinaryField(default=b"")
    answer_blob = models.CharField(max_length=64, blank=True)
    answer_display = JSONAsWritten(null=True)  # JSON-like, bounded
    answer_cut = models.BooleanField(default=False)  # answer_display is not all of it
    answer_name = models.CharField(max_length=120, blank=True)  # the variable it was returned from
    answer_type = models.CharField(max_length=80, blank=True)
    answer_shape = models.CharField(max_length=160, blank=True)
    partial = models.BooleanField(default=False)

    class Meta:
        abstract = True


class Run(Answered):
    """One execution of a question on a context. Its totals are written with its calls and cells, by their recorder."""

    workspace = models.ForeignKey(Workspace, models.CASCADE, related_name="runs")
    number = models.PositiveIntegerField()  # in its workspace, for people
    key = models.CharField(max_length=24, unique=True, default=new_key)
    question = models.TextField()
    corpus_version = models.ForeignKey(CorpusVersion, models.PROTECT, null=True, related_name="runs")
    documents = models.JSONField(null=True)  # positions of those that it reads; null: all of its version
    document_chars = models.PositiveBigIntegerField(null=True)  # of those; null with them
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    strategy = models.CharField(max_length=20, default="rlm")
    dialect = models.CharField(max_length=10, default="async")
    endpoint = models.CharField(max_length=80)
    root_model = models.CharField(max_length=120)
    child_model = models.CharField(max_length=120)
    limits = models.JSONField(default=dict)
    seed = models.CharField(max_length=32)

    status = models.CharField(max_length=10, choices=Status.choices, default=Status.QUEUED)
    reason = models.TextField(blank=True)  # a sentence for a person: why it did not end as done
    stop_requested_at = models.DateTimeField(null=True)
    pause_requested_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    # The lease (design.md, decision 3): who may write, and until when.
    lease_token = models.CharField(max_length=32, blank=True)
    lease_expires_at = models.DateTimeField(null=True)
    attempts = models.PositiveSmallIntegerField(default=0)  # taken up after a death, with nothing new recorded since
    resumed_at = models.DateTimeField(null=True)  # … and when last; ``seconds`` is what it had been at work before

    seq = models.PositiveBigIntegerField(default=0)  # of the last write to any row of this run
    calls = models.PositiveIntegerField(default=0)
    cells = models.PositiveIntegerField(default=0)  # kinds code and tool
    depth = models.PositiveSmallIntegerField(default=0)  # greatest reached, root 0
    failed_calls = models.PositiveIntegerField(default=0)
    prompt_tokens = models.PositiveBigIntegerField(default=0)
    completion_tokens = models.PositiveBigIntegerField(default=0)
    cached_tokens = models.PositiveBigIntegerField(default=0)
    cost = models.FloatField(null=True, default=0.0)  # dollars; null: unknown
    seconds = models.FloatField(default=0.0)

    follow_ups = models.PositiveSmallIntegerField(default=0)  # the answer's columns are those of the newest question
    warm_worker = models.CharField(max_length=80, blank=True)  # who holds the root's REPL, though the run has ended …
    warm_until = models.DateTimeField(null=True)  # … and for how long; then, or elsewhere, a follow-up is a replay
    sandbox = models.JSONField(default=dict)  # what the jail's self-test said

    # A fork: another run up to a cell, and on from there (docs/decisions/0003). What it took over is not its own usage.
    forked_from = models.ForeignKey("self", models.SET_NULL, null=True, related_name="forks")
    fork = JSONAsWritten(default=dict)  # {"run", "kind", "call", "cell", "changed", …}: analyses/forking.py
    reused = models.JSONField(
        default=dict
    )  # {"calls", "cells", "cost", tokens …}: counted there, not in the columns above

    # A run that came in as a log (docs/trajectory.md): it has ended, and nobody writes to it or executes it.
    imported_from = models.CharField(max_length=20, blank=True)  # the log's format; "" for a run of this instance
    imported_file = models.CharField(max_length=200, blank=True)
    imported_at = models.DateTimeField(null=True)

    # Retention: a run in an archive has no calls and cells here, but a blob with all of them.
    kept = models.BooleanField(default=False)  # a member said so: it is not archived or deleted by its age
    archive = models.CharField(max_length=64, blank=True)  # the blob: docs/trajectory.md, packed with gzip
    archive_bytes = models.PositiveBigIntegerField(default=0)
    archived_at = models.DateTimeField(null=True)
    archive_tried_at = models.DateTimeField(null=True)  # … in vain: it stays as it is, and is tried again later
    archive_refused = models.TextField(blank=True)  # what a person who had asked for it is told: why, and what to do
    archive_asked_at = models.DateTimeField(null=True)
    restore_asked_at = models.DateTimeField(null=True)
    restored_at = models.DateTimeField(null=True)  # its age counts from here

    objects = RunQuerySet.as_manager()
    contents: Contents = ALL  # how much of it who asks may be shown; less through a share (analyses/sharing.py)

    class Meta:
        ordering = ["-created_at"]
        constraints = [models.UniqueConstraint(fields=["workspace", "number"], name="run_number_once_a_workspace")]
        indexes = [
            models.Index(fields=["status", "lease_expires_at"], name="run_to_claim"),
            models.Index(fields=["workspace", "-created_at"], name="run_of_workspace"),
        ]

    def __str__(self) -> str:
        return f"run {self.number}"

    def get_absolute_url(self) -> str:
        return reverse("run-detail", args=[self.workspace.slug, self.key])

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @property
    def archived(self) -> bool:
        return bool(self.archive)

    @property
    def form(self) -> str:
        """Changes where the run goes to the archive or comes back: what was made of it before cannot be brought up to date."""
        if self.archive:
            return f"a{self.archived_at.timestamp():.0f}" if self.archived_at else "a"
        return f"r{self.restored_at.timestamp():.0f}" if self.restored_at else ""

    def newest_follow_up(self) -> FollowUp | None:
        """What the run answers now, or answered last; None: its own question."""
        return self.follow_up_set.order_by("-number").first() if self.follow_ups else None


class FollowUp(models.Model):
    """A further question of a run: a new turn of its root call. The run's limits hold for it anew; the totals add up."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="follow_up_set")
    number = models.PositiveSmallIntegerField()  # of the question and its answer: the run's own question is 1
    question = models.TextField()
    asked_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    asked_at = models.DateTimeField(default=timezone.now)
    after_cell = models.PositiveIntegerField()  # of the root: its turns before this question
    limits = models.JSONField(default=dict)  # the run's, lowered to what the budgets left

    # What the run has used for this question alone; the run's columns hold it too.
    calls = models.PositiveIntegerField(default=0)
    cells = models.PositiveIntegerField(default=0)
    prompt_tokens = models.PositiveBigIntegerField(default=0)
    completion_tokens = models.PositiveBigIntegerField(default=0)
    cached_tokens = models.PositiveBigIntegerField(default=0)
    cost = models.FloatField(null=True, default=0.0)
    seconds = models.FloatField(default=0.0)

    born = models.PositiveBigIntegerField()  # seq of its insert

    class Meta:
        ordering = ["number"]
        constraints = [models.UniqueConstraint(fields=["run", "number"], name="follow_up_once_a_run")]

    def __str__(self) -> str:
        return f"follow-up {self.number} of {self.run}"


class EarlierAnswer(Answered):
    """How a run had answered the question before a follow-up. Written when that is asked, and never after."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="earlier_answers")
    number = models.PositiveSmallIntegerField()  # of its question
    status = models.CharField(max_length=10, choices=Status.choices)
    reason = models.TextField(blank=True)
    finished_at = models.DateTimeField(null=True)

    born = models.PositiveBigIntegerField()

    class Meta:
        ordering = ["number"]
        constraints = [models.UniqueConstraint(fields=["run", "number"], name="earlier_answer_once_a_run")]

    def __str__(self) -> str:
        return f"answer {self.number} of {self.run}"

    @property
    def ended(self) -> bool:
        return True


class ForeignCorpus(models.Model):
    """What the file of an imported run says of the corpus it ran on. The texts are elsewhere."""

    run = models.OneToOneField(Run, models.CASCADE, related_name="foreign_corpus")
    described = JSONAsWritten()  # docs/trajectory.md, "corpus": name, version, sizes, digest, documents

    def __str__(self) -> str:
        return f"corpus of {self.run}"


class Import(models.Model):
    """Logs that were sent together, to become runs; a worker reads them. Its lease is as with uploads."""

    workspace = models.ForeignKey(Workspace, models.CASCADE, related_name="imports")
    key = models.CharField(max_length=24, unique=True, default=new_key)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True)  # every file is settled
    lease_token = models.CharField(max_length=32, blank=True)
    lease_expires_at = models.DateTimeField(null=True)

    objects = CorpusQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["finished_at", "lease_expires_at"], name="import_to_claim")]

    def __str__(self) -> str:
        return f"import {self.key}"

    def get_absolute_url(self) -> str:
        return reverse("import-detail", args=[self.workspace.slug, self.key])


class ImportFile(models.Model):
    """One log: how far it is read, and what became of each run in it."""

    batch = models.ForeignKey(Import, models.CASCADE, related_name="files")
    position = models.PositiveIntegerField()
    name = models.CharField(max_length=200)
    size = models.PositiveBigIntegerField()
    read = models.PositiveBigIntegerField(default=0)  # bytes, at the last look
    blob = models.CharField(max_length=64, blank=True)  # its bytes, until it is settled
    outcomes = models.JSONField(default=list)  # of each run in it, as trajectory/intake.py tells them
    attempts = models.PositiveSmallIntegerField(default=0)  # times that a worker began to read it
    settled_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["position"]

    def __str__(self) -> str:
        return self.name


class Call(Answered):
    """One LM invocation in the tree of a run. Times are seconds since the epoch."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="call_set")
    number = models.PositiveIntegerField()  # in its run, from 1 (the root); smaller than its children's
    parent = models.ForeignKey("self", models.CASCADE, null=True, related_name="children")
    parent_number = models.PositiveIntegerField(null=True)
    parent_cell = models.PositiveIntegerField(null=True)  # number of the parent's cell that asked for it
    order = models.PositiveIntegerField(default=0)  # among that cell's requests
    depth = models.PositiveSmallIntegerField(default=0)
    kind = models.CharField(max_length=6)  # root, child, leaf
    identity = models.CharField(max_length=64, blank=True)
    strategy = models.CharField(max_length=20)
    model = models.CharField(max_length=120)
    dialect = models.CharField(max_length=10)
    title = models.CharField(max_length=200, blank=True)
    instruction = models.TextField(blank=True)  # bounded; the whole of it is in the first cell's messages
    schema = JSONAsWritten(null=True)
    context_type = models.CharField(max_length=80)
    context_shape = models.CharField(max_length=160)
    context_chars = models.PositiveBigIntegerField(default=0)
    context_digest = models.CharField(max_length=64, blank=True)

    status = models.CharField(max_length=10, choices=Status.choices, default=Status.QUEUED)
    reason = models.TextField(blank=True)
    notes = models.JSONField(default=list)  # retries, reminders, limits near: sentences
    queued_at = models.FloatField()
    started_at = models.FloatField(null=True)
    finished_at = models.FloatField(null=True)
    turns = models.PositiveIntegerField(default=0)
    prompt_tokens = models.PositiveBigIntegerField(default=0)
    completion_tokens = models.PositiveBigIntegerField(default=0)
    cached_tokens = models.PositiveBigIntegerField(default=0)
    reasoning_tokens = models.PositiveBigIntegerField(default=0)
    cost = models.FloatField(null=True, default=0.0)
    model_seconds = models.FloatField(default=0.0)
    exec_seconds = models.FloatField(default=0.0)

    reused_at = models.FloatField(null=True)  # when a fork took it over, as it ended in the run it was forked from

    born = models.PositiveBigIntegerField()  # seq of its insert
    seq = models.PositiveBigIntegerField()  # seq of its last write

    class Meta:
        ordering = ["number"]
        constraints = [models.UniqueConstraint(fields=["run", "number"], name="call_once_a_run")]
        indexes = [
            models.Index(fields=["run", "seq"], name="call_changed"),
            models.Index(fields=["parent", "parent_cell", "order"], name="call_of_cell"),
        ]

    def __str__(self) -> str:
        return f"call {self.number}"

    @property
    def ended(self) -> bool:
        return self.status in ENDED


class CellQuerySet(models.QuerySet["Cell"]):
    def bulk_create(self, objs: Any, *args: Any, **kwargs: Any) -> Any:
        made = super().bulk_create(objs, *args, **kwargs)
        MessageBlob.note(made)
        return made


class Cell(models.Model):
    """One turn of a call: the messages it added, the reply, and the cell that ran, if any."""

    class Kind(models.TextChoices):
        CODE = "code"
        TOOL = "tool"
        REPLY = "reply"
        COMPACTION = "compaction"
        PROBE = "probe"  # of an imported run: code that its harness ran before the first turn; counts as no cell

    class Status(models.TextChoices):
        WRITING = "writing"  # the model writes its reply
        RUNNING = "running"
        WAITING = "waiting"  # for child calls
        DONE = "done"
        ERROR = "error"  # it raised, or its REPL was killed
        STOPPED = "stopped"  # its call ended first

    # Without indexes of their own: those below begin with them.
    run = models.ForeignKey(Run, models.CASCADE, related_name="cell_set", db_index=False)
    call = models.ForeignKey(Call, models.CASCADE, related_name="cell_set", db_index=False)
    call_number = models.PositiveIntegerField()
    number = models.PositiveIntegerField()  # in its call, from 1
    kind = models.CharField(max_length=10, choices=Kind.choices, default=Kind.REPLY)
    status = models.CharField(max_length=8, choices=Status.choices, default=Status.WRITING)
    messages = JSONAsWritten(default=list)  # [{"role", "content", …}]: what this turn added before the reply
    reply = models.TextField(blank=True)
    reasoning = models.TextField(blank=True)
    finish_reason = models.CharField(max_length=20, blank=True)  # of the reply; "length": it was cut
    code = models.TextField(blank=True)
    shown = models.TextField(blank=True)  # exactly what the model was told of the output
    output = models.TextField(blank=True)  # what was kept of it, where it is short
    output_blob = models.CharField(max_length=64, blank=True)  # … and where it is long
    output_chars = models.PositiveBigIntegerField(default=0)  # true length
    shown_chars = models.PositiveIntegerField(default=0)
    error = models.TextField(blank=True)
    killed = models.CharField(max_length=10, blank=True)
    final = models.BooleanField(default=False)
    prompt_tokens = models.PositiveIntegerField(default=0)
    completion_tokens = models.PositiveIntegerField(default=0)
    cached_tokens = models.PositiveIntegerField(default=0)
    reasoning_tokens = models.PositiveIntegerField(default=0)
    cost = models.FloatField(null=True, default=0.0)
    # Seconds since the epoch: sent, first piece of the reply, reply whole, cell over.
    started_at = models.FloatField()
    first_token_at = models.FloatField(null=True)
    replied_at = models.FloatField(null=True)
    ended_at = models.FloatField(null=True)
    seconds = models.FloatField(default=0.0)  # of execution, waiting included
    waited = models.FloatField(default=0.0)
    variables = JSONAsWritten(default=list)
    replay_differs = models.BooleanField(default=False)  # it ran again, and its output was another
    reused = models.BooleanField(default=False)  # a fork took its reply over: no request was paid for
    edited = models.BooleanField(default=False)  # a person changed its code; the reply is as the model wrote it
    exchange = JSONAsWritten(
        default=list
    )  # for replay: [["ask", order, identity], ["give", order, ""], …] as they came
    children_total = models.PositiveIntegerField(default=0)  # child calls it asked for
    children_done = models.PositiveIntegerField(default=0)
    children_failed = models.PositiveIntegerField(default=0)  # failed, stopped or at a limit

    born = models.PositiveBigIntegerField()
    seq = models.PositiveBigIntegerField()

    objects = CellQuerySet.as_manager()

    class Meta:
        ordering = ["call", "number"]
        constraints = [models.UniqueConstraint(fields=["call", "number"], name="cell_once_a_call")]
        indexes = [
            models.Index(fields=["run", "seq"], name="cell_changed"),
            models.Index(fields=["run", "call_number", "number"], name="cell_of_run"),
        ]

    def __str__(self) -> str:
        return f"cell {self.call_number}.{self.number}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        new = self._state.adding
        super().save(*args, **kwargs)
        if new:
            MessageBlob.note([self])


class MessageBlob(models.Model):
    """A blob that a cell's messages name: who asks whether a blob is still needed need not read every message."""

    cell = models.ForeignKey(Cell, models.CASCADE, related_name="message_blobs")
    sha = models.CharField(max_length=64, db_index=True)

    def __str__(self) -> str:
        return self.sha

    @staticmethod
    def note(cells: Iterable[Cell]) -> None:
        """Messages are written with their cell and never changed."""
        named = {(cell.pk, message["blob"]) for cell in cells for message in cell.messages if message.get("blob")}
        MessageBlob.objects.bulk_create(
            [MessageBlob(cell_id=pk, sha=sha) for pk, sha in sorted(named)], batch_size=1000
        )


class Share(models.Model):
    """A public permalink of a run: how long it lasts, what it asks for, and how much of the run it contains."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="shares")
    token = models.CharField(max_length=48, unique=True, default=new_key)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    revoked_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True)
    password = models.CharField(max_length=128, blank=True)  # hashed
    with_sources = models.BooleanField(default=False)
    with_outputs = models.BooleanField(default=True)  # all that was printed, not only what the model was told of it
    views = models.PositiveIntegerField(default=0)  # by others than members, each once a day

    objects = ShareQuerySet.as_manager()

    def __str__(self) -> str:
        return f"share of {self.run}"

    def get_absolute_url(self) -> str:
        return reverse("share-detail", args=[self.token])

    @property
    def expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= timezone.now()

    @property
    def contents(self) -> Contents:
        return Contents(sources=self.with_sources, outputs=self.with_outputs)

    @property
    def lock(self) -> str:
        """Stands for the present password, without telling it: another password, another lock."""
        return salted_hmac("analyses.share", self.password).hexdigest() if self.password else ""

    def opened_by(self, lock: str) -> bool:
        return constant_time_compare(self.lock, lock)
