"""The pages keep their word: their Python runs, their recipes are read, their commands and flags exist.

The blocks of a page are taken in order, in a folder where samples and configs lie as in a checkout. A block with a
title is a file there. A command that is quick is run, and prints what the page says; ``...`` stands for what is left
out. ``<!-- not run: WHY -->`` before a block says why it can't be: then Python is compiled, and commands are parsed.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from cli.main import app
from compress_ops import parse_recipe

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), ROOT / "sample_models" / "README.md"]
BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<why>\S[^>]*) -->\n)?"
    r'^```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^```$',
    re.MULTILINE | re.DOTALL,
)
MOMENT = "measure: {seconds: 0.05}\n"
QUICK = ("recipe check", "passes")


@dataclass(frozen=True)
class Block:
    """A fenced block; ``text`` is what stands between the fences, ``why`` the reason for not running it."""

    place: str
    language: str
    text: str
    title: str | None
    why: str | None


def blocks(page: str, text: str) -> list[Block]:
    """The blocks of a page, each placed at the line of its fence."""
    return [
        Block(f"{page}:{text.count(chr(10), 0, found.start('language')) + 1}", *found.group(2, 4, 3, 1))
        for found in BLOCK.finditer(text)
    ]


@contextmanager
def at(block: Block) -> Iterator[None]:
    """Failures inside name the page and the line."""
    try:
        yield
    except Exception as error:
        error.add_note(f"in the block at {block.place}")
        raise


def recipe_of(text: str) -> str:
    """A whole recipe; one that is shown in part is steps, or lacks its version."""
    content = yaml.safe_load(text)
    whole = {"passes": content} if isinstance(content, list) else content
    return text if "version" in whole else yaml.safe_dump({"version": 1, **whole})


def commands(block: Block) -> Iterator[tuple[list[str], str]]:
    """The words behind ``$ onnxpress``, and what the page says that the command prints."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        line, _, printed = part.replace("\\\n", " ").partition("\n")
        if line.startswith("onnxpress "):
            yield shlex.split(line)[1:], printed


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """The command that the words name, and those that are left for it."""
    command: Any = typer.main.get_command(app)
    rest = list(words)
    while hasattr(command, "commands") and not (rest and rest[0].startswith("-")):
        assert rest and rest[0] in command.commands, f"no such command: onnxpress {' '.join(words)}"
        command = command.commands[rest.pop(0)]
    return command, rest


def check_command(words: list[str], printed: str, run: bool) -> None:
    command, rest = command_of(words)
    command.make_context("onnxpress", rest)  # parses them; nothing runs
    if run and (" ".join(words).startswith(QUICK) or "--dry-run" in words):
        output = in_one_line(CliRunner().invoke(app, words, env={"COLUMNS": "100"}).output)
        said = ".*".join(re.escape(part.strip()) for part in in_one_line(printed).split("..."))
        if not re.fullmatch(said, output):
            raise AssertionError(f"the command prints, instead of this: {output}")


def in_one_line(printed: str) -> str:
    """However it is wrapped; what was measured differs from machine to machine."""
    return re.sub(r"\b[\d.]+ (s|ms|µs|dB|%)(?!\w)", "NUMBER", " ".join(printed.split()))


def check_python(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run it, under the name of the module that its title names, and the tests in it."""
    code = compile(block.text, block.place, "exec", dont_inherit=True)
    if block.why:
        return
    module = ModuleType((block.title or "block").removesuffix(".py").replace("/", "."))
    module.__package__ = module.__name__.rpartition(".")[0]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(code, module.__dict__)
    for test in [value for name, value in vars(module).items() if name.startswith("test_")]:
        test()


def check(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    if block.title:
        Path(block.title).parent.mkdir(parents=True, exist_ok=True)
        Path(block.title).write_text(block.text + MOMENT * block.title.endswith(".yaml"), encoding="utf-8")
    if block.language == "python":
        check_python(block, monkeypatch)
    elif block.language == "yaml" and not block.why:
        parse_recipe(recipe_of(block.text))
    elif block.language in ("text", "console"):
        for words, printed in commands(block):
            check_command(words, printed, run=not block.why)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that pages are read in."""
    for folder in ("configs", "sample_models"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_a_page_shows_works(page: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for block in blocks(page.relative_to(ROOT).as_posix(), page.read_text(encoding="utf-8")):
        with at(block):
            check(block, monkeypatch)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_block_is_overlooked(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    found = blocks("", text)
    assert len(re.findall(r"^\s*```", text, re.MULTILINE)) == 2 * len(found)
    assert len(re.findall("^<!-- not run", text, re.MULTILINE)) == sum(block.why is not None for block in found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_in_the_text_exist(page: Path) -> None:
    """With their flags; arguments may be left out, or stand for something."""
    for line in re.findall(r"`onnxpress ([^`]+)`", BLOCK.sub("", page.read_text(encoding="utf-8"))):
        command, rest = command_of(shlex.split(line))
        known = {"-h", "--help", *(name for parameter in command.params for name in parameter.opts)}
        assert {word.partition("=")[0] for word in rest if word.startswith("-")} <= known, f"onnxpress {line}"


BROKEN = {  # and what the failure says
    "```python\n1 / 0\n```": "division by zero",
    "<!-- not run: a part -->\n```python\nx = (\n```": "never closed",
    "```python\ndef test_it():\n    assert 1 > 2, 'order'\n```": "order",
    "```yaml\nversion: 1\npasses: [simplif]\n```": "unknown pass 'simplif'",
    "```yaml\n- quantize_static: {per_chanel: true}\n```": "unknown option 'per_chanel'",
    "```text\n$ onnxpress squeeze model.onnx\n```": "no such command: onnxpress squeeze",
    "```text\n$ onnxpress run r.yaml \\\n    --fast\n```": "No such option: --fast",
    "<!-- not run: long -->\n```text\n$ onnxpress run --fast\n```": "No such option: --fast",
    "```text\n$ onnxpress recipe check r.yaml\nok: 7 steps\n```": "instead of this: ok: 1 step",
}


@pytest.mark.parametrize(("text", "said"), BROKEN.items())
def test_a_broken_block_fails(text: str, said: str, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkout / "r.yaml").write_text("version: 1\npasses: [simplify]\n")
    (block,) = blocks("page.md", text)
    with pytest.raises(Exception, match=re.escape(said)):
        check(block, monkeypatch)


def test_a_sound_page_passes(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        '```python title="pkg/one.py"\nx = 1\n```\n'
        '```python title="pkg/test_one.py"\nfrom .one import x\n\n\ndef test_x():\n    assert x == 1\n```\n'
        '```yaml title="a.yaml"\nversion: 1\npasses: [simplify]\n```\n'
        "```text\n$ onnxpress recipe check \\\n    a.yaml\nok: ...\n```"
    )
    for block in blocks("page.md", text):
        check(block, monkeypatch)
