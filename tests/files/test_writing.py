"""The one door for writing: whole or not at all, never over somebody's file unasked, nothing left behind."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

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


REAL = re.compile(r"\.onnxpress-(?P<place>[0-9a-f]{8})-(?P<pid>[0-9]+)-(?P<start>[0-9]+)-[0-9a-f]{8}\.tmp")
NAMED = """import os, sys
if len(sys.argv) > 1:
    os.readlink = lambda path: sys.argv[1]
from compress_ops.files.temporary import temporary_folder
with temporary_folder() as folder:
    print(folder.name, flush=True)
    sys.stdin.read()
"""


def parts(name: str) -> dict[str, str]:
    return REAL.fullmatch(name).groupdict()


@pytest.fixture(scope="module")
def mine() -> dict[str, str]:
    """What a name of this process says of its place, its number and its start."""
    with temporary_folder() as folder:
        return parts(folder.name)


def name(owner: dict[str, str], **other: object) -> str:
    return ".onnxpress-{place}-{pid}-{start}-0123abcd.tmp".format(**{**owner, **other})


@contextmanager
def another(*words: str) -> Iterator[dict[str, str]]:
    """A process that lives and has a temporary folder: what its name says."""
    command = [sys.executable, "-c", NAMED, *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield parts(process.stdout.readline().strip())
        process.stdin.close()


@pytest.fixture(scope="module")
def dead() -> int:
    """The number of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.skipif(os.name == "nt", reason="POSIX processes")
def test_only_what_is_known_to_be_dead_is_swept(tmp_path: Path, mine: dict[str, str], dead: int) -> None:
    with another() as theirs:
        lets = {
            name(mine): "lives",
            name(theirs): "another's, lives",
            name(mine, place="00000000", pid=dead, start=5): "of another machine",
            name(mine, pid=dead, start=5).replace("0123abcd", "zzzz"): "of another program",
            f".{name(mine, pid=dead, start=5)}": "of another program",
            "model.onnx": "somebody's",
        }
        goes = [name(mine, pid=dead, start=5), name(mine, start=1)]  # the second: the number was given again
        for each in [*lets, *goes]:
            (tmp_path / each).write_text("x")
        folder = tmp_path / name(mine, pid=dead, start=7)
        folder.mkdir()
        (folder / "model.onnx").write_text("x")
        write(tmp_path / "out", "text", force=False)
    assert {path.name for path in tmp_path.iterdir()} == {*lets, "out"}


def test_temporary_names_differ(tmp_path: Path, mine: dict[str, str]) -> None:
    with temporary_file(tmp_path) as one, temporary_file(tmp_path) as two, temporary_folder() as three:
        assert len({one, two, three}) == 3
        assert parts(one.name) == mine and mine["pid"] == str(os.getpid())
        assert three.is_dir() and not one.exists()
    assert not three.exists()


def test_leftovers_of_an_interrupted_cleaning_up(tmp_path: Path) -> None:
    opened = temporary_folder(tmp_path), temporary_file(tmp_path)
    folder, file = (one.__enter__() for one in opened)
    (folder / "a").touch(), file.touch()
    remove_leftovers()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/ns/pid").exists(), reason="Linux")
def test_the_place_differs_by_namespace(mine: dict[str, str]) -> None:
    with another() as same, another("pid:[1]") as other:
        assert same["place"] == mine["place"] != other["place"]
