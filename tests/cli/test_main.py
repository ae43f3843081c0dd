"""The list of commands, the start-up promise, and the version."""

from __future__ import annotations

import subprocess
import sys
import time
from itertools import accumulate, islice
from typing import Any

import pytest
import typer

from cli.helping import _GROUP_OF
from cli.main import app
from tests.helpers import ROOT

from .conftest import Call

HEAVY = ("numpy", "onnx", "onnx_ir", "onnxruntime", "optuna", "rich", "yaml")
COMMANDS = ["auto", "bench", "compare", "distill", "inspect", "passes", "prune", "quantize", "recipe", "run"]
GROUP = typer.main.get_command(app)


def test_the_commands() -> None:
    assert sorted(GROUP.commands) == COMMANDS
    assert sorted(GROUP.commands["recipe"].commands) == ["check", "new", "schema"]


def _commands() -> list[tuple[str, ...]]:
    inner = [("recipe", name) for name in GROUP.commands["recipe"].commands]
    return [(), *((name,) for name in GROUP.commands), *inner]


@pytest.mark.parametrize("words", _commands(), ids=" ".join)
def test_help_documents_every_command_and_option(call: Call, words: tuple[str, ...]) -> None:
    command = GROUP
    for word in words:
        command = command.commands[word]
    assert command.help
    assert command.help.splitlines()[0].endswith(".")
    assert all(parameter.help for parameter in command.params if parameter.name != "help")
    result = call(*words, "--help")
    assert result.exit_code == 0
    assert command.help.splitlines()[0] in result.stdout


def _command(words: tuple[str, ...]) -> Any:
    command: Any = GROUP
    for word in words:
        command = command.commands[word]
    return command


@pytest.mark.parametrize("words", [words for words in _commands() if words not in ((), ("recipe",))], ids=" ".join)
def test_help_is_in_groups_and_ends_with_an_example_that_is_a_command(call: Call, words: tuple[str, ...]) -> None:
    text = call(*words, "--help").stdout
    groups = [line.rstrip(":") for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert groups == [group for group in ("Input", "What to do", "Data", "Measuring", "Output") if group in groups]
    assert "Output" in groups
    example = text.rstrip().splitlines()[-1].strip().removeprefix("Example: onnxpress ").partition(" > ")[0].split()
    assert tuple(example[: len(words)]) == words
    command = _command(words)
    command.make_context(words[-1], example[len(words) :], parent=GROUP.make_context("onnxpress", ["passes"]))


def test_every_flag_that_the_groups_name_exists() -> None:
    flags = {flag for words in _commands() for parameter in _command(words).params for flag in parameter.opts}
    assert set(_GROUP_OF) - {"--help"} <= flags


def test_summaries_are_shown_whole(call: Call) -> None:
    assert "..." not in call("--help").stdout.partition("Commands:")[2]


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["recipe", "--help"]], ids=" ".join)
def test_help_loads_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys\n"
        "from cli.main import app\n"
        "try:\n"
        f"    app({words!r})\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == "[]"


def test_help_takes_at_most_twice_the_time_of_importing_typer() -> None:
    """The least of seven runs of each, in turn, or of more where that is too much: load only ever adds time."""
    reference, own = ["-c", "import typer"], ["-m", "cli.main", "--help"]
    pairs = ((_seconds(reference), _seconds(own)) for _ in range(40))
    least = accumulate(pairs, lambda one, other: (min(one[0], other[0]), min(one[1], other[1])))
    assert any(mine <= 2 * typer for typer, mine in islice(least, 6, None))


def _seconds(words: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def test_version(call: Call) -> None:
    result = call("--version")
    assert result.exit_code == 0
    assert result.stdout.startswith("onnxpress ")
