"""The sample corpus: a podcast of our own invention, with questions whose right answers are known."""

from __future__ import annotations

import tempfile
from pathlib import Path

import samples
from analyses import ingest
from analyses.models import Corpus
from workspaces.models import User, Workspace


def load_sample(workspace: Workspace, user: User) -> Corpus:
    """The workspace's sample corpus, loaded where it has none."""
    there = Corpus.objects.filter(workspace=workspace, name=samples.PODCAST).exclude(sample_questions=[]).first()
    if there is not None:
        return there  # type: ignore[no-any-return]
    with tempfile.TemporaryDirectory() as folder:
        imported = ingest.import_paths(workspace, user, samples.write(Path(folder)), name=samples.PODCAST)
    corpus = imported.version.corpus
    corpus.sample_questions = [entry["question"] for entry in samples.QUESTIONS]
    corpus.save(update_fields=["sample_questions"])
    return corpus
