"""The map of the house, from the code: its floors from pyproject.toml, its rooms from the docstrings of files."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
TREES = ("cli", "compress_ops")
HEAD = """# The house

Written from the code by `make docs`; do not edit. Each folder and file says in its first line what it is about.

An arrow is a floor that may import what lies below it, never the other way; folders and files of one floor import one
another without circles. Import-linter holds both in `make check`.
"""


def house() -> str:
    """The whole page as Markdown."""
    return "\n".join([HEAD, *_floors(), *(line for tree in TREES for line in _folder(ROOT / tree))]) + "\n"


def _floors() -> Iterator[str]:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    names = [" · ".join(part.strip().removeprefix("compress_ops.") for part in layer.split("|")) for layer in layers]
    yield from ("```mermaid", "flowchart TD")
    yield from (f'    f{i}["{name}"]' for i, name in enumerate(names))
    yield f"    {' --> '.join(f'f{i}' for i in range(len(names)))}"
    yield from ("```", "")


def _folder(folder: Path) -> Iterator[str]:
    """The folder with its files, then the folders in it."""
    files = sorted(path for path in folder.glob("*.py") if path.name != "__init__.py")
    yield from (f"## {folder.relative_to(ROOT)}/", "", _said(folder / "__init__.py"), "")
    if files:
        yield from ("| | |", "|---|---|", *(f"| `{path.name}` | {_said(path)} |" for path in files), "")
    for inner in sorted(path for path in folder.iterdir() if (path / "__init__.py").exists()):
        yield from _folder(inner)


def _said(path: Path) -> str:
    """The first sentence of a file's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    return " ".join(text.partition("\n\n")[0].split()).replace("|", "\\|")
