"""The house is as it is said to be: nothing too long, names told apart, and the pages show what is there."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import ROOT

LIBRARY = ROOT / "compress_ops"
FILES = sorted(path for tree in (LIBRARY, ROOT / "cli") for path in tree.rglob("*.py"))
MOST_LINES, MOST_LINES_OF_A_FUNCTION, MOST_FILES = 350, 45, 17
TABLES = "table.py"  # the table of contents of its folder


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_files_and_functions_can_be_read_at_once(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= MOST_LINES
    assert not [(name, lines) for name, lines in _functions(text) if lines > MOST_LINES_OF_A_FUNCTION]
    assert ast.get_docstring(ast.parse(text)), "the first line says what a file is about"


def _functions(text: str) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            yield node.name, (node.end_lineno or 0) - node.lineno + 1


def test_a_name_means_one_file() -> None:
    names = Counter(path.name for path in LIBRARY.rglob("*.py") if path.name not in ("__init__.py", TABLES))
    assert not [name for name, times in names.items() if times > 1]


def test_folders_can_be_looked_over() -> None:
    folders = {path.parent for path in LIBRARY.rglob("*.py")}
    assert not [folder for folder in folders if len(list(folder.glob("*.py"))) > MOST_FILES + 1]


def test_architecture_names_every_room() -> None:
    """Folders and files at the top of the library are in its table, and what is in the table is there."""
    table = (ROOT / "docs" / "architecture.md").read_text().partition("## The house")[2].partition("\n## ")[0]
    rooms = [path for path in LIBRARY.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]
    told = {path.name: path.name + ("/" if path.is_dir() else "") for path in rooms if path.name != "__init__.py"}
    assert not [name for name, written in told.items() if written not in table]
    named = {
        part.strip("`") for line in table.splitlines() if line.startswith("|") for part in line.split() if "`" in part
    }
    inside = [name.strip(",();`") for name in named if name.strip(",();`").endswith(("/", ".py"))]
    found = {f"{path.relative_to(ROOT)}{'/' if path.is_dir() else ''}" for path in ROOT.glob("*/**/*")} | {
        f"{path.name}/" for path in ROOT.iterdir()
    }
    assert not [name for name in inside if not any(place.endswith(name) for place in found)]


def test_tests_mirror_the_library() -> None:
    """A folder of tests is a folder of the library, or one of those that test the whole."""
    others = {"cli", "tools", "fuzz"}
    folders = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    assert not [
        folder
        for folder in folders
        if folder.parts[:1] and folder.parts[0] not in others and not (LIBRARY / folder).is_dir()
    ]


def test_tests_do_not_import_one_another() -> None:
    """What several use stands in conftest.py, tests/helpers.py or a ``..._case.py`` of the folder."""
    for path in (ROOT / "tests").rglob("test_*.py"):
        imported = [
            node.module or "" for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)
        ]
        assert not [module for module in imported if module.rpartition(".")[2].startswith("test_")], path
