"""Hostile places: what any flag may name, in every state that a file system knows. Nothing is lost, nothing hangs."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Call

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX files")

Make = Callable[[Path], Path]


def _file(path: Path) -> Path:
    path.write_text("somebody's work")
    return path


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def _socket(path: Path) -> Path:
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket must be short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)
    return path


def _link(make: Make) -> Make:
    def made(path: Path) -> Path:
        path.symlink_to(make(path.with_name(f"target-{path.name}")))
        return path

    return made


def _loop(path: Path) -> Path:
    path.symlink_to(path.name)
    return path


def _below(make: Make) -> Make:
    return lambda path: make(path.with_name("elsewhere")) / path.name


def _long(length: int) -> Make:
    return lambda path: path.with_name("n" * (length - len(path.name)) + path.name)


def _absent(path: Path) -> Path:
    return path


def _odd(name: str) -> Make:
    return lambda path: path.with_name(name + path.name)


IRREGULAR: dict[str, tuple[Make, str]] = {
    "folder": (_folder, "is a folder"),
    "pipe": (_pipe, "is a pipe"),
    "socket": (_socket, "is a socket"),
    "link to a file": (_link(_file), "is a link"),
    "link to a pipe": (_link(_pipe), "is a link"),
    "link to a folder": (_link(_folder), "is a link"),
    "dangling link": (_link(_absent), "is a link"),
    "link to itself": (_loop, "is a link"),
    "no folder": (_below(_absent), "does not exist"),
    "file as folder": (_below(_file), "does not exist"),
    "pipe as folder": (_below(_pipe), "does not exist"),
    "name of 5000": (_long(5000), "File name too long"),
    "name of 256": (_long(256), "File name too long"),
}
_UNTRIED = ("--bits", "8", "--no-measure")  # no choice by speed
OUTPUTS = {
    "run -o": ("run", "{recipe}", "{model}", "-o", "{}.onnx", "--no-measure"),
    "run --report md": ("run", "{recipe}", "{model}", "-o", "{out}", "--no-measure", "--report", "{}.md"),
    "run --dry-run --report": ("run", "{recipe}", "{model}", "--dry-run", "--report", "{}.json"),
    "quantize -o": ("quantize", "{model}", "-o", "{}.onnx", *_UNTRIED),
    "quantize --recipe-out": ("quantize", "{model}", "-o", "{out}", *_UNTRIED, "--recipe-out", "{}.yaml"),
    "distill -o": ("distill", "{model}", "--teacher", "{model}", "--data", "{data}", "-o", "{}.onnx"),
    "recipe new -o": ("recipe", "new", "-o", "{}.yaml"),
    "compare --report": ("compare", "{model}", "{model}", "--seconds", "0.01", "--report", "{}.json"),
    "bench --report": ("bench", "{model}", "--seconds", "0.01", "--report", "{}.html"),
}


@pytest.fixture
def told(call: Call, recipe: Path, model: Path, data: Path, out: Path, tmp_path: Path) -> Callable[..., str]:
    """A command whose faults are told and change nothing; gives what it says."""
    (tmp_path / "places").mkdir()

    def run(command: tuple[str, ...], place: object = "") -> str:
        before = _state(tmp_path)
        names = {"recipe": recipe, "model": model, "data": data, "out": out}
        result = call(*(word.format(place, **names) for word in command))
        assert result.exit_code == 2, (result.exit_code, result.stderr, result.stdout)
        assert result.stdout == ""
        assert "Traceback" not in result.stderr
        assert _state(tmp_path) == before
        return result.stderr

    return run


def _state(folder: Path) -> dict[str, object]:
    """All that is in a folder: kinds, inodes, contents."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else stat.S_IFMT(status.st_mode)
        found[str(path)] = (status.st_ino, content)
    return found


def _at(make: Make, folder: Path, command: tuple[str, ...]) -> Path:
    """The place, without the ending that the command's words add."""
    (ending,) = (word.removeprefix("{}") for word in command if word.startswith("{}"))
    made = make(folder / f"x{ending}")
    return made.with_name(made.name.removesuffix(ending))


CASES = [(state, False) for state in IRREGULAR] + [
    (state, True) for state in IRREGULAR if "link" in state or state == "pipe"
]


MODELS = {"run -o", "quantize -o", "distill -o"}  # which go into a folder that is there
IRREGULAR_CASES = [
    (output, *case) for output in OUTPUTS for case in CASES if not (output in MODELS and case[0] == "folder")
]


@pytest.mark.parametrize(("output", "state", "force"), IRREGULAR_CASES)
def test_an_output_that_is_no_regular_file(
    told: Callable[..., str], tmp_path: Path, output: str, state: str, force: bool
) -> None:
    make, word = IRREGULAR[state]
    command = (*OUTPUTS[output], *(["--force"] if force else []))
    assert word in told(command, _at(make, tmp_path / "places", command))


@pytest.mark.parametrize("output", OUTPUTS)
def test_an_output_that_exists_is_not_replaced(told: Callable[..., str], tmp_path: Path, output: str) -> None:
    place = _at(_file, tmp_path / "places", OUTPUTS[output])
    assert "exists already\n  give --force" in told(OUTPUTS[output], place)


@pytest.mark.parametrize("output", [name for name in OUTPUTS if name != "distill -o"])
def test_force_replaces_a_regular_file(
    call: Call, recipe: Path, model: Path, out: Path, tmp_path: Path, output: str
) -> None:
    names = {"recipe": recipe, "model": model, "out": out}
    place = tmp_path / "places" / "x"
    place.parent.mkdir()
    words = [word.format(place, **names) for word in OUTPUTS[output]]
    (old,) = (Path(word) for word in words if word.startswith(str(place)))
    _file(old)
    result = call(*words, "--force")
    assert result.exit_code == 0, result.stderr
    assert old.read_text(errors="replace") != "somebody's work"
    assert [path.name for path in place.parent.iterdir()] == [old.name]


INPUTS = {
    "run RECIPE": ("run", "{}.yaml", "{model}", "-o", "{out}"),
    "run MODEL": ("run", "{recipe}", "{}.onnx", "-o", "{out}"),
    "run --data": ("run", "{recipe}", "{model}", "-o", "{out}", "--data", "{}.npz"),
    "run --data npy": ("run", "{recipe}", "{model}", "-o", "{out}", "--data", "{}.npy"),
    "recipe check": ("recipe", "check", "{}.yaml", "{model}"),
    "recipe check MODEL": ("recipe", "check", "{recipe}", "{}.onnx"),
    "quantize MODEL": ("quantize", "{}.onnx", "-o", "{out}"),
    "quantize --evaluation": ("quantize", "{model}", "-o", "{out}", "--evaluation", "{}.npz", "--labels", "label"),
    "distill --teacher": ("distill", "{model}", "--teacher", "{}.onnx", "--data", "{data}", "-o", "{out}"),
    "inspect": ("inspect", "{}.onnx"),
    "inspect --data": ("inspect", "{model}", "--sensitivity", "quantize", "--data", "{}.npz"),
    "compare": ("compare", "{model}", "{}.onnx"),
    "compare --data": ("compare", "{model}", "{model}", "--data", "{}.npz"),
    "bench": ("bench", "{}.onnx"),
}
UNREADABLE: dict[str, tuple[Make, str]] = {
    "folder": (_folder, "folder"),
    "pipe": (_pipe, "is a pipe, not a regular file"),
    "socket": (_socket, "is a socket, not a regular file"),
    "link to a pipe": (_link(_pipe), "is a pipe, not a regular file"),
    "dangling link": (_link(_absent), "does not exist"),
    "link to itself": (_loop, "Too many levels of symbolic links"),
    "absent": (_absent, "does not exist"),
    "no folder": (_below(_absent), "does not exist"),
    "file as folder": (_below(_file), "does not exist"),
    "name of 5000": (_long(5000), "File name too long"),
}


@pytest.mark.parametrize("state", UNREADABLE)
@pytest.mark.parametrize("given", INPUTS)
def test_an_input_that_is_no_regular_file(told: Callable[..., str], tmp_path: Path, given: str, state: str) -> None:
    make, word = UNREADABLE[state]
    assert word in told(INPUTS[given], _at(make, tmp_path / "places", INPUTS[given]))


SAME = {
    "result and report": (("-o", "{places}/a.json", "--report", "{places}/a.json"), "is also the result"),
    "result and report by a detour": (("-o", "{places}/../places/a.md", "--report", "{places}/a.md"), "the result"),
    "result and report by a linked folder": (("-o", "{linked}/a.md", "--report", "{places}/a.md"), "the result"),
    "report and report": (("--report", "{places}/a.md", "--report", "{places}/a.md"), "what --report names"),
    "result and model": (("-o", "{model}"), "is also the model, which is read"),
    "result and a hard link of the model": (("-o", "{hard}"), "is also the model, which is read"),
    "result and recipe": (("-o", "{recipe}"), "is also the recipe, which is read"),
    "result and data": (("-o", "{data}"), "is also the evaluation data, which is read"),
    "report and model": (("--report", "{json_model}"), "is also the model, which is read"),
    "report and summary": (("--report", "{summary}"), "GITHUB_STEP_SUMMARY"),
}


@pytest.mark.parametrize("force", [False, True], ids=["", "force"])
@pytest.mark.parametrize("case", SAME)
def test_two_names_of_one_file(
    told: Callable[..., str], model: Path, recipe: Path, data: Path, tmp_path: Path, case: str, force: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    places = tmp_path / "places"
    names = {"places": places, "linked": tmp_path / "linked", "hard": tmp_path / "hard.onnx", "model": model}
    names |= {"recipe": recipe, "data": data, "json_model": tmp_path / "m.json", "summary": tmp_path / "summary.md"}
    names["linked"].symlink_to(places)
    os.link(model, names["hard"])
    os.link(model, names["json_model"])
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(names["summary"]))
    flags, word = SAME[case]
    result = ("-o", "{out}") if flags[0] != "-o" else ()
    words = [str(each).format(**names) for each in flags]
    stderr = told(("run", "{recipe}", "{model}", *result, *words, *(["--force"] if force else [])))
    assert word in stderr


def test_all_faults_are_told_together(told: Callable[..., str], tmp_path: Path) -> None:
    places = tmp_path / "places"
    _file(places / "a.md"), _folder(places / "b.html"), _file(places / "c.onnx"), _pipe(places / "m.onnx")
    reports = [word for name in ("a.md", "b.html", "none/c.json") for word in ("--report", str(places / name))]
    stderr = told(("run", "{recipe}", str(places / "m.onnx"), "-o", str(places / "c.onnx"), *reports))
    for word in ("a.md exists already", "b.html is a folder", "none does not exist", "c.onnx exists", "is a pipe"):
        assert word in stderr


def test_external_data_of_the_model_is_an_input(told: Callable[..., str], model: Path, tmp_path: Path) -> None:
    import onnx

    onnx.save(onnx.load(model), tmp_path / "x.onnx", save_as_external_data=True, location="w.md", size_threshold=0)
    command = (
        "run",
        "{recipe}",
        str(tmp_path / "x.onnx"),
        "-o",
        "{out}",
        "--force",
        "--report",
        str(tmp_path / "w.md"),
    )
    assert "w.md is also the model, which is read" in told(command)


def test_a_report_may_not_fall_among_the_data(told: Callable[..., str], data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "feeds"
    folder.mkdir()
    data.rename(folder / "0.npz")
    command = ("quantize", "{model}", "-o", str(folder / "1.npz"), "--data", str(folder))
    assert "1.npz is also a file of the calibration data" in told(command)


SUMMARIES: dict[str, tuple[Make, str]] = {
    name: IRREGULAR[name] for name in ("folder", "pipe", "socket", "no folder", "file as folder", "name of 5000")
} | {"link to a pipe": (_link(_pipe), "is a pipe"), "link to a folder": (_link(_folder), "is a folder")}


@pytest.mark.parametrize("output", ["run -o", "run --dry-run --report", "compare --report", "bench --report"])
@pytest.mark.parametrize("state", SUMMARIES)
def test_a_step_summary_that_cannot_be_added_to(
    told: Callable[..., str], tmp_path: Path, state: str, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, word = SUMMARIES[state]
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(make(tmp_path / "places" / "summary.md")))
    stderr = told(OUTPUTS[output], tmp_path / "places" / "fresh")
    assert word in stderr and "GITHUB_STEP_SUMMARY" in stderr


def test_a_step_summary_is_added_to(call: Call, recipe: Path, model: Path, out: Path, tmp_path: Path) -> None:
    summary = _file(tmp_path / "summary.md")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GITHUB_STEP_SUMMARY", str(summary))
        assert call("run", recipe, model, "-o", out, "--no-measure").exit_code == 0
    assert summary.read_text().startswith("somebody's work## model.onnx")


NAMES = ["\n::error::x", "\x1b[31mred", "\u202eevil", "a b", "-", "\udcff", "é", "[bold]", "%0A", "`|<b>"]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
@pytest.mark.parametrize("output", ["run -o", "run --report md", "quantize --recipe-out"])
def test_odd_names_are_written_to_and_shown_harmlessly(
    call: Call, recipe: Path, model: Path, out: Path, tmp_path: Path, output: str, name: str
) -> None:
    place = tmp_path / "places" / f"{name}x"
    place.parent.mkdir()
    words = [word.format(place, recipe=recipe, model=model, out=out) for word in OUTPUTS[output]]
    for result in (call(*words), call(*words)):
        shown = result.stdout + result.stderr
        assert "Traceback" not in shown and result.exit_code in (0, 2)
        assert all(each.isprintable() for each in shown.replace("\n", ""))
        assert not any(line.lstrip().startswith("::") for line in shown.splitlines())
    assert ("is not UTF-8" if name == "\udcff" and output == "run -o" else "exists already") in result.stderr
    assert len(list(place.parent.iterdir())) == ("exists already" in result.stderr)


def test_what_lacks_rights_is_told(told: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root nothing lacks rights, so that the system's answer is put in its place."""
    import errno

    def refused(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "touch", refused)
    assert "is not writable: Permission denied" in told(OUTPUTS["run -o"], tmp_path / "places" / "x")
    monkeypatch.setattr("compress_ops.files.reading.kind_of", refused)
    assert "cannot be read: Permission denied" in told(("inspect", "{model}"))


@pytest.mark.skipif(not Path("/dev/null").is_char_device(), reason="no devices here")
def test_devices_are_known_as_such() -> None:
    """Asked, never written to."""
    from compress_ops.files.reading import unreadable
    from compress_ops.files.writing import Output, output_faults

    assert unreadable(Path("/dev/zero")) == unreadable(Path("/dev/null")) == "is a device, not a regular file"
    for appended in (False, True):
        (fault,) = output_faults([Output(Path("/dev/null"), appended=appended)], force=True)
        assert "is a device; nothing but a regular file is replaced" in fault.message


def test_a_pipe_of_the_shell_is_no_recipe() -> None:
    """``<(...)``: what is read twice, or again for a replay, must still be there."""
    reading, writing = os.pipe()
    try:
        from compress_ops.files.reading import unreadable

        assert unreadable(Path(f"/dev/fd/{reading}")).startswith("is a pipe")
    finally:
        os.close(reading), os.close(writing)
