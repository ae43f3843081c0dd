"""Standard output and error as shells leave them: closed, full, ASCII, without a reader; and a folder that is gone."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX shells")
FULL = Path("/dev/full")


def shell(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the shell in which ``onnxpress`` is the program."""
    program = shlex.join([sys.executable, "-m", "cli.main"])
    script = f'onnxpress() {{ {program} "$@"; }}; cd {shlex.quote(str(folder))}; {command}'
    return subprocess.run(
        ["bash", "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


RUN = "onnxpress run recipe.yaml model.onnx -o small.onnx --no-measure"
needs_full = pytest.mark.skipif(not FULL.is_char_device(), reason="no /dev/full here")


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("onnxpress recipe new >&-", 0),
        ("onnxpress recipe new 2>&-", 0),
        (f"{RUN} <&- >&- 2>&-", 0),
        ("onnxpress recipe check absent.yaml 2>&-", 2),
        ("onnxpress --help >&-", 0),
        ("set -o pipefail; onnxpress recipe schema | true", 0),
        ("set -o pipefail; onnxpress --help | true", 0),
        (f"LC_ALL=C PYTHONUTF8=0 PYTHONIOENCODING=ascii {RUN}", 0),
        ("LC_ALL=C PYTHONIOENCODING=ascii onnxpress recipe check nö.yaml", 2),
        pytest.param(f"{RUN} --json >/dev/full", 1, marks=needs_full),
        pytest.param("onnxpress recipe new 2>/dev/full", 0, marks=needs_full),
        pytest.param("onnxpress recipe new >/dev/full 2>/dev/full", 1, marks=needs_full),
        pytest.param("onnxpress --help >/dev/full", 1, marks=needs_full),
        pytest.param("onnxpress recipe check absent.yaml 2>/dev/full", 2, marks=needs_full),
        ("mkdir d; cd d; rmdir ../d; onnxpress recipe new", 2),
        ("mkdir d; cd d; rmdir ../d; onnxpress --help", 0),
    ],
)
def test_the_exit_status_is_the_documented_one(
    command: str, status: int, model: Path, recipe: Path, tmp_path: Path
) -> None:
    done = shell(command, tmp_path)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    assert (tmp_path / "small.onnx").exists() == (RUN in command)
    assert not list(tmp_path.glob(".onnxpress*"))


@needs_full
def test_a_full_output_is_told(tmp_path: Path) -> None:
    told = shell("onnxpress recipe new >/dev/full", tmp_path).stderr
    assert told == "error: cannot write to the standard output: No space left on device\n"


def test_a_closed_output_does_not_give_its_number_to_a_file(tmp_path: Path) -> None:
    """Otherwise what is printed would land in the file that is being written."""
    done = shell("onnxpress recipe new -o closed.yaml >&- 2>&-; onnxpress recipe new >open.yaml", tmp_path)
    assert done.returncode == 0
    assert (tmp_path / "closed.yaml").read_text() == (tmp_path / "open.yaml").read_text()


def test_a_full_disk_is_status_2_and_leaves_nothing(model: Path, recipe: Path, tmp_path: Path) -> None:
    """A limit on the size of files is refused by the system as a full disk is."""
    (tmp_path / "temporary").mkdir()
    before = sorted(tmp_path.iterdir())
    done = shell(f"ulimit -f 4; {RUN}", tmp_path, TMPDIR=str(tmp_path / "temporary"))  # kB: less than the model
    assert (done.returncode, "File too large" in done.stderr) == (2, True), done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(tmp_path.iterdir()) == before
    assert not list((tmp_path / "temporary").glob(".onnxpress*"))


def test_a_disk_that_fills_up_after_the_result_is_status_1(
    call, model: Path, recipe: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    import compress_ops.files.writing as writing

    def put(path: Path, to: Path, *, force: bool) -> None:
        if to.suffix in (".md", ".yaml"):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, to, force=force)

    real = writing.put_in_place
    monkeypatch.setattr(writing, "put_in_place", put)
    words = ["quantize", model, "-o", out, "--no-measure", "--recipe-out", tmp_path / "r.yaml"]
    result = call(*words, "--report", tmp_path / "r.md", "--report", tmp_path / "r.html")
    assert result.exit_code == 1
    assert out.exists() and (tmp_path / "r.html").exists() and not (tmp_path / "r.md").exists()
    assert result.stdout.startswith("model.onnx -> small.onnx")
    assert [line for line in result.stderr.splitlines() if line.startswith("error: ")] == [
        f"error: cannot write {tmp_path}/r.yaml: No space left on device",
        f"error: cannot write {tmp_path}/r.md: No space left on device",
    ]
    assert f"{out} was written all the same" in result.stderr
    result = call("bench", model, "--seconds", "0.01", "--json", "--report", tmp_path / "r.md")
    assert result.exit_code == json.loads(result.stdout)["exit_status"] == 1
