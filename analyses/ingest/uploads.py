"""An upload from its first file to the corpus version it makes: who works on it, what became of each file, and why.

Every step is a row, so a closed tab, a killed worker or a lost message changes nothing: whoever claims the upload next
goes on where it stands (design.md, decision 3, for uploads).
"""

from __future__ import annotations

import datetime
import errno
import logging
import re
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent import futures
from pathlib import PurePosixPath
from typing import Any

from celery import current_app
from django.conf import settings
from django.db import DatabaseError, transaction
from django.db.models import Count, Max, Q, Sum
from django.db.models.functions import Now
from django.utils import timezone

from analyses import blobs, search, tus
from analyses.ingest import archives, loose, versions
from analyses.ingest.formats import ARCHIVES, EXTRACTORS, Extracted, extract, format_of
from analyses.ingest.jailed import JailBroke, Reader
from analyses.ingest.limits import Refused, UploadLimits, megabytes
from analyses.ingest.meta import shortened
from analyses.ingest.reading import SEATS, Reading, Stopped
from analyses.jobs import Hold, Jobs, LeaseLost
from analyses.leases import Still
from analyses.models import SETTLED, Corpus, CorpusVersion, Document, Upload, UploadFile

log = logging.getLogger(__name__)

State = UploadFile.State
LOOK_SECONDS = 0.25  # between two looks at what was cancelled, while files are read
TELL_SECONDS = 1.0  # between two words about how far a document is
NAME_MOST = 500
FORGOTTEN = 24 * 3600  # seconds after which an upload that nobody goes on with is closed
ARCHIVE_FORMATS = frozenset(ARCHIVES.values())
# What may come between two looks at the rows: a batch of members of an archive.
BATCH = 50
CANCELLED = "Cancelled while it was being read."
# The columns of a row that reading its file fills.
FILLED = (
    "state", "reason", "may_retry", "blob", "text", "marks", "title", "format", "encoding", "meta", "document_chars",
    "document_bytes", "settled_at",
)  # fmt: skip


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
    """Take no more of it: what is not settled is skipped, what is ready stays. Whoever reads a file of it stops at once."""
    now = timezone.now()
    rows = upload.files.filter(state__in=[State.UPLOADING, State.QUEUED, State.EXTRACTING])
    blobs_of = list(rows.values_list("blob", flat=True))
    skipped = {"state": State.SKIPPED, "blob": "", "settled_at": now}
    rows.filter(state=State.EXTRACTING).update(reason=CANCELLED, **skipped)
    rows.update(reason="Cancelled before it was taken in.", **skipped)
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


def process(upload_id: int) -> None:
    """Take in what is queued of an upload and, once all is settled, make its version. Safe to call any number of times."""
    # Once more after letting go: what arrived while the lease was held woke nobody.
    for _ in range(1000):
        with Hold(Upload, upload_id) as lease:
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
    if settings.WORKERS and (version := Upload.objects.select_related("version").get(pk=upload_id).version):
        search.build_beside(version)


def waiting() -> Any:
    """Uploads on which there is something to do."""
    queued = UploadFile.objects.filter(state__in=[State.QUEUED, State.EXTRACTING]).values("upload_id")
    unsettled = UploadFile.objects.exclude(state__in=SETTLED).values("upload_id")
    return Upload.objects.filter(
        Q(pk__in=queued) | (Q(closed_at__isnull=False) & ~Q(pk__in=unsettled)), finished_at=None
    )


class Intake:
    """One worker's work on one upload. All rows are written by the thread that runs it."""

    def __init__(self, upload: Upload, lease: Hold) -> None:
        self.upload, self.lease = upload, lease
        self.limits = UploadLimits.of(upload.workspace)
        self.known: dict[str, str] = {}  # sha of original bytes → what it is called
        self.reader = Reader(self.limits)
        self.readings: list[Reading] = []  # under way on threads
        self.begun: set[int] = set()  # files that their rows say are being read
        self.cancelled: set[int] = set()  # of those: they are not to be read any more
        self._looked = time.monotonic()
        ready = upload.files.filter(state=State.READY).exclude(text="")
        self.characters: int = ready.aggregate(all=Sum("document_chars"))["all"] or 0

    def run(self) -> None:
        with self.reader:
            try:
                self._run()
            finally:
                self._give_up(self.readings)

    def _run(self) -> None:
        self._undo_half()
        self._learn()
        while row := self._next():
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

    def _next(self) -> UploadFile | None:
        """The next file to begin with; None once there is none, and all that were begun have ended."""
        while True:
            self._look()
            row = self.upload.files.filter(state=State.QUEUED, archive=None).order_by("position").first()
            if row is not None or not self.readings:
                return row
            self._wait()

    def _undo_half(self) -> None:
        """What a worker that died had begun, is begun again; three such ends are blamed on the file."""
        with self.lease.writing():
            for row in self.upload.files.filter(state=State.EXTRACTING, archive=None):
                self._forget_members(row)
                if row.attempts >= 3:
                    row.state, row.may_retry, row.settled_at = State.FAILED, True, timezone.now()
                    row.reason = "The worker died three times while reading it."
                else:
                    row.state, row.reason = State.QUEUED, ""
                row.save()
        self._skip_inner()

    def _skip_inner(self) -> None:
        """Archives in an archive that was cancelled, or its worker gone, just before their rows were written."""
        with self.lease.writing():
            rows = self.upload.files.filter(state=State.EXTRACTING).exclude(archive=None)
            rows = rows.exclude(archive__state=State.EXTRACTING)
            loose.let_go(list(rows.values_list("blob", flat=True)))
            while rows.update(state=State.SKIPPED, reason=CANCELLED, blob="", settled_at=timezone.now()):
                pass  # and those in them

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

    # — looking around —

    def _look(self) -> None:
        """Called often: keep the lease, see what was cancelled, say how far the others are."""
        self.lease.check()
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        self.lease.keep()
        going_on = UploadFile.objects.filter(pk__in=self.begun, state=State.EXTRACTING).values_list("pk", flat=True)
        self.cancelled |= self.begun - set(going_on)
        for reading in self.readings:
            if reading.top in self.cancelled:
                reading.stop()
            else:
                self._tell(reading, now)

    def _look_for(self, top: int) -> None:
        """The same for what is read on this thread."""
        self._look()
        if top in self.cancelled:
            raise Stopped

    def _tell(self, reading: Reading, now: float) -> None:
        """Say in the ledger how far a long document is; a member of an archive has no row yet, so its archive's says it."""
        row, page = reading.row, reading.page
        shown = row if row.pk else row.archive
        if page is None or shown is None or now - reading.told < TELL_SECONDS:
            return
        reading.told = now
        where = f"age {page[0]:,} of {page[1]:,}."
        words = f"P{where}" if row.pk else f"{PurePosixPath(row.name).name}: p{where}"
        with self.lease.writing():
            UploadFile.objects.filter(pk=shown.pk, state=State.EXTRACTING).update(reason=words)

    # — files —

    def _take(self, row: UploadFile) -> None:
        suspect = row.attempts > 0  # a worker died while it was read: nothing else is read beside it
        if suspect:
            self._await(self.readings)
        if not self._begin(row):
            return
        if format_of(row.name) in ARCHIVE_FORMATS:
            try:
                self._open(row)
            except (LeaseLost, DatabaseError):
                raise
            except Exception as error:  # noqa: BLE001 — one bad file never holds up the others
                self._fail(row, error)
            self._settle(row)
        else:
            self._read(row, row.pk, self._settle)
        if suspect:
            self._await(self.readings)

    def _begin(self, row: UploadFile) -> bool:
        """Say that it is being read; False where it was cancelled meanwhile."""
        row.attempts += 1
        row.state = State.EXTRACTING
        with self.lease.writing():
            queued = UploadFile.objects.filter(pk=row.pk, state=State.QUEUED)
            if not queued.update(attempts=row.attempts, state=row.state):
                return False
        self.cancelled.discard(row.pk)
        self.begun.add(row.pk)
        return True

    def _read(self, row: UploadFile, top: int, settle: Callable[[UploadFile], None]) -> None:
        """Have the text taken out of one file: at once, or beside others where that is another process's work."""
        while row.blob in {reading.row.blob for reading in self.readings}:
            self._wait()  # it may be the same as that one
        if before := self.known.get(row.blob):
            row.state, row.reason = State.DUPLICATE, f"Same bytes as {before}. Kept once."
            row.format, row.settled_at = format_of(row.name), timezone.now()
            settle(row)
            return
        reading = Reading(row, top, settle)
        if format_of(row.name) in EXTRACTORS:
            reading.run(lambda: self._extracted(row, look=lambda: self._look_for(top)))
            self._ended(reading)
            return
        while len(self.readings) >= SEATS:
            self._wait()

        def look() -> None:
            reading.check()
            self.lease.check()

        self.readings.append(reading)
        reading.start(lambda: self._extracted(row, look=look, on_page=reading.heard))

    def _extracted(self, row: UploadFile, **how: Any) -> Extracted:
        """On any thread: touches no rows."""
        source = blobs.path(row.blob)
        try:
            return extract(source, row.name, row.blob, reader=self.reader, **how)
        except JailBroke:  # by this file or by one beside it: once more, in a jail of its own
            with Reader(self.limits) as own:
                return extract(source, row.name, row.blob, reader=own, **how)

    def _wait(self) -> None:
        """Until one of the readings has ended, but not for long: there is more to look at."""
        ended = futures.wait((reading.future for reading in self.readings), LOOK_SECONDS, futures.FIRST_COMPLETED).done
        self._look()
        for reading in [reading for reading in self.readings if reading.future in ended]:
            self.readings.remove(reading)
            self._ended(reading)

    def _await(self, readings: Sequence[Reading]) -> None:
        while any(reading in self.readings for reading in readings):
            self._wait()

    def _ended(self, reading: Reading) -> None:
        """A text is there, or a reason why not: fill the row and have it settled."""
        row = reading.row
        try:
            found = reading.future.result()
            if reading.top in self.cancelled:
                self._let_go_of(found, row)
                raise Stopped
            self._make_room(row, found)
            self._fill(row, found)
            self.known[row.blob] = row.name
        except (LeaseLost, DatabaseError):
            raise
        except Exception as error:  # noqa: BLE001 — one bad file never holds up the others
            self._fail(row, error)
        row.settled_at = timezone.now()
        reading.settle(row)

    def _give_up(self, readings: Sequence[Reading]) -> None:
        """End these readings; what has come out of them is let go of."""
        readings = list(readings)
        for reading in readings:
            reading.stop()
        for reading in readings:
            if reading.future.exception() is None:
                self._let_go_of(reading.future.result(), reading.row)
            if not reading.row.pk:
                loose.let_go([reading.row.blob])
        self.readings = [reading for reading in self.readings if reading not in readings]

    def _let_go_of(self, found: Extracted, row: UploadFile) -> None:
        loose.let_go({found.text, found.marks} - {row.blob})

    def _make_room(self, row: UploadFile, found: Extracted) -> None:
        """Count the characters that have come out; what passes the limit is let go of again."""
        if self.characters + found.characters > self.limits.characters:
            self._let_go_of(found, row)
            raise Refused(
                f"The texts of an upload may have {self.limits.characters:,} characters; with this one they would have "
                f"{self.characters + found.characters:,}. {self.limits.who('characters')}",
                may_retry=True,
            )
        self.characters += found.characters

    def _fill(self, row: UploadFile, found: Extracted) -> None:
        row.state, row.reason, row.may_retry = State.READY, " ".join(found.notes), False
        row.text, row.marks, row.title = found.text, found.marks, found.title
        row.format, row.encoding, row.meta = found.format, found.encoding, found.meta
        row.document_chars, row.document_bytes = found.characters, found.bytes

    def _fail(self, row: UploadFile, error: Exception) -> None:
        """Say in the row why it is not taken."""
        row.state, row.settled_at = State.FAILED, timezone.now()
        if isinstance(error, Stopped):
            row.state, row.reason, row.may_retry = State.SKIPPED, CANCELLED, False
        elif isinstance(error, Refused):
            row.state = State.SKIPPED if error.skip else State.FAILED
            row.reason, row.may_retry = error.reason, error.may_retry
            row.format = error.what or format_of(row.name)
        else:
            log.error("upload %s: %s", self.upload.pk, row.name, exc_info=error)
            row.reason, row.may_retry = "Reading it failed in a way nobody foresaw; it is in the server’s log.", True
            if isinstance(error, OSError):
                row.reason = trouble(error)

    def _settle(self, row: UploadFile) -> None:
        """Write what became of a file, unless it was cancelled meanwhile; let go of bytes that nothing needs any more."""
        unneeded = set[str]()
        opened = row.state == State.READY and row.format in ARCHIVE_FORMATS
        if opened or not (row.state == State.READY or row.state == State.FAILED and row.may_retry):
            unneeded, row.blob = {row.blob}, ""
        written = {name: getattr(row, name) for name in FILLED}
        try:
            with self.lease.writing():
                begun = UploadFile.objects.filter(pk=row.pk, state=State.EXTRACTING)
                if not begun.update(**written):
                    unneeded |= {row.text, row.marks}
        except LeaseLost:
            loose.let_go({row.text, row.marks})
            raise
        self.begun.discard(row.pk)
        loose.let_go(unneeded)

    # — archives —

    def _open(self, row: UploadFile) -> None:
        others = self.upload.files.exclude(pk=row.pk).aggregate(bytes=Sum("size"))["bytes"] or 0
        meter = archives.Meter(self.limits, row.size, self.limits.bytes - others, look=lambda: self._look_for(row.pk))
        batch = _Batch(self, row.pk)
        try:
            try:
                self._members(row, meter, batch, depth=1)
            except (archives.Bomb, Stopped, LeaseLost):
                self._give_up(batch.readings())
                raise
            finally:
                self._await(batch.readings())
                batch.flush()
        except archives.Bomb:
            with self.lease.writing():
                self._forget_members(row)
            raise
        except Stopped:
            self._skip_inner()
            raise
        finally:
            self._give_up(batch.readings())
            batch.drop()
        members = UploadFile.objects.filter(Q(archive=row) | Q(archive__archive=row)).exclude(
            format__in=ARCHIVE_FORMATS
        )
        ready = members.filter(state=State.READY).count()
        if not members.exists():
            raise Refused("The archive is empty.")
        row.format, row.state = format_of(row.name), State.READY
        row.reason, row.settled_at = f"{ready:,} of {members.count():,} files in it are ready.", timezone.now()

    def _members(self, row: UploadFile, meter: archives.Meter, batch: _Batch, depth: int, prefix: str = "") -> None:
        form = format_of(row.name)
        for entry in archives.entries(blobs.path(row.blob), form, meter):
            meter.look()
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
                if kind not in ARCHIVE_FORMATS:
                    self._read(member, batch.top, batch.add)
                    continue
                self._inner(member, meter, batch, depth, f"{name}/")
            except (archives.Bomb, LeaseLost, Stopped, DatabaseError):
                loose.let_go([member.blob])
                raise
            except Refused as refused:
                self._fail(member, refused)
            except Exception as error:
                reason = archives.damaged(error)
                if reason is None:
                    loose.let_go([member.blob])
                    raise
                self._fail(member, reason)
            batch.add(member)

    def _inner(self, member: UploadFile, meter: archives.Meter, batch: _Batch, depth: int, prefix: str) -> None:
        """An archive in an archive. Its row must be there before its members'."""
        member.state, member.format = State.EXTRACTING, format_of(member.name)
        with self.lease.writing():
            member.save()
        self._members(member, meter, batch, depth + 1, prefix)
        member.state, member.settled_at, member.reason = State.READY, timezone.now(), "Its files follow."

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
        with self.lease.writing():
            Upload.objects.filter(pk=self.upload.pk).update(reason=why, finished_at=timezone.now())

    def _packed(self, fresh: Iterable[UploadFile]) -> Any:
        pks = [row.pk for row in fresh]

        def also(version: CorpusVersion) -> None:
            self.lease.assure()
            for at in range(0, len(pks), 500):
                UploadFile.objects.filter(pk__in=pks[at : at + 500]).update(text="")
            self.upload.corpus, self.upload.version = version.corpus, version
            self._end()

        return also

    def _end(self) -> None:
        self.upload.finished_at = timezone.now()
        with self.lease.writing():
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

    def __init__(self, intake: Intake, top: int) -> None:
        self.intake, self.top, self.rows = intake, top, list[UploadFile]()

    def readings(self) -> list[Reading]:
        """Those of its members that are being read."""
        return [reading for reading in self.intake.readings if reading.top == self.top]

    def add(self, row: UploadFile) -> None:
        row.may_retry = False  # what came in an archive comes again with it alone
        if row.state == State.SKIPPED and row.reason == CANCELLED:
            loose.let_go([row.blob])
            return  # as what was not yet unpacked
        unneeded = row.blob if row.state != State.READY or row.format in ARCHIVE_FORMATS else ""
        if unneeded:
            loose.let_go([unneeded])
            row.blob = ""
        if row.pk:  # an inner archive's row stands already
            with self.intake.lease.writing():
                begun = UploadFile.objects.filter(pk=row.pk, state=State.EXTRACTING)
                begun.update(**{name: getattr(row, name) for name in FILLED})
            return
        self.rows.append(row)
        if len(self.rows) >= BATCH:
            self.flush()

    def flush(self) -> None:
        if self.rows:
            with self.intake.lease.writing():
                UploadFile.objects.bulk_create(self.rows)
            self.rows = []

    def drop(self) -> None:
        """What was not written is let go of."""
        loose.let_go({sha for row in self.rows for sha in (row.blob, row.text, row.marks)})
        self.rows = []


def natural(name: str) -> tuple[Any, ...]:
    """A key that sorts names as people do: episode 2 before episode 10."""
    parts = re.split(r"(\d+)", name.casefold())
    return tuple((0, int(part), "") if part.isdecimal() and len(part) < 20 else (1, 0, part) for part in parts)


# — now and then —


def sweep() -> int:
    """What a worker does every some seconds: uploads whose wake-up was lost, forgotten ones, loose blobs. Never long."""
    old = Now() - datetime.timedelta(seconds=FORGOTTEN)
    for upload in Upload.objects.filter(closed_at=None, finished_at=None, created_at__lt=old)[:20]:
        upload.files.filter(state=State.UPLOADING).update(
            state=State.FAILED,
            reason="It never arrived: the upload was left alone for a day.",
            settled_at=timezone.now(),
        )
        close(upload)
    for upload in _abandoned():
        close(upload)
    found = JOBS.sweep()
    loose.sweep()
    tus.sweep()
    blobs.sweep_workshop()
    return found


_resting = Still()


def _abandoned() -> list[Upload]:
    """Open uploads of which all that was announced is settled: the tab was closed before it could say that this is all."""
    unsettled = UploadFile.objects.exclude(state__in=SETTLED).values("upload_id")
    rows = Upload.objects.filter(closed_at=None, finished_at=None).exclude(pk__in=unsettled)
    rows = rows.annotate(count=Count("files"), last=Max("files__settled_at")).filter(count__gt=0)
    found = {(upload.pk, upload.count, upload.last): upload for upload in rows[:200]}
    resting = _resting.seconds(found)
    return [upload for stand, upload in found.items() if resting[stand] >= settings.LEASE_SECONDS]


JOBS = Jobs(Upload, waiting, process)


def wake(upload: Upload) -> None:
    """Have the upload worked on: by a worker, or here and now where there is no broker."""
    if not settings.WORKERS:
        process(upload.pk)
        return
    transaction.on_commit(lambda: _send(upload.pk))


def _send(upload_id: int) -> None:
    try:
        # By name: tasks.py imports this package, not the other way round.
        current_app.send_task("analyses.process_upload", [upload_id], retry=False)
    except Exception as error:  # noqa: BLE001 — kombu's own errors have no common base; the sweep finds the upload
        log.warning("upload %s: the wake-up was not sent (%s); the sweep will find it", upload_id, error)
