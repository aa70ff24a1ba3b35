"""Writes talk as a transcript: WebVTT with voices, or Markdown with front matter, names and times."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from .cast import HOSTS, PODCAST, Episode

_CHARACTERS_A_SECOND = 14.5


def transcript(episode: Episode, turns: Iterable[tuple[str, str]]) -> str:
    return _markdown(episode, turns) if episode.name.endswith(".md") else _webvtt(episode, turns)


def _webvtt(episode: Episode, turns: Iterable[tuple[str, str]]) -> str:
    cues = [f"WEBVTT - {episode.code} {episode.title}\n"]
    for start, end, speaker, sentence in _timed(turns):
        cues.append(f"{_clock(start)} --> {_clock(end)}\n<v {speaker}>{sentence}\n")
    return "\n".join(cues)


def _markdown(episode: Episode, turns: Iterable[tuple[str, str]]) -> str:
    parts = [
        f"---\ntitle: {episode.code} {episode.title}\npodcast: {PODCAST}\ndate: {episode.date}\n"
        f"hosts: {', '.join(HOSTS)}\nguest: {episode.guest}\n---"
    ]
    clock = 0.0
    for speaker, text in turns:
        minutes, seconds = divmod(int(clock), 60)
        parts.append(f"**{speaker}:** [{minutes:02d}:{seconds:02d}] {text}")
        clock += len(text) / _CHARACTERS_A_SECOND + 0.4
    return "\n\n".join(parts) + "\n"


def _timed(turns: Iterable[tuple[str, str]]) -> Iterator[tuple[float, float, str, str]]:
    clock = 0.0
    for speaker, text in turns:
        for sentence in re.split(r"(?<=[.?!]) +", text):
            end = clock + len(sentence) / _CHARACTERS_A_SECOND
            yield clock, end, speaker, sentence
            clock = end
        clock += 0.4


def _clock(seconds: float) -> str:
    whole, thousandths = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}.{thousandths:03d}"
