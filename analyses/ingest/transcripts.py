"""WebVTT and SubRip → lines "[HH:MM:SS] Speaker: words", and the map from characters to moments.

The words are the cues' own, in order, joined by one space where a sentence runs on (docs/decisions/0101-transcripts.md).
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from analyses.ingest.limits import Refused

TIMING = re.compile(r"\s*((?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3})\s*-->\s*((?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3})")
WORD_TIMED = re.compile(r"<\d\d:\d\d[\d:.]*>")  # only captions that roll have it
VOICE = re.compile(r"<v(?:\.[^\s>]*)?\s+([^>]+)>")
TAG = re.compile(r"</?(?:[cibuv]|ruby|rt|lang|font)(?:[.\s][^>]*)?>|<\d[\d:.]*>|\{\\an?\d\}", re.IGNORECASE)
NAMED = re.compile(r"(?:>>\s*|-\s+)?([^\W\d_][\w.’'-]*(?: [\w.’'-]+){0,3}):\s")

PARAGRAPH = 240  # characters after which the end of a sentence ends the line
PARAGRAPH_MOST = 700
PAUSE = 3000  # ms of silence that ends the line
MARKS_MOST = 200_000


@dataclass(frozen=True)
class Cue:
    start: int  # ms
    end: int
    speaker: str
    words: str


@dataclass
class Told:
    """What was met in a transcript, filled while its lines are drawn."""

    marks: list[tuple[int, int]] = field(default_factory=list)  # character in the text, ms
    speakers: Counter[str] = field(default_factory=Counter)
    named: Counter[str] = field(default_factory=Counter)  # "Name:" at the start of a cue: may be a speaker
    cues: int = 0
    last: int = 0  # ms
    title: str = ""

    @property
    def who(self) -> list[str]:
        """Speakers, by how often they speak. A name before a colon counts once it comes back."""
        if self.speakers:
            return [name for name, _ in self.speakers.most_common(30)]
        if sum(self.named.values()) * 20 < self.cues:
            return []
        return [name for name, times in self.named.most_common(30) if times > 1]


def milliseconds(moment: str) -> int:
    if len(moment) == 12:  # nearly all are "01:02:03.456"
        return ((int(moment[:2]) * 60 + int(moment[3:5])) * 60 + int(moment[6:8])) * 1000 + int(moment[9:])
    *rest, seconds = moment.replace(",", ".").split(":")
    minutes = int(rest[-1])
    hours = int(rest[-2]) if len(rest) > 1 else 0
    whole, _, part = seconds.partition(".")
    return ((hours * 60 + minutes) * 60 + int(whole)) * 1000 + int(part.ljust(3, "0"))


def clock(ms: int) -> str:
    seconds = ms // 1000
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def blocks(lines: Iterable[str]) -> Iterator[list[str]]:
    """Runs of lines between blank ones. A timing line begins a block too: many files forget the blank one."""
    block: list[str] = []
    for line in lines:
        # A line of one space is no blank one: captions that roll begin with it.
        if not line.strip() and not (line and block and "-->" in block[-1]):
            if block:
                yield block
            block = []
            continue
        if "-->" in line and block and TIMING.match(line) and any("-->" in before for before in block):
            number = [block.pop()] if block[-1].strip().isdigit() else []
            yield block
            block = number
        block.append(line)
        if len(block) > 10_000:
            raise Refused("One of its cues has more than 10,000 lines: this is no transcript.")
    if block:
        yield block


def cues(lines: Iterable[str], told: Told) -> Iterator[Cue]:
    before: list[str] = []  # the lines shown last: rolling captions repeat them
    rolling = False
    for block in blocks(lines):
        at = next((i for i, line in enumerate(block[:2]) if "-->" in line), None)
        timing = TIMING.match(block[at]) if at is not None else None
        if at is None or timing is None:
            if block[0].startswith("WEBVTT") and not told.cues:
                told.title = block[0][6:].strip(" \t-–—")
            continue
        told.cues += 1
        start, end = milliseconds(timing[1]), milliseconds(timing[2])
        told.last = max(told.last, end)
        payload = block[at + 1 :]
        marked = any("<" in line or "{" in line for line in payload)
        rolling = rolling or (marked and any(WORD_TIMED.search(line) for line in payload))
        shown = [_plain(line) for line in payload]
        fresh = shown
        if rolling and before and shown and shown[0] == before[-1] and (len(shown) > 1 or end - start < 100):
            fresh = shown[1:]
        if shown:
            before = shown
        voice = VOICE.search("\n".join(payload)) if marked else None
        speaker = " ".join(html.unescape(voice[1]).split()) if voice else ""
        if speaker:
            told.speakers[speaker] += 1
        if words := " ".join(line for line in fresh if line):
            if ": " in words and not speaker and (name := NAMED.match(words)):
                told.named[name[1]] += 1
            yield Cue(start, end, speaker, words)


def _plain(line: str) -> str:
    """The words of a line, without its markup."""
    if "<" in line or "{" in line:
        line = TAG.sub("", VOICE.sub("", line))
    if "&" in line:
        line = html.unescape(line)
    return " ".join(line.split())


def text_of(lines: Iterable[str], told: Told) -> Iterator[str]:
    """The transcript's text, a line at a time, each with its "\\n"."""
    at = 0  # characters given so far
    line, offsets = "", [(0, 0)][:0]
    last: Cue | None = None
    for cue in cues(lines, told):
        named = cue.speaker or (name[1] if ": " in cue.words and (name := NAMED.match(cue.words)) else "")
        if last is not None and (
            (named and named != (last.speaker or None))
            or cue.start - last.end > PAUSE
            or cue.start < last.start
            or (len(line) >= PARAGRAPH and line.rstrip("\"'”’)]").endswith((".", "?", "!", "…", "。", "？", "！")))
            or len(line) >= PARAGRAPH_MOST
            or cue.words.startswith((">>", "- "))
        ):
            yield from _close(line, offsets, at, told)
            at += len(line) + 1
            line, offsets, last = "", [], None
        if last is None:
            line = f"[{clock(cue.start)}] " + (f"{cue.speaker}: " if cue.speaker else "")
            offsets = [(0, cue.start)]
            line += cue.words
        else:
            offsets.append((len(line) + 1, cue.start))
            line += " " + cue.words
        last = cue
    if line:
        yield from _close(line, offsets, at, told)


def _close(line: str, offsets: list[tuple[int, int]], at: int, told: Told) -> Iterator[str]:
    if len(told.marks) < MARKS_MOST:
        told.marks.extend((at + offset, ms) for offset, ms in offsets)
    yield line + "\n"


def lines_of(pieces: Iterable[str], most: int = 1_000_000) -> Iterator[str]:
    """Lines, without their ends, of a text that comes in pieces."""
    rest = ""
    for piece in pieces:
        *whole, rest = (rest + piece).split("\n")
        yield from whole
        if len(rest) > most:
            raise Refused(f"It has a line of more than {most:,} characters: this is no transcript.")
    if rest:
        yield rest
