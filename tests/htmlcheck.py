"""What HTML really holds: its tags and attributes, as a parser sees them."""

from __future__ import annotations

from html.parser import HTMLParser


class _Seen(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "action")]


def seen(html: str) -> _Seen:
    found = _Seen()
    found.feed(html)
    return found


def is_inert(html: str) -> bool:
    """No script, no handler, no style, no link that runs: what a partial may hold, whatever a model wrote."""
    found = seen(html)
    handlers = {name for name in found.attributes if name.startswith("on") or name == "style"}
    running = [link for link in found.links if link.lower().strip().startswith(("javascript:", "data:", "vbscript:"))]
    return not (found.tags & {"script", "style", "iframe", "object", "embed", "img"}) and not handlers and not running
