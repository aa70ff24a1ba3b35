"""What a new data directory needs: the local owner, and the sample corpus with its questions. Safe to repeat."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from analyses.sample import load_sample
from workspaces.local import local_owner
from workspaces.models import Workspace


class Command(BaseCommand):
    help = "Make the local owner and load the sample corpus, where a new data directory has neither."

    def handle(self, **_: Any) -> None:
        owner, password = local_owner()
        if not password:
            return  # not a new data directory: what its owner deleted stays deleted
        corpus = load_sample(Workspace.objects.visible_to(owner).get(), owner)
        self.stdout.write(f"Loaded the sample corpus {corpus.name}.")
        if settings.LOCAL:
            self.stdout.write("This instance signs you in as its owner (RLMWEB_LOCAL=1).")
        else:
            self.stdout.write(f"Sign in as {owner.email} with the password {password}  (said once: keep it)")
