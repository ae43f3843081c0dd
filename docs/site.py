"""Lay the pages of the site out in FOLDER: those of docs/ and of the root, with links that are right there.

    python docs/site.py FOLDER

A link to a file that has no page, such as LICENSE, becomes its text.
"""

from __future__ import annotations

import posixpath
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = {  # where a page is in the repository, and on the site
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "sample_models/README.md": "sample-models.md",
    **{f"docs/{page.name}": page.name for page in sorted((ROOT / "docs").glob("*.md"))},
}
LINK = re.compile(r"\[([^\]]*)\]\((?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_the_site(source: str) -> str:
    """The text of a page, with its links to other files of the repository turned into links to their pages."""

    def led(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[2]))
        if path in PAGES:
            return f"[{link[1]}]({PAGES[path]}{link[3] or ''})"
        return link[1] if (ROOT / path).exists() else link[0]

    return LINK.sub(led, (ROOT / source).read_text(encoding="utf-8"))


def main(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for source, target in PAGES.items():
        (folder / target).write_text(on_the_site(source), encoding="utf-8")
    shutil.copy(ROOT / "docs" / "site.css", folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
