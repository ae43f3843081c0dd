"""Exit statuses, and how failures are told: to people, to programs, to GitHub."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import onnx
import pytest

from cli.guard import guarded
from compress_ops.catalogue import PASSES
from tests.helpers import ROOT

from .conftest import Call


def test_a_fault_is_status_2_with_its_place_on_stderr(call: Call, model: Path, out: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "bad.yaml"
    recipe.write_text("version: 1\npasses:\n  - prune_weigh\n  - quantize_dynamic: {skp: [a]}\n")
    result = call("run", recipe, model, "-o", out)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        f"{recipe}:3:5: unknown pass 'prune_weigh'; did you mean 'prune_weights'?",
        f"  passes: {', '.join(PASSES)}",
        f"{recipe}:4:24: unknown option 'skp'; did you mean 'skip'?",
    ]
    assert not out.exists()


def test_json_is_one_document_on_failure(call: Call, model: Path, out: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "bad.yaml"
    recipe.write_text("version: 1\npasses:\n  - prun\n  - simplifi\n")
    result = call("run", recipe, model, "-o", out, "--json")
    document = json.loads(result.stdout)
    assert document["exit_status"] == result.exit_code == 2
    assert document["error"]["message"] == "2 faults"
    assert document["faults"][1]["place"] == {"file": str(recipe), "line": 4, "column": 5}
    assert document["faults"][1]["kind"] == "RecipeError"


def test_one_fault_is_the_error_itself(call: Call, tmp_path: Path, out: Path) -> None:
    document = json.loads(call("inspect", tmp_path / "absent.onnx", "--json").stdout)
    assert document["error"] == document["faults"][0]
    assert document["error"]["kind"] == "ModelError"
    assert document["error"]["place"] is None


@pytest.mark.parametrize(
    "words", [["runn"], ["run"], ["run", "--nonsense"], ["recipe", "nonsense"], ["bench", "m", "--threads", "0"]]
)
def test_usage_errors_are_status_2(call: Call, words: list[str]) -> None:
    result = call(*words)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert "--help" in result.stderr


@pytest.mark.parametrize("words", [[], ["recipe"]], ids=["onnxpress", "recipe"])
def test_a_group_without_a_command_shows_its_help(call: Call, words: list[str]) -> None:
    result = call(*words)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == call(*words, "--help").stdout


def test_usage_errors_are_json_too(call: Call) -> None:
    result = call("bench", "--nonsense", "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"]["kind"] == "UsageError"


def test_a_bug_is_status_3_with_its_traceback(call: Call, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("compress_ops.measure.inspection.inspect_model", broken)
    result = call("inspect", model, "--json")
    assert result.exit_code == 3
    assert "in broken" in result.stderr
    assert "this is a bug in onnxpress: ZeroDivisionError: oops" in result.stderr
    assert "please report it" in result.stderr
    assert json.loads(result.stdout)["error"] | {"hint": ""} == {
        "kind": "ZeroDivisionError",
        "message": "ZeroDivisionError: oops",
        "hint": "",
        "place": None,
    }


def test_what_numpy_warns_of_does_not_reach_the_user(capsys: pytest.CaptureFixture[str]) -> None:
    import warnings

    import numpy as np

    def action() -> int:
        warnings.warn("from a library", RuntimeWarning, stacklevel=1)
        return int(np.isnan(np.sqrt(-np.ones(1)))[0])

    before = list(warnings.filters)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert guarded(action, as_json=False) == 1
    assert seen == []
    assert warnings.filters == before


def test_github_gets_annotations(
    call: Call, model: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    recipe = tmp_path / "bad,1%.yaml"
    recipe.write_text("version: 1\npasses:\n  - prun\n")
    result = call("run", recipe, model, "-o", out)
    place = str(recipe).replace("%", "%25").replace(",", "%2C")
    assert f"::error file={place},line=3,col=5::unknown pass 'prun'" in result.stderr
    assert result.stdout == ""


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("numbers", ["SIGINT", "SIGTERM", "SIGHUP", "SIGINT SIGINT SIGTERM SIGINT"])
def test_interrupting_is_status_130_and_keeps_the_old_output(
    numbers: str, model: Path, out: Path, tmp_path: Path
) -> None:
    out.write_text("an older result")
    process = _run_that_waits(model, out, tmp_path)
    _wait_for(tmp_path / "started", process)
    before = sorted(path.name for path in tmp_path.iterdir())
    for number in numbers.split():
        time.sleep(0.1)  # so that it waits by now: a signal that another thread takes up does not wake it
        if process.poll() is None:
            process.send_signal(getattr(signal, number))
    stdout, stderr = process.communicate(timeout=20)
    assert process.returncode == 130
    assert json.loads(stdout) | {"faults": []} == {
        "error": {"kind": "Interrupted", "message": "interrupted", "hint": "", "place": None},
        "faults": [],
        "exit_status": 130,
    }
    assert stderr == "error: interrupted\n"
    assert out.read_text() == "an older result"
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def _run_that_waits(model: Path, out: Path, folder: Path) -> subprocess.Popen[str]:
    """A run whose calibration data comes from a function that says so and then waits."""
    (folder / "slow.py").write_text(
        "import pathlib, time, numpy\n"
        "def samples():\n"
        f"    pathlib.Path({str(folder / 'started')!r}).touch()\n"
        "    time.sleep(60)\n"
        "    yield {'x': numpy.zeros((1, 32), 'float32')}\n"
    )
    words = ["quantize", model, "-o", out, "--force", "--data", "user:slow:samples", "--allow-code", "--json"]
    paths = os.pathsep.join([str(ROOT), str(folder)])
    return subprocess.Popen(
        [sys.executable, "-m", "cli.main", *map(str, words)],
        env={**os.environ, "PYTHONPATH": paths},
        preexec_fn=_heed,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _heed() -> None:
    """A shell's background job ignores SIGINT, and what runs under nohup SIGHUP: that is inherited."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _wait_for(path: Path, process: subprocess.Popen[str], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.skipif(os.name == "nt", reason="POSIX pipes")
def test_a_reader_that_leaves_is_no_error() -> None:
    command = f'"{sys.executable}" -m cli.main recipe schema; echo "status $?" >&2'
    process = subprocess.Popen(
        ["sh", "-c", command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == "status 0\n"
    process.wait(timeout=20)


def test_twenty_faults_are_shown(call: Call, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("version: 1\npasses:\n" + "- 5\n" * 30)
    result = call("recipe", "check", tmp_path / "r.yaml", "--json")
    assert len(result.stderr.splitlines()) == 21
    assert result.stderr.splitlines()[-1] == "... and 10 more"
    assert len(json.loads(result.stdout)["faults"]) == 30
    (tmp_path / "r.yaml").write_text("version: 1\npasses:\n" + "- 5\n" * 20)
    assert "more" not in call("recipe", "check", tmp_path / "r.yaml").stderr.splitlines()[-1]


# Names that act


EVIL = ["::error::one", "\n::add-mask::two", "##[error]three", "\x1b[2Jfour", "\u202efive", "six\r\n::warning::"]


@pytest.fixture
def evil(model: Path, tmp_path: Path) -> Path:
    """A model whose nodes, values, metadata and dimensions are called so."""
    proto = onnx.load(model)
    for node, name in zip(proto.graph.node, EVIL, strict=False):
        node.name = name
    named = {"w1": EVIL[3], "h": EVIL[1], "x": EVIL[5], "scores": EVIL[0]}
    for node in proto.graph.node:
        for names in (node.input, node.output):
            names[:] = [named.get(name, name) for name in names]
    for value in (*proto.graph.initializer, *proto.graph.input, *proto.graph.output):
        value.name = named.get(value.name, value.name)
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = EVIL[2]
    proto.producer_name, proto.doc_string = EVIL[1], EVIL[2]
    proto.metadata_props.add(key=EVIL[1], value=EVIL[2])
    path = tmp_path / f"m{EVIL[1]}.onnx".replace("\0", "")
    onnx.save(proto, path)
    return path


@pytest.mark.parametrize(
    "words",
    [
        ["inspect", "{}", "--nodes", "-v"],
        ["inspect", "{}", "--json"],
        ["quantize", "{}", "-o", "o.onnx", "-v", "--report", "r.md", "--report", "r.html", "--report", "r.json"],
        ["quantize", "{}", "-o", "o.onnx", "--dry-run", "-v"],
        ["prune", "{}", "-o", "o.onnx", "--no-measure", "-v"],
        ["prune", "{}", "-o", "o.onnx", "--ratio", "0.001"],
        ["run", "no\n::error::.yaml", "{}", "-o", "o.onnx"],
        ["quantize", "{}", "-o", "o.onnx", "--dim", "::error::\nx=3"],
        ["quantize", "{}", "-o", "o.onnx", "--provider", "\n::error::\x1b[0m"],
        ["quantize", "{}", "-o", "o.onnx", "--set", "\n::error::=\x1b[0m"],
        ["bench", "{}", "{}", "--seconds", "0.01"],
        ["recipe", "new", "{}"],
        ["\n::error::"],
        ["inspect", "{}", "--\x1b[0m\n::error::"],
        ["passes", "##[error]\n::error::"],
    ],
    ids=lambda words: ascii(" ".join(words))[:40],
)
def test_names_do_not_act(
    call: Call, evil: Path, tmp_path: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    result = call(*(word.format(evil) for word in words))
    assert result.exit_code in (0, 1, 2), result.stderr
    annotations = [line for line in result.stderr.splitlines() if line.startswith("::error")]
    others = [line for line in (result.stdout + result.stderr).splitlines() if line not in annotations]
    assert [line for line in others if line.lstrip().startswith("::") or "##[" in line] == []
    missed = sum(line.startswith("budget ") for line in result.stderr.splitlines())
    assert len(annotations) == (1 if result.exit_code == 2 else missed)
    written = [path.read_text() for path in tmp_path.iterdir() if path.suffix in (".md", ".html", ".json")]
    for text in (result.stdout, result.stderr, *written):
        assert text.replace("\n", "").isprintable()
