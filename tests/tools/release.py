"""Whether a tag may become a release; prints what the changelog says of it.

    python tests/tools/release.py v1.2.3 OWNER/REPOSITORY > notes.md

The tag must be the version of pyproject.toml, the changelog must have a dated section for it, and the address of the
source must be that of the repository that releases.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]


def faults(tag: str, repository: str, root: Path = ROOT) -> Iterator[str]:
    """Why not, one line each."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    if tag != f"v{project['version']}":
        yield f"the tag is {tag}, the version in pyproject.toml {project['version']}"
    source, wanted = project["urls"].get("Source"), f"https://github.com/{repository}"
    if source != wanted:
        yield f"Source in [project.urls] is {source}; it must be {wanted}"
    if not notes(tag, root):
        yield f"CHANGELOG.md has no section '## {tag.removeprefix('v')} (YYYY-MM-DD)' with something in it"


def notes(tag: str, root: Path = ROOT) -> str:
    """The dated section of the changelog; empty where there is none."""
    head = rf"^## {re.escape(tag.removeprefix('v'))} \(\d{{4}}-\d\d-\d\d\)$"
    changelog = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    found = re.search(rf"{head}(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    return found[1].strip() if found else ""


def main(tag: str, repository: str) -> int:
    found = list(faults(tag, repository))
    print(*(found or [notes(tag)]), sep="\n", file=sys.stderr if found else sys.stdout)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
