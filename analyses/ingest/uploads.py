"""An upload from its first file to the corpus version it makes: who works on it, what became of each file, and why.

Every step is a row, so a closed tab, a killed worker or a lost message changes nothing: whoever claims the upload next
goes on where it stands (design.md, decision 3, for uploads).
"""

from __future__ import annotations

import datetime
import errno
import logging
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath
from types import TracebackType
from typing import Any, Self

from celery import current_app
from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.db.models import Q, Sum
from django.utils import timezone

from analyses import blobs, search, tus
from analyses.ingest import archives, loose, versions
from analyses.ingest.formats import ARCHIVES, Extracted, extract, format_of
from analyses.ingest.jailed import Reader
from analyses.ingest.limits import Refused, UploadLimits, megabytes
from analyses.ingest.meta import shortened
from analyses.models import SETTLED, Corpus, CorpusVersion, Document, Upload, UploadFile

log = logging.getLogger(__name__)

State = UploadFile.State
LEASE = 30  # seconds
TELL_SECONDS = 1.0  # between two words about how far a document is
NAME_MOST = 500
FORGOTTEN = 24 * 3600  # seconds after which an upload that nobody goes on with is closed
ARCHIVE_FORMATS = frozenset(ARCHIVES.values())
# What may come between two looks at the rows: a batch of members of an archive.
BATCH = 50


# — what a request does —


def start(
    workspace: Any, user: Any, *, corpus: Corpus | None = None, name: str = "", replaces: Document | None = None
) -> Upload:
    """An upload that waits for its files: of a new corpus, of more documents, or of another file in a document's place."""
    place = None
    if replaces is not None:
        place = {"position": replaces.position, "original": replaces.original, "name": replaces.name}
    return Upload.objects.create(
        workspace=workspace, created_by=user, corpus=corpus, name=shortened(name, 200), replaces=place
    )


def put_in(old: list[versions.Piece], new: list[versions.Piece], place: dict[str, Any] | None) -> list[versions.Piece]:
    """New documents at the end, or in place of one; where that has gone meanwhile, at the end too."""
    if place is not None:
        like = [
            at for at, piece in enumerate(old) if (piece.original, piece.name) == (place["original"], place["name"])
        ]
        if like:
            at = place["position"] if place["position"] in like else like[0]
            return [*old[:at], *new, *old[at + 1 :]]
    return [*old, *new]


def clean_name(name: str) -> str:
    """A file's path as sent by a browser, fit to be shown and kept: no control characters, no leading slashes."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    plain = "".join(c if c.isprintable() else "�" for c in "/".join(parts)).strip() or "unnamed"
    return plain if len(plain) <= NAME_MOST else plain[:240] + "…" + plain[-(NAME_MOST - 241) :]


def announce(upload: Upload, files: Sequence[tuple[str, int]]) -> list[UploadFile | None]:
    """A row for each file that will be sent; None for one that is here already.

    Names and sizes tell: whoever comes back with the same files goes on where the upload was broken off.
    """
    resumed = upload.files.filter(state=State.UPLOADING).exists()
    waiting, here = dict[tuple[str, int], UploadFile](), set[tuple[str, int]]()
    if resumed:
        for known in upload.files.filter(archive=None):
            if known.state == State.UPLOADING:
                waiting[known.name, known.size] = known
            elif known.state != State.FAILED:
                here.add((known.name, known.size))
    wanted = [(clean_name(name), size) for name, size in files]
    new = [file for file in wanted if file not in waiting and file not in here]
    _room(upload, len(new), sum(size for _, size in new))
    at = upload.files.count()
    rows: list[UploadFile | None] = []
    made: list[UploadFile] = []
    for file in wanted:
        row = None if file in here else waiting.get(file)
        if row is None and file not in here:
            row = UploadFile(upload=upload, position=at + len(made), name=file[0], size=file[1], state=State.UPLOADING)
            made.append(row)
        rows.append(row)
    UploadFile.objects.bulk_create(made, batch_size=500)
    if upload.closed_at:
        Upload.objects.filter(pk=upload.pk).update(closed_at=None, finished_at=None, reason="")
    return rows


def receive(upload: Upload, name: str, file: Any, row: UploadFile | None = None) -> UploadFile:
    """Keep a file's bytes and put it in the queue. What cannot be taken is said in its row, and holds up no other."""
    if row is None:
        row = UploadFile(upload=upload, position=upload.files.count(), name=clean_name(name), size=0)
    try:
        sha, size = blobs.put_file(file)
        row.blob, row.size, row.received, row.state = sha, size, size, State.QUEUED
    except OSError as error:
        row.state, row.reason, row.may_retry = State.FAILED, trouble(error), False
        row.settled_at = timezone.now()
    row.save()
    return row


def arrived(row: UploadFile, sha: str, size: int) -> None:
    """All bytes of an announced file are here, as a blob."""
    won = UploadFile.objects.filter(pk=row.pk, state=State.UPLOADING)
    if not won.update(blob=sha, size=size, received=size, state=State.QUEUED):
        loose.let_go([sha])  # it was given up meanwhile


def lose(row: UploadFile, reason: str) -> None:
    """The browser gives a file up: it vanished, or its upload was cancelled."""
    UploadFile.objects.filter(pk=row.pk, state=State.UPLOADING).update(
        state=State.FAILED, reason=shortened(reason, 300), settled_at=timezone.now()
    )


def close(upload: Upload) -> None:
    """No more files will come. Where packing has failed, this is the way to try it again."""
    Upload.objects.filter(pk=upload.pk, closed_at=None).update(closed_at=timezone.now())
    if unpacked(upload):
        Upload.objects.filter(pk=upload.pk).exclude(finished_at=None).update(finished_at=None, reason="")


def unpacked(upload: Upload) -> bool:
    """Files are ready, and stand in no version yet."""
    return upload.files.filter(state=State.READY).exclude(text="").exists()


def cancel(upload: Upload) -> None:
    """Take no more of it: what is not settled is skipped, what is ready stays."""
    now = timezone.now()
    rows = upload.files.filter(state__in=[State.UPLOADING, State.QUEUED])
    blobs_of = list(rows.values_list("blob", flat=True))
    rows.update(state=State.SKIPPED, reason="Cancelled before it was taken in.", blob="", settled_at=now)
    loose.let_go(blobs_of)
    close(upload)


def retry(row: UploadFile) -> bool:
    """Queue a failed file again, if its bytes are kept and another try makes sense."""
    won = UploadFile.objects.filter(pk=row.pk, state=State.FAILED, may_retry=True).exclude(blob="")
    if not won.update(state=State.QUEUED, reason="", settled_at=None):
        return False
    Upload.objects.filter(pk=row.upload_id).update(finished_at=None, closed_at=timezone.now(), reason="")
    return True


def _room(upload: Upload, files: int, size: int) -> None:
    limits = UploadLimits.of(upload.workspace)
    have = upload.files.aggregate(bytes=Sum("size"))["bytes"] or 0
    if upload.files.count() + files > limits.files:
        raise Refused(
            f"An upload takes {limits.files:,} files; this one would have {upload.files.count() + files:,}. "
            + limits.who("files")
        )
    if have + size > limits.bytes:
        raise Refused(
            f"An upload takes {megabytes(limits.bytes)}; this one would have {megabytes(have + size)}. "
            + limits.who("bytes")
        )


def trouble(error: OSError) -> str:
    """An operating system's error as a sentence."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "The server’s disk is full. Nothing of this file was kept; try again once there is room."
    return "The server could not keep this file. Try again; if it fails again, tell whoever runs this server."


# — what a worker does —


class LeaseLost(Exception):
    """Another worker has taken the upload: stop writing."""


class Lease:
    """The right to work on an upload, renewed by a thread while it is held. Falsy if somebody else holds it."""

    model: Any = Upload

    def __init__(self, upload_id: int) -> None:
        self.upload_id, self.token = upload_id, secrets.token_hex(16)
        self._end = threading.Event()
        self.held = False

    def __enter__(self) -> Self:
        now = timezone.now()
        free = Q(lease_expires_at=None) | Q(lease_expires_at__lt=now)
        unfinished = self.model.objects.filter(free, pk=self.upload_id, finished_at=None)
        self.held = bool(
            unfinished.update(lease_token=self.token, lease_expires_at=now + datetime.timedelta(seconds=LEASE))
        )
        if self.held:
            threading.Thread(target=self._renew, name=f"lease-upload-{self.upload_id}", daemon=True).start()
        return self

    def _mine(self) -> Any:
        return self.model.objects.filter(pk=self.upload_id, lease_token=self.token)

    def _renew(self) -> None:
        try:
            while not self._end.wait(LEASE / 3):
                try:
                    until = timezone.now() + datetime.timedelta(seconds=LEASE)
                    if not self._mine().update(lease_expires_at=until):
                        self.held = False
                        return
                except DatabaseError as error:
                    log.warning("the lease of upload %s was not renewed: %s", self.upload_id, error)
        finally:
            connection.close()

    def check(self) -> None:
        if not self.held:
            raise LeaseLost

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        if self.held:
            self._mine().update(lease_token="", lease_expires_at=None)


def process(upload_id: int) -> None:
    """Take in what is queued of an upload and, once all is settled, make its version. Safe to call any number of times."""
    # Once more after letting go: what arrived while the lease was held woke nobody.
    for _ in range(1000):
        with Lease(upload_id) as lease:
            if not lease.held:
                return
            try:
                Intake(Upload.objects.select_related("corpus", "workspace").get(pk=upload_id), lease).run()
            except LeaseLost:
                log.warning("upload %s went to another worker", upload_id)
                return
        if not waiting().filter(pk=upload_id).exists():
            break
    _index_beside(upload_id)


def _index_beside(upload_id: int) -> None:
    """A worker has the index of a new version ready before somebody searches."""
    if settings.REDIS_URL and (version := Upload.objects.select_related("version").get(pk=upload_id).version):
        search.build_beside(version)


def waiting() -> Any:
    """Uploads on which there is something to do."""
    queued = UploadFile.objects.filter(state__in=[State.QUEUED, State.EXTRACTING]).values("upload_id")
    unsettled = UploadFile.objects.exclude(state__in=SETTLED).values("upload_id")
    return Upload.objects.filter(
        Q(pk__in=queued) | (Q(closed_at__isnull=False) & ~Q(pk__in=unsettled)), finished_at=None
    )


class Intake:
    """One worker's work on one upload."""

    def __init__(self, upload: Upload, lease: Lease) -> None:
        self.upload, self.lease = upload, lease
        self.limits = UploadLimits.of(upload.workspace)
        self.known: dict[str, str] = {}  # sha of original bytes → what it is called
        self.reader = Reader(self.limits)
        ready = upload.files.filter(state=State.READY).exclude(text="")
        self.characters: int = ready.aggregate(all=Sum("document_chars"))["all"] or 0

    def run(self) -> None:
        with self.reader:
            self._run()

    def _run(self) -> None:
        self._undo_half()
        self._learn()
        while row := self.upload.files.filter(state=State.QUEUED, archive=None).order_by("position").first():
            self.lease.check()
            self._take(row)
        self.upload.refresh_from_db(fields=["closed_at"])
        if self.upload.closed_at and not self.upload.files.exclude(state__in=SETTLED).exists():
            self.lease.check()
            try:
                self._finish()
            except (LeaseLost, DatabaseError):
                raise  # whoever claims the upload next tries again
            except Exception as error:
                # Said once and kept for another try, rather than tried for ever while the page says "under way".
                log.exception("upload %s could not be packed", self.upload.pk)
                self._stuck(error)

    def _undo_half(self) -> None:
        """What a worker that died had begun, is begun again; three such ends are blamed on the file."""
        for row in self.upload.files.filter(state=State.EXTRACTING):
            self._forget_members(row)
            if row.attempts >= 3:
                self._settle(row, State.FAILED, "The worker died three times while reading it.", may_retry=True)
            else:
                UploadFile.objects.filter(pk=row.pk).update(state=State.QUEUED)

    def _forget_members(self, row: UploadFile) -> None:
        members = UploadFile.objects.filter(Q(archive=row) | Q(archive__archive=row), upload=self.upload)
        for shas in members.values_list("blob", "text", "marks"):
            loose.let_go(shas)
        for sha in members.values_list("blob", flat=True):
            self.known.pop(sha, None)
        members.delete()

    def _learn(self) -> None:
        latest = self.upload.corpus.latest if self.upload.corpus else None
        if latest:
            for sha, name, position in latest.documents.values_list("original", "name", "position"):
                self.known[sha] = f"{name}, document {position + 1}"
        for sha, name in self.upload.files.filter(state=State.READY).exclude(blob="").values_list("blob", "name"):
            self.known.setdefault(sha, name)

    def _take(self, row: UploadFile) -> None:
        row.attempts += 1
        row.state = State.EXTRACTING
        row.save(update_fields=["attempts", "state"])
        try:
            if format_of(row.name) in ARCHIVE_FORMATS:
                self._open(row)
            else:
                self._read(row)
                row.save()
        except LeaseLost:
            raise
        except Refused as refused:
            self._refuse(row, refused)
            row.save()
        except Exception as error:  # noqa: BLE001 — one bad file never holds up the others
            log.exception("upload %s: %s", self.upload.pk, row.name)
            said = (
                trouble(error)
                if isinstance(error, OSError)
                else "Reading it failed in a way nobody foresaw; it is in the server’s log."
            )
            self._settle(row, State.FAILED, said, may_retry=True)
        self._drop_bytes(row)

    def _read(self, row: UploadFile) -> None:
        """Take the text out of one file; the row is filled, not saved."""
        if before := self.known.get(row.blob):
            row.state, row.reason = State.DUPLICATE, f"Same bytes as {before}. Kept once."
            row.format = format_of(row.name)
        else:
            found = extract(blobs.path(row.blob), row.name, row.blob, reader=self.reader, on_page=self._telling(row))
            self._make_room(row, found)
            self._fill(row, found)
            self.known[row.blob] = row.name
        row.settled_at = timezone.now()

    def _make_room(self, row: UploadFile, found: Extracted) -> None:
        """Count the characters that have come out; what passes the limit is let go of again."""
        if self.characters + found.characters > self.limits.characters:
            loose.let_go({found.text, found.marks} - {row.blob})
            raise Refused(
                f"The texts of an upload may have {self.limits.characters:,} characters; with this one they would have "
                f"{self.characters + found.characters:,}. {self.limits.who('characters')}",
                may_retry=True,
            )
        self.characters += found.characters

    def _telling(self, row: UploadFile) -> Callable[[int, int], None]:
        """Says in the ledger how far a long document is; a member of an archive has no row yet, so its archive's says it."""
        shown = row if row.pk else row.archive
        said = time.monotonic()

        def tell(page: int, of: int) -> None:
            nonlocal said
            if time.monotonic() - said < TELL_SECONDS or shown is None:
                return
            said = time.monotonic()
            self.lease.check()
            words = (
                f"Page {page:,} of {of:,}." if row.pk else f"{PurePosixPath(row.name).name}: page {page:,} of {of:,}."
            )
            UploadFile.objects.filter(pk=shown.pk).update(reason=words)

        return tell

    def _fill(self, row: UploadFile, found: Extracted) -> None:
        row.state, row.reason, row.may_retry = State.READY, " ".join(found.notes), False
        row.text, row.marks, row.title = found.text, found.marks, found.title
        row.format, row.encoding, row.meta = found.format, found.encoding, found.meta
        row.document_chars, row.document_bytes = found.characters, found.bytes

    def _refuse(self, row: UploadFile, refused: Refused) -> None:
        row.state = State.SKIPPED if refused.skip else State.FAILED
        row.reason, row.may_retry = refused.reason, refused.may_retry
        row.format = refused.what or format_of(row.name)
        row.settled_at = timezone.now()

    def _settle(self, row: UploadFile, state: UploadFile.State, reason: str, *, may_retry: bool = False) -> None:
        row.state, row.reason, row.may_retry, row.settled_at = state, reason, may_retry, timezone.now()
        row.save()

    def _drop_bytes(self, row: UploadFile) -> None:
        """Bytes that no document will need, and no retry."""
        if row.state != State.READY and row.blob and not (row.state == State.FAILED and row.may_retry):
            loose.let_go([row.blob])
            row.blob = ""
            row.save(update_fields=["blob"])

    # — archives —

    def _open(self, row: UploadFile) -> None:
        others = self.upload.files.exclude(pk=row.pk).aggregate(bytes=Sum("size"))["bytes"] or 0
        meter = archives.Meter(self.limits, row.size, self.limits.bytes - others)
        batch = _Batch(self)
        try:
            self._members(row, meter, batch, depth=1)
            batch.flush()
        except archives.Bomb:
            batch.rows.clear()
            self._forget_members(row)
            raise
        finally:
            batch.flush()
        members = UploadFile.objects.filter(Q(archive=row) | Q(archive__archive=row)).exclude(
            format__in=ARCHIVE_FORMATS
        )
        ready = members.filter(state=State.READY).count()
        if not members.exists():
            raise Refused("The archive is empty.")
        row.format = format_of(row.name)
        loose.let_go([row.blob])
        row.blob = ""
        self._settle(row, State.READY, f"{ready:,} of {members.count():,} files in it are ready.")

    def _members(self, row: UploadFile, meter: archives.Meter, batch: _Batch, depth: int, prefix: str = "") -> None:
        form = format_of(row.name)
        for entry in archives.entries(blobs.path(row.blob), form, meter):
            self.lease.check()
            name = clean_name(prefix + entry.name)
            member = UploadFile(
                upload=self.upload,
                archive=row,
                position=row.position,
                name=name,
                size=max(0, entry.size),
                state=State.QUEUED,
            )
            try:
                if entry.refused or entry.file is None:
                    raise entry.refused or Refused("It could not be read.")
                kind = format_of(entry.name)
                if not kind:
                    suffix = PurePosixPath(entry.name).suffix.lower()
                    raise Refused(
                        f"Files of type {suffix} are not read."
                        if suffix
                        else "It has no extension that says what it is.",
                        skip=True,
                    )
                if kind in ARCHIVE_FORMATS and depth >= self.limits.depth:
                    raise Refused(
                        f"An archive in {'an archive in ' * (depth - 1)}an archive; {self.limits.depth} "
                        f"level{'s are' if self.limits.depth > 1 else ' is'} opened. {self.limits.who('depth')}"
                    )
                member.blob, member.size = blobs.put_file(entry.file, lazy=True)
                member.received = member.size
                if kind in ARCHIVE_FORMATS:
                    self._inner(member, meter, batch, depth, f"{name}/")
                else:
                    self._read(member)
            except archives.Bomb:
                raise
            except Refused as refused:
                self._refuse(member, refused)
            except Exception as error:
                reason = archives.damaged(error)
                if reason is None:
                    raise
                self._refuse(member, reason)
            if member.blob and member.state != State.READY:
                loose.let_go([member.blob])
                member.blob = ""
            batch.add(member)

    def _inner(self, member: UploadFile, meter: archives.Meter, batch: _Batch, depth: int, prefix: str) -> None:
        """An archive in an archive. Its row must be there before its members'."""
        member.state, member.format = State.EXTRACTING, format_of(member.name)
        member.save()
        self._members(member, meter, batch, depth + 1, prefix)
        loose.let_go([member.blob])
        member.blob, member.state, member.settled_at = "", State.READY, timezone.now()
        member.reason = "Its files follow."

    # — the end —

    def _finish(self) -> None:
        upload = self.upload
        fresh = [row for row in upload.files.filter(state=State.READY) if row.text]
        if not fresh:
            if upload.version_id is None:
                upload.reason = self._why_nothing()
            self._end()
            return
        fresh.sort(key=lambda row: natural(row.name))
        new = [
            versions.Piece(
                row.text, 0, row.document_bytes, row.document_chars, row.title, row.name, row.format, row.encoding,
                row.blob, row.size, row.marks, row.meta,
            )
            for row in fresh
        ]  # fmt: skip
        name = upload.name or self._name_for(fresh)

        def create() -> Corpus:
            return Corpus.objects.create(workspace=upload.workspace, name=name, created_by=upload.created_by)

        version = versions.make(
            upload.corpus or create,
            lambda old: put_in(old, new, upload.replaces),
            upload.created_by,
            also=self._packed(fresh),
        )
        # The texts are in the pack now.
        loose.let_go(row_text for row_text in (piece.source for piece in new) if row_text != version.text)

    def _stuck(self, error: Exception) -> None:
        why = "Putting the documents together failed in a way nobody foresaw; it is in the server’s log."
        if isinstance(error, blobs.BlobMissing):
            why = "The text of the corpus as it was is not in the blob storage any more: nothing can be added to it."
        elif isinstance(error, OSError):
            why = trouble(error).replace("this file", "this upload")
        Upload.objects.filter(pk=self.upload.pk).update(reason=why, finished_at=timezone.now())

    def _packed(self, fresh: Iterable[UploadFile]) -> Any:
        pks = [row.pk for row in fresh]

        def also(version: CorpusVersion) -> None:
            self.lease.check()
            for at in range(0, len(pks), 500):
                UploadFile.objects.filter(pk__in=pks[at : at + 500]).update(text="")
            self.upload.corpus, self.upload.version = version.corpus, version
            self._end()

        return also

    def _end(self) -> None:
        self.upload.finished_at = timezone.now()
        self.upload.save(update_fields=["finished_at", "reason", "corpus", "version"])

    def _why_nothing(self) -> str:
        count = self.upload.files.exclude(format__in=ARCHIVE_FORMATS, state=State.READY).count()
        if not count:
            return "No file came with this upload, so nothing was made."
        if self.upload.files.filter(state=State.DUPLICATE).count() == count:
            return "Every file of it is here already; nothing was changed."
        return "No document came out of this upload, so nothing was made. Each file says why."

    def _name_for(self, rows: Sequence[UploadFile]) -> str:
        """A name for a corpus that was given none: its only document's, its archive's or folder's, or its first one's."""
        if len(rows) == 1:
            return rows[0].title[:200]
        tops = {PurePosixPath(row.name).parts[0] for row in rows if len(PurePosixPath(row.name).parts) > 1}
        if len(tops) == 1 and all("/" in row.name for row in rows):
            return tops.pop()[:200]
        packed = list(
            self.upload.files.filter(format__in=ARCHIVE_FORMATS, archive=None).values_list("name", flat=True)[:2]
        )
        if len(packed) == 1 and all(row.archive_id for row in rows):
            return PurePosixPath(packed[0]).name.split(".")[0][:200]
        return f"{rows[0].title[:150]} and {len(rows) - 1} more"


class _Batch:
    """Members of an archive, written to the ledger some at a time."""

    def __init__(self, intake: Intake) -> None:
        self.intake, self.rows = intake, list[UploadFile]()

    def add(self, row: UploadFile) -> None:
        if row.pk:  # an inner archive's row stands already
            row.save()
            return
        self.rows.append(row)
        if len(self.rows) >= BATCH:
            self.flush()

    def flush(self) -> None:
        rows, self.rows = self.rows, []
        UploadFile.objects.bulk_create(rows)


def natural(name: str) -> tuple[Any, ...]:
    """A key that sorts names as people do: episode 2 before episode 10."""
    parts = re.split(r"(\d+)", name.casefold())
    return tuple((0, int(part), "") if part.isdecimal() and len(part) < 20 else (1, 0, part) for part in parts)


# — now and then —


def sweep() -> int:
    """What a worker does every some seconds: uploads whose wake-up was lost, forgotten ones, loose blobs. Never long."""
    old = timezone.now() - datetime.timedelta(seconds=FORGOTTEN)
    for upload in Upload.objects.filter(closed_at=None, finished_at=None, created_at__lt=old)[:20]:
        upload.files.filter(state=State.UPLOADING).update(
            state=State.FAILED,
            reason="It never arrived: the upload was left alone for a day.",
            settled_at=timezone.now(),
        )
        close(upload)
    now = timezone.now()
    for upload in _abandoned(now)[:20]:
        close(upload)
    free = Q(lease_expires_at=None) | Q(lease_expires_at__lt=now)
    found = list(waiting().filter(free).values_list("pk", flat=True)[:20])
    for pk in found:
        _in_background(pk)
    loose.sweep()
    tus.sweep()
    blobs.sweep_workshop()
    return len(found)


def _abandoned(now: datetime.datetime) -> Any:
    """Open uploads of which all that was announced is settled: the tab was closed before it could say that this is all."""
    unsettled = UploadFile.objects.exclude(state__in=SETTLED).values("upload_id")
    fresh = UploadFile.objects.filter(settled_at__gt=now - datetime.timedelta(seconds=LEASE)).values("upload_id")
    some = UploadFile.objects.values("upload_id")
    return Upload.objects.filter(closed_at=None, finished_at=None, pk__in=some).exclude(
        Q(pk__in=unsettled) | Q(pk__in=fresh)
    )


_busy: set[int] = set()
_lock = threading.Lock()


def _in_background(upload_id: int) -> None:
    """One thread an upload: whoever sweeps has other things to do."""
    with _lock:
        if upload_id in _busy:
            return
        _busy.add(upload_id)

    def work() -> None:
        try:
            process(upload_id)
        except Exception:
            log.exception("upload %s", upload_id)
        finally:
            with _lock:
                _busy.discard(upload_id)
            connection.close()

    threading.Thread(target=work, name=f"upload-{upload_id}", daemon=True).start()


def wake(upload: Upload) -> None:
    """Have the upload worked on: by a worker, or here and now where there is no broker."""
    if not settings.REDIS_URL:
        process(upload.pk)
        return
    transaction.on_commit(lambda: _send(upload.pk))


def _send(upload_id: int) -> None:
    try:
        # By name: tasks.py imports this package, not the other way round.
        current_app.send_task("analyses.process_upload", [upload_id], retry=False)
    except Exception as error:  # noqa: BLE001 — kombu's own errors have no common base; the sweep finds the upload
        log.warning("upload %s: the wake-up was not sent (%s); the sweep will find it", upload_id, error)
