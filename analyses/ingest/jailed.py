"""Files whose readers are large and whose makers may be hostile (PDF, Word, EPUB, RTF, mail, HTML): read in a jail, by pipe.

Nothing that comes out is believed: text is counted and measured here, marks are our own counts, reasons are of our list.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from django.conf import settings

from analyses import blobs
from analyses.ingest import meta
from analyses.ingest.limits import Refused, UploadLimits, megabytes
from sandbox.errors import SandboxError, SandboxUnavailable
from sandbox.extraction import Extraction, ExtractLimits, Unreadable
from sandbox.memory import Memory

log = logging.getLogger(__name__)

FILE_MOST = 256 << 20  # bytes of a file: it is in memory while it is read
CHAPTERS_MOST = 1_000
HEAD = 20_000  # characters looked at for a heading
OnPage = Callable[[int, int], None]
WHY = {
    "encrypted": "Encrypted: it needs a password. Save it without one and add it again.",
    "no_pdf": "It is no PDF, although its name says so.",
    "damaged_pdf": "The PDF is damaged or cut short: it cannot be opened.",
    "pictures": "No text in it: its pages are pictures. Run text recognition (OCR) over it and add it again.",
    "no_docx": "It is no Word document (docx), although its name says so.",
    "old_office": "It is an old Office document under a new name: save it as docx and add it again.",
    "no_epub": "It is no EPUB book, although its name says so, or its table of contents is missing.",
    "no_rtf": "It is no RTF document, although its name says so.",
    "no_mail": "It is no mail: it has no headers such as From and Subject.",
    "blank": "It holds no text, only blank space.",
    "wordless": "It holds no text: a page without words, or one that a script would have to write.",
    "bomb": "It unpacks to far more than such a document needs: refused as a zip bomb.",
    "entities": "Its XML defines entities of its own, as XML bombs do: refused.",
    "deep": "It is nested deeper than any document needs to be: refused.",
    "memory": "Reading it took more memory than a file may take: it is too large, or built to be hard to read.",
    "size": "Far more text came out of it than its size explains: refused.",
    "damaged": "It is damaged: it could not be read to its end.",
    "crash": "It crashed the program that read it: it is damaged, or built to do harm.",
}


class JailBroke(Refused):
    """The jail ended under the file: it may have been another one's doing."""

    def __init__(self) -> None:
        super().__init__("The jail in which it was read broke down. Try again.", may_retry=True)


class Reader:
    """The jail of one upload, started when the first file needs it. Threads may read several files at once."""

    def __init__(self, limits: UploadLimits) -> None:
        self.limits = limits
        self._jail: Extraction | None = None
        self._starting = threading.Lock()

    def read(
        self,
        form: str,
        file: Memory,
        on_text: Callable[[str], None],
        on_page: OnPage | None = None,
        on_chapter: Callable[[str], None] | None = None,
        look: Callable[[], None] | None = None,
    ) -> dict[str, Any]:
        """What the file says of itself; its text goes to `on_text`. Raises Refused with a reason for a person.

        `look` is called often, and ends the reading by what it raises.
        """
        room = max(self.limits.ratio_from, file.size * self.limits.ratio)
        limits = ExtractLimits(seconds=self.limits.seconds, text_bytes=min(self.limits.bytes, room))
        try:
            return self._running().read(form, file, on_text, on_page, on_chapter, limits, look)
        except Unreadable as error:
            log.info("a file (%s) was not read: %s %s", form, error.why, error.detail)
            if error.why == "time":
                raise Refused(
                    f"It could not be read within {limits.seconds:g} seconds: it is too large, or built to be hard to read. "
                    + self.limits.who("seconds"),
                    may_retry=True,
                ) from None
            raise Refused(WHY.get(error.why, WHY["crash"])) from None
        except SandboxUnavailable as error:
            log.error("files are refused that need a jail: %s", error)
            raise Refused(
                "Not read: on this server the jail for such files does not work. Whoever runs it finds the reason in its log.",
                may_retry=True,
            ) from None
        except SandboxError as error:
            log.warning("the jail of an upload broke: %s", error)
            raise JailBroke from None

    def _running(self) -> Extraction:
        with self._starting:
            if self._jail is None or not self._jail.alive:
                self._close()
                base = Path(settings.SANDBOX_PREFIX) if settings.SANDBOX_PREFIX else None
                self._jail = Extraction.start(settings.SANDBOX_BACKEND, base)
            return self._jail

    def close(self) -> None:
        with self._starting:
            self._close()

    def _close(self) -> None:
        jail, self._jail = self._jail, None
        if jail is not None:
            jail.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Taking:
    """A text on its way from the jail into a blob: written as it comes, its characters counted, its pages marked."""

    def __init__(self, writer: blobs.Writer, limits: UploadLimits) -> None:
        self._writer, self._limits = writer, limits
        self.characters = 0
        self.head = ""
        self.pages: list[tuple[int, int]] = []  # character, page
        self.chapters: list[tuple[int, str]] = []  # character, title

    def text(self, piece: str) -> None:
        plain = piece.replace("\r", "\n").replace("\0", "\N{REPLACEMENT CHARACTER}")
        self._writer.write(plain.encode())
        self.characters += len(plain)
        if self.characters > self._limits.characters:
            raise Refused(
                f"The texts of an upload may have {self._limits.characters:,} characters; this one alone has more. "
                + self._limits.who("characters"),
                may_retry=True,
            )
        if len(self.head) < HEAD:
            self.head += plain[:HEAD]

    def page(self, number: int) -> None:
        if len(self.pages) < meta.MARKS_MOST:
            self.pages.append((self.characters, number))

    def chapter(self, title: str) -> None:
        if len(self.chapters) < CHAPTERS_MOST and (words := meta.shortened(title, meta.TITLE_MOST)):
            self.chapters.append((self.characters, words))

    @property
    def marks(self) -> dict[str, Any]:
        """What a reader's page knows of its parts: {} where it has none."""
        if self.pages:
            return {"kind": "page", "marks": self.pages}
        places = [(place, number) for number, (place, _) in enumerate(self.chapters, 1)]
        return {"kind": "chapter", "marks": places, "titles": [t for _, t in self.chapters]} if places else {}


def memory_of(source: Path, kind: str) -> Memory:
    size = source.stat().st_size
    if not size:
        raise Refused("The file is empty.")
    if size > FILE_MOST:
        raise Refused(f"A file of this kind ({kind}) may have {megabytes(FILE_MOST)}; this one has {megabytes(size)}.")
    return Memory.of_file(source)


GENERATED = re.compile(
    r"(?i)^(microsoft (word|powerpoint|excel)\s*-\s*|untitled\b.*|document\d*$|.*\.(docx?|dvi|indd|tex|rtf|pdf|qxd|pptx?)$)"
)


def title_of(found: dict[str, Any], head: str, name: str) -> str:
    """What the file calls itself, if that is a title and not its maker's; else its first heading; else its name."""
    said = meta.shortened(str(found.get("title", "")), meta.TITLE_MOST)
    if said and not GENERATED.match(said):
        return said
    if heading := meta.HEADING.search(head):
        return meta.shortened(heading[1], meta.TITLE_MOST)
    return meta.title_from_name(name)


def about(form: str, found: dict[str, Any]) -> dict[str, Any]:
    """What a model sees of it beside title and text."""
    told: dict[str, Any] = {"format": form}
    names = {"author": "from"} if form == "eml" else {}
    for key in ("author", "to", "date", "language"):
        if value := meta.shortened(str(found.get(key, "")), 300):
            told[names.get(key, key)] = meta.readable_date(value) if key == "date" else value
    if isinstance(found.get("pages"), int):
        told["pages"] = found["pages"]
    return told


def notes(found: dict[str, Any]) -> list[str]:
    """What a person should know of what was left out."""
    said = []
    empty, broken, attached = (found.get(key) for key in ("empty", "broken", "attachments"))
    if isinstance(empty, int) and empty > 0:
        said.append(f"{_pages(empty)} no text: {'a picture' if empty == 1 else 'pictures'}, or blank.")
    if isinstance(broken, int) and broken > 0:
        said.append(f"{broken:,} of its pages could not be read.")
    if isinstance(attached, int) and attached > 0:
        said.append(
            "Its attachment is named in the text, not read: add it as a file."
            if attached == 1
            else f"Its {attached:,} attachments are named in the text, not read: add them as files."
        )
    return said


def _pages(count: int) -> str:
    return "One page has" if count == 1 else f"{count:,} pages have"
