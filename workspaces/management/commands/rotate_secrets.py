"""Encrypt every key anew with the newest secret, so that older ones can be dropped from RLMWEB_SECRETS."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from workspaces.models import ModelEndpoint
from workspaces.secrets import Unreadable, rotate


class Command(BaseCommand):
    help = "Encrypt the keys of model endpoints anew with the first of RLMWEB_SECRETS."

    def handle(self, **_: Any) -> None:
        done = 0
        for endpoint in ModelEndpoint.objects.exclude(sealed_key="").select_related("workspace"):
            try:
                sealed = rotate(endpoint.sealed_key)
            except Unreadable:
                where = f"{endpoint.workspace.slug}, {endpoint.name}"
                self.stderr.write(f"{where}: its key cannot be read with any of the secrets given.")
                continue
            # Only where nobody has changed the key meanwhile.
            unchanged = ModelEndpoint.objects.filter(pk=endpoint.pk, sealed_key=endpoint.sealed_key)
            done += unchanged.update(sealed_key=sealed)
        self.stdout.write(f"{done} encrypted anew.")
