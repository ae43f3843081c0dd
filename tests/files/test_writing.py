"""The one door for writing: whole or not at all, never over somebody's file unasked, nothing left behind."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import compress_ops.files.temporary as temporary
from compress_ops.errors import OutputError
from compress_ops.files.temporary import remove_leftovers, temporary_file, temporary_folder
from compress_ops.files.writing import append, write

LINKS = ["hard links", "no hard links"]


@pytest.fixture(params=LINKS)
def links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With hard links, and as on file systems that have none."""

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    if request.param == "no hard links":
        monkeypatch.setattr(os, "link", refused)


@pytest.mark.usefixtures("links")
@pytest.mark.parametrize("force", [False, True])
def test_a_new_file(tmp_path: Path, force: bool) -> None:
    write(tmp_path / "a", "text é", force=force)
    write(tmp_path / "b", b"\xff", force=force)
    write(tmp_path / "c", lambda path: path.write_text("by function"), force=force)
    assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == ["text é".encode(), b"\xff", b"by function"]


@pytest.mark.usefixtures("links")
def test_what_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    def content(path: Path) -> None:
        path.write_text("mine")
        (tmp_path / "a").write_text("yours")

    with pytest.raises(OutputError, match="has appeared meanwhile, and is not replaced"):
        write(tmp_path / "a", content, force=False)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "yours"}
    write(tmp_path / "a", content, force=True)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "mine"}


@pytest.mark.usefixtures("links")
@pytest.mark.parametrize("kind", ["dangling link", "link", "pipe", "folder"])
@pytest.mark.parametrize("force", [False, True])
def test_what_appears_meanwhile_and_is_no_file(tmp_path: Path, kind: str, force: bool) -> None:
    def content(path: Path) -> None:
        path.write_text("mine")
        place = tmp_path / "place"
        match kind:
            case "dangling link":
                place.symlink_to("nowhere")
            case "link":
                (tmp_path / "target").touch()
                place.symlink_to("target")
            case "pipe":
                os.mkfifo(place)
            case "folder":
                place.mkdir()

    with pytest.raises(OutputError):
        write(tmp_path / "place", content, force=force)
    assert {path.name for path in tmp_path.iterdir()} <= {"place", "target"}
    assert not (tmp_path / "place").is_file() or kind == "link"


@pytest.mark.usefixtures("links")
def test_of_many_writers_at_once_one_wins(tmp_path: Path) -> None:
    """Each has its say in a whole file; all but one are told that they came too late."""
    barrier, late = threading.Barrier(8), []

    def writer(number: int) -> None:
        def content(path: Path) -> None:
            path.write_text(str(number) * 10_000)
            barrier.wait()

        try:
            write(tmp_path / "a", content, force=False)
        except OutputError:
            late.append(number)

    threads = [threading.Thread(target=writer, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = set(range(8)) - set(late)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": str(winner) * 10_000}


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, error: int) -> None:
    (tmp_path / "a").write_text("old")

    def content(path: Path) -> None:
        path.write_text("ha")
        raise OSError(error, os.strerror(error))

    with pytest.raises(OutputError, match=f"cannot write .*a: {os.strerror(error)}"):
        write(tmp_path / "a", content, force=True)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old"}


def test_append(tmp_path: Path) -> None:
    append(tmp_path / "a", "one\n")
    append(tmp_path / "a", "two\n")
    assert (tmp_path / "a").read_text() == "one\ntwo\n"
    with pytest.raises(OutputError, match="cannot write"):
        append(tmp_path, "three")


# Whose a temporary file is


def name(place: str = temporary._place(), pid: int = os.getpid(), start: int | None = None) -> str:
    began = temporary._start_of(pid) if start is None else start
    return f".onnxpress-{place}-{pid}-{began}-0123abcd.tmp"


@pytest.fixture(scope="module")
def dead() -> int:
    """The number of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.skipif(os.name == "nt", reason="POSIX processes")
def test_only_what_is_known_to_be_dead_is_swept(tmp_path: Path, dead: int) -> None:
    lets = {
        name(): "lives",
        name(pid=1): "another's, lives",
        name(place="00000000", pid=dead): "of another machine",
        name(pid=dead, start=5).replace("0123abcd", "zzzz"): "of another program",
        f".{name(pid=dead, start=5)}": "of another program",
        "model.onnx": "somebody's",
    }
    goes = [name(pid=dead, start=5), name(start=1)]  # the second: the number was given again
    for each in [*lets, *goes]:
        (tmp_path / each).write_text("x")
    (tmp_path / name(pid=dead, start=7)).mkdir()
    (tmp_path / name(pid=dead, start=7) / "model.onnx").write_text("x")
    write(tmp_path / "out", "text", force=False)
    assert {path.name for path in tmp_path.iterdir()} == {*lets, "out"}


def test_temporary_names_differ(tmp_path: Path) -> None:
    with temporary_file(tmp_path) as one, temporary_file(tmp_path) as two, temporary_folder() as three:
        assert len({one, two, three}) == 3
        assert one.name.startswith(f".onnxpress-{temporary._place()}-{os.getpid()}-")
        assert three.is_dir() and not one.exists()
    assert not three.exists()


def test_leftovers_of_an_interrupted_cleaning_up(tmp_path: Path) -> None:
    opened = temporary_folder(tmp_path), temporary_file(tmp_path)
    folder, file = (one.__enter__() for one in opened)
    (folder / "a").touch(), file.touch()
    remove_leftovers()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/ns/pid").exists(), reason="Linux")
def test_the_place_differs_by_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    here = temporary._place.__wrapped__()
    monkeypatch.setattr(os, "readlink", lambda path: "pid:[1]")
    assert temporary._place.__wrapped__() != here
