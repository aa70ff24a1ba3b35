"""The notes that strategy codeact_files keeps: one bounded store a run, shared with its sub-agents."""

from __future__ import annotations

MAX_FILES = 200
MAX_CHARS = 5_000_000  # of all files together
MAX_NAME = 200


class FileError(ValueError):
    """A file could not be written or read; the message says why."""


class Files:
    """Named texts, in memory only: nothing of it touches a disk."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def write(self, name: str, text: str) -> None:
        if not isinstance(name, str) or not name.strip() or len(name) > MAX_NAME:
            raise FileError(f"a file needs a name of 1 to {MAX_NAME} characters")
        if not isinstance(text, str):
            raise FileError(f"write_file takes a str, not {type(text).__name__}")
        if name not in self._texts and len(self._texts) >= MAX_FILES:
            raise FileError(f"there are {MAX_FILES} files already, and no room for more")
        others = sum(len(t) for n, t in self._texts.items() if n != name)
        if others + len(text) > MAX_CHARS:
            raise FileError(f"all files together may hold {MAX_CHARS:,} characters; this one does not fit")
        self._texts[name] = text

    def read(self, name: str) -> str:
        if name not in self._texts:
            raise FileError(f"there is no file {name!r}; there are: {', '.join(sorted(self._texts)) or 'none'}")
        return self._texts[name]

    def list(self) -> list[str]:
        return sorted(self._texts)
