"""What a page shows of an upload: its figures, and its files in pages, those that need somebody first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.core.paginator import Page, Paginator
from django.db.models import Case, Count, IntegerField, Sum, Value, When
from django.urls import reverse

from analyses.ingest.uploads import ARCHIVE_FORMATS, unpacked
from analyses.models import Upload, UploadFile

State = UploadFile.State
PAGE = 50
WORDS = {State.UPLOADING: "not here yet", State.QUEUED: "queued", State.EXTRACTING: "extracting", State.READY: "ready"}
TONES = {State.EXTRACTING: "running", State.READY: "done", State.UPLOADING: "queued", State.SKIPPED: "stopped"}
ICONS = TONES | {State.FAILED: "failed", State.DUPLICATE: "duplicate", State.QUEUED: "queued"}
# A filter's name → the states it shows.
FILTERS = {
    "failed": (State.FAILED,),
    "duplicate": (State.DUPLICATE,),
    "skipped": (State.SKIPPED,),
    "working": (State.UPLOADING, State.QUEUED, State.EXTRACTING),
    "ready": (State.READY,),
}
TITLES = {"failed": "Failed", "duplicate": "Duplicate", "skipped": "Skipped", "working": "Under way", "ready": "Ready"}


@dataclass(frozen=True)
class Row:
    file: UploadFile

    @property
    def tone(self) -> str:
        return TONES.get(State(self.file.state), self.file.state)

    @property
    def icon(self) -> str:
        return ICONS[State(self.file.state)]

    @property
    def word(self) -> str:
        return WORDS.get(State(self.file.state), self.file.state)

    @property
    def kind(self) -> str:
        """Format and encoding: "vtt, utf-8"."""
        return ", ".join(part for part in (self.file.format, self.file.encoding) if part)


class Ledger:
    """One upload's ledger as a page stands on it: chosen filter, page of rows, counts."""

    def __init__(self, upload: Upload, *, state: str = "", page: int | str = 1, size: int = PAGE) -> None:
        self.upload = upload
        self.state = state if state in FILTERS else ""
        self.counts = self._counted()
        rows = self._files()
        if self.state:
            rows = rows.filter(state__in=FILTERS[self.state])
        urgent = Case(
            When(state=State.FAILED, then=Value(0)),
            When(state=State.EXTRACTING, then=Value(1)),
            When(state__in=[State.UPLOADING, State.QUEUED], then=Value(2)),
            When(state=State.READY, then=Value(4)),
            default=Value(3),
            output_field=IntegerField(),
        )
        rows = rows.order_by(urgent, "position", "pk").defer("meta")
        self.page: Page[Any] = Paginator(rows, size).get_page(page)
        self.rows = [Row(file) for file in self.page.object_list]

    def _files(self) -> Any:
        """The files that are documents or could have been: an archive that was opened is told by its members."""
        return self.upload.files.exclude(format__in=ARCHIVE_FORMATS, state=State.READY)

    def _counted(self) -> dict[str, int]:
        by_state = dict(self._files().order_by().values_list("state").annotate(Count("pk")))
        found = {name: sum(by_state.get(state, 0) for state in states) for name, states in FILTERS.items()}
        return found | {"all": sum(by_state.values())}

    @property
    def finished(self) -> bool:
        return self.upload.finished_at is not None

    @property
    def waits_for_files(self) -> bool:
        """Announced files have not come: whoever has them must send them."""
        return not self.finished and self.counts["working"] > 0 and self._files().filter(state=State.UPLOADING).exists()

    @property
    def may_pack_again(self) -> bool:
        return self.finished and bool(self.upload.reason) and unpacked(self.upload)

    @property
    def status(self) -> tuple[str, str]:
        """Tone and words of the whole."""
        count = self.counts
        if not self.finished:
            return "running", f"{count['ready']:,} of {count['all']:,} files ready"
        if not count["ready"]:
            return "failed", "nothing was ready"
        if self.upload.reason:
            return "failed", "not made"
        if count["failed"]:
            return "limit", f"{count['ready']:,} ready, {count['failed']:,} failed"
        return "done", f"{count['ready']:,} of {count['all']:,} files ready"

    @property
    def icon(self) -> str:
        return {"limit": "failed"}.get(self.status[0], self.status[0])

    @property
    def bytes(self) -> tuple[int, int]:
        """Bytes that are here, and bytes in all. Members of archives came with their archive."""
        found = self.upload.files.filter(archive=None).aggregate(here=Sum("received"), all=Sum("size"))
        return found["here"] or 0, found["all"] or 0

    @property
    def chips(self) -> list[dict[str, Any]]:
        entries = [("", "All", self.counts["all"])]
        entries += [(name, TITLES[name], self.counts[name]) for name in FILTERS if self.counts[name]]
        return [
            {"name": name, "title": title, "count": count, "current": name == self.state, "url": self.url(state=name)}
            for name, title, count in entries
        ]

    def url(self, *, state: str | None = None, page: int = 1) -> str:
        state = self.state if state is None else state
        asked = {key: value for key, value in (("state", state), ("page", page if page > 1 else "")) if value}
        address = reverse("upload-detail", args=[self.upload.workspace.slug, self.upload.key])
        return f"{address}?{urlencode(asked)}" if asked else address

    @property
    def poll(self) -> str:
        address = reverse("upload-ledger", args=[self.upload.workspace.slug, self.upload.key])
        return f"{address}?{urlencode({'state': self.state, 'page': self.page.number})}"

    @property
    def next_url(self) -> str:
        return self.url(page=self.page.next_page_number()) if self.page.has_next() else ""

    @property
    def previous_url(self) -> str:
        return self.url(page=self.page.previous_page_number()) if self.page.has_previous() else ""
