"""What a new data directory needs: the local owner, and the sample corpus with its questions. Safe to repeat."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

import samples
from analyses import ingest
from workspaces.local import local_owner
from workspaces.models import User, Workspace


class Command(BaseCommand):
    help = "Make the local owner and load the sample corpus, where a new data directory has neither."

    def handle(self, **_: Any) -> None:
        owner, password = local_owner()
        if not password:
            return  # not a new data directory: what its owner deleted stays deleted
        self._load_sample(owner)
        if settings.LOCAL:
            self.stdout.write("This instance signs you in as its owner (RLMWEB_LOCAL=1).")
        else:
            self.stdout.write(f"Sign in as {owner.email} with the password {password}  (said once: keep it)")

    def _load_sample(self, owner: User) -> None:
        workspace = Workspace.objects.visible_to(owner).get()
        with tempfile.TemporaryDirectory() as folder:
            paths = samples.write(Path(folder))
            imported = ingest.import_paths(workspace, owner, paths, name=samples.PODCAST)
        corpus = imported.version.corpus
        corpus.sample_questions = [entry["question"] for entry in samples.QUESTIONS]
        corpus.save(update_fields=["sample_questions"])
        self.stdout.write(f"Loaded the sample corpus {samples.PODCAST}: {imported.version.document_count} documents.")
