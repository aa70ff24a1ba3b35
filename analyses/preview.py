"""The image that chat apps show of a shared run: its question, its figures, and its tree as one picture. Drawn once a state."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from django.core.cache import cache
from PIL import Image, ImageDraw, ImageFont

from analyses.models import Run, Share, Status
from analyses.outline import Outline
from analyses.runpage import WORDS
from analyses.templatetags.run import amount, clock, money
from analyses.texts import clean

SIZE = (1200, 630)
EDGE = 64
VERSION = 1  # of the drawing: another one is another image
KEEP_SECONDS = 24 * 3600
QUESTION_LINES = 3
ROWS_MOST = 7  # depths drawn
ROW, GAP = 30, 6
# static/tokens.css, in its light half
PAPER, SURFACE, LINE, INK, INK_2, INK_3, ACCENT = (
    "#fbfbf9",
    "#ffffff",
    "#e5e5e1",
    "#1a1b1c",
    "#4b4e52",
    "#65686d",
    "#1a5fb4",
)
COLOURS = {"done": "#548f6c", "failed": "#b3261e", "stopped": "#b3261e", "limit": "#b0730a"}
UNDER_WAY = "#3a7bd0"
# Wider in what they can write than the one that comes with Pillow; where none is installed, that one.
FONTS = [
    Path("/usr/share/fonts/truetype") / name
    for name in ("noto/NotoSans-Regular.ttf", "dejavu/DejaVuSans.ttf", "liberation/LiberationSans-Regular.ttf")
]


def mark_of(share: Share) -> str:
    """Another image, another mark."""
    run = share.run
    told = f"{VERSION} {bool(share.password)}" + (
        "" if share.password else f" {run.pk} {run.calls} {run.status} {run.ended and run.seq}"
    )
    return hashlib.sha256(told.encode()).hexdigest()[:20]


def png_of(share: Share) -> bytes:
    """The image of a share; of one with a password it tells nothing of the run."""
    key = f"preview:{mark_of(share)}"
    kept = cache.get(key)
    if kept is None:
        kept = neutral() if share.password else drawn(share.run)
        cache.set(key, kept, KEEP_SECONDS)
    return bytes(kept)


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    for path in FONTS:
        if path.exists():
            return ImageFont.truetype(path, size)
    return ImageFont.load_default(size)


def _canvas() -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", SIZE, PAPER)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, SIZE[0], 10), fill=ACCENT)
    x, y = EDGE, EDGE - 8  # the mark: a box in a box in a box
    for inset, side in ((0, 36), (11, 25)):
        draw.rounded_rectangle((x + inset, y + inset, x + inset + side, y + inset + side), 5, outline=INK, width=4)
    draw.rectangle((x + 22, y + 22, x + 28, y + 28), fill=INK)
    draw.text((x + 54, y + 18), "rlmweb", font=_font(32), fill=INK, anchor="lm")
    return image, draw


def _png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.quantize(64).save(out, "PNG", optimize=True)
    return out.getvalue()


def neutral() -> bytes:
    """For a link with a password."""
    image, draw = _canvas()
    draw.text((EDGE, 280), "A shared run", font=_font(56), fill=INK, anchor="lm")
    draw.text((EDGE, 350), "Opens with a password.", font=_font(34), fill=INK_2, anchor="lm")
    for at in range(6):
        y = 440 + at * 20
        draw.rounded_rectangle((EDGE + 40 * at, y, SIZE[0] - EDGE - 60 * at, y + 12), 3, fill=LINE)
    return _png(image)


def drawn(run: Run) -> bytes:
    image, draw = _canvas()
    status = WORDS[Status(run.status)]
    colour = COLOURS.get(run.status, UNDER_WAY)
    width = draw.textlength(status, font=_font(28))
    box = (SIZE[0] - EDGE - width - 36, EDGE - 12, SIZE[0] - EDGE, EDGE + 32)
    draw.rounded_rectangle(box, 22, fill=SURFACE, outline=colour, width=3)
    draw.text(((box[0] + box[2]) / 2, EDGE + 10), status, font=_font(28), fill=colour, anchor="mm")
    y = 150.0
    for line in _wrapped(run.question, SIZE[0] - 2 * EDGE, QUESTION_LINES):
        draw.text((EDGE, y), line, font=_font(40), fill=INK, anchor="lt")
        y += 54
    outline = Outline.of(run)
    _tree(draw, outline, 340)
    draw.line((EDGE, 566, SIZE[0] - EDGE, 566), fill=LINE, width=2)
    tokens = run.prompt_tokens + run.completion_tokens
    told = [f"{run.calls:,} call{'' if run.calls == 1 else 's'}", f"{run.cells:,} cell{'' if run.cells == 1 else 's'}"]
    told += [f"{amount(tokens)} tokens"] if tokens else []
    told += [money(run.cost)] if run.cost else []
    told += [clock(run.seconds)] if run.ended else []
    draw.text((EDGE, 596), "  ·  ".join(told), font=_font(28), fill=INK_2, anchor="lm")
    return _png(image)


def _wrapped(text: str, width: float, most: int) -> list[str]:
    """A text in lines; what the font has no shapes for is left out, and the whole text where that is much of it."""
    text = " ".join(clean(text[:600]).split())
    known = "".join(char for char in text if char == " " or _has_shape(char))
    if len(known) < 0.8 * len(text):
        return ["A question, and how it was answered"]
    lines: list[str] = []
    line = ""
    for word in known.split():
        longer = f"{line} {word}".strip()
        if _width(longer) <= width:
            line = longer
            continue
        if line:
            lines.append(line)
        line = _cut(word, width)
    lines.append(line)
    if len(lines) > most:
        lines = [*lines[: most - 1], _cut(lines[most - 1] + "…", width)]
        lines[-1] = lines[-1] if lines[-1].endswith("…") else lines[-1] + "…"
    return lines


def _width(text: str) -> float:
    return _font(40).getlength(text)


def _cut(word: str, width: float) -> str:
    """A word that is wider than the image, as far as it fits."""
    while word and _width(word) > width:
        word = word[: max(1, len(word) * 9 // 10)] if len(word) > 1 else ""
    return word


@lru_cache(maxsize=2048)
def _has_shape(char: str) -> bool:
    """Fonts draw what they do not know as one and the same box."""
    if not char.isprintable():
        return False
    font = _font(40)
    return bytes(font.getmask(char)) != bytes(font.getmask("\U0010fffe"))


@dataclass(slots=True)
class _Box:
    depth: int
    left: float
    right: float
    status: str


def _tree(draw: ImageDraw.ImageDraw, outline: Outline, top: int) -> None:
    """A row for each depth; a call is as wide as the leaves below it. Boxes of less than a pixel are drawn as one."""
    rows = min(ROWS_MOST, 1 + max((entry.depth for entry in outline.calls.values()), default=0))
    height = min(ROW * 2, (210 - GAP * (rows - 1)) // rows)
    drawn: dict[tuple[int, int], str] = {}  # a row and a pixel, and what is drawn from there
    for box in _boxes(outline):
        if box.depth >= rows:
            continue
        x1, x2 = EDGE + round(box.left * (SIZE[0] - 2 * EDGE)), EDGE + round(box.right * (SIZE[0] - 2 * EDGE))
        before = drawn.get((box.depth, x1))
        # Among many in one place the one that failed is seen.
        if x2 - x1 < 3 and before is not None and (box.status == "done" or before != "done"):
            continue
        drawn[box.depth, x1] = box.status
        y = top + box.depth * (height + GAP)
        gap = 2 if x2 - x1 > 6 else 0
        draw.rectangle((x1, y, max(x1, x2 - gap), y + height), fill=COLOURS.get(box.status, UNDER_WAY))


def _boxes(outline: Outline) -> list[_Box]:
    """Calls, parents first, and the share of the width that each takes."""
    leaves: dict[int, int] = {}
    for number in sorted(outline.calls, reverse=True):  # children have greater numbers than their parents
        entry = outline.calls[number]
        leaves[number] = max(1, sum(leaves.get(n, 1) for numbers in entry.children.values() for n in numbers))
    boxes: dict[int, _Box] = {}
    places: dict[int, float] = {}  # where the next child of a call begins
    for number in sorted(outline.calls):
        entry = outline.calls[number]
        if entry.parent is None:
            left, right = 0.0, 1.0
        else:
            above = boxes[entry.parent]
            left = places[entry.parent]
            right = left + (above.right - above.left) * leaves[number] / leaves[entry.parent]
            places[entry.parent] = right
        boxes[number] = _Box(entry.depth, left, right, entry.status)
        places[number] = left
    return list(boxes.values())
