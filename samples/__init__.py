"""A podcast of our own invention, with planted facts, so that right answers to sample questions are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from .cast import EPISODES, PODCAST
from .judge import score
from .talk import turns
from .transcripts import transcript

__all__ = ["PODCAST", "QUESTIONS", "score", "write"]

# id, question, answer (for people), where (episodes that hold it), judge (how `score` marks an answer)
QUESTIONS: Final[list[dict[str, Any]]] = json.loads(Path(__file__).with_name("questions.json").read_text("utf-8"))


def write(directory: Path, seed: int = 1987) -> list[Path]:
    """Write the episodes into a directory, in order; the same seed writes the same bytes. Planted facts hold for any seed."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for episode in EPISODES:
        path = directory / episode.name
        path.write_text(transcript(episode, turns(episode, seed)), encoding="utf-8", newline="\n")
        paths.append(path)
    return paths
