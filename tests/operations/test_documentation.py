"""What the documents say of commands and settings is true."""

from __future__ import annotations

import re
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent.parent


def read(name: str) -> str:
    return (PROJECT / name).read_text()


def test_every_variable_is_in_the_operations_document_and_no_other() -> None:
    read_by_settings = set(re.findall(r'env\.\w+\(\s*"([A-Z][A-Z0-9_]+)"', read("rlmweb/settings.py")))
    documented = set(re.findall(r"^\| `([A-Z][A-Z0-9_]+)` \|", read("docs/operations.md"), re.MULTILINE))
    assert documented == read_by_settings


def test_links_between_documents_lead_somewhere() -> None:
    for page in [PROJECT / "README.md", *(PROJECT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_dev_lock_holds_all_of_the_app_lock() -> None:
    def pins(name: str) -> set[str]:
        return {
            line.removesuffix(" \\") for line in read(f"locks/{name}.txt").splitlines() if re.match(r"[a-z0-9]", line)
        }

    assert pins("app") <= pins("dev")


def test_locks_cover_what_the_project_names() -> None:
    named = set(re.findall(r'^    "([a-z0-9-]+)[\[>=<,.0-9a-z\]]*",', read("pyproject.toml"), re.MULTILINE))
    locked = set(re.findall(r"^([a-z0-9-]+)==", read("locks/dev.txt"), re.MULTILINE))
    assert {name for name in named if not name.startswith("types-")} <= locked
