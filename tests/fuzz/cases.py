"""One case: a mutant, one of three commands on it, in a forked process of its own with limits; and how it ended.

A case is all in its seed and number. Whatever ends otherwise than documented has a kind that says how.
"""

from __future__ import annotations

import importlib
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NoReturn

import onnx

from .bases import BASES
from .data import write_data
from .mutate import mutated
from .recipes import recipe

CPU_SECONDS = 30
WALL_SECONDS = 120  # on a machine that others use too
MOST_MEMORY = 2 * 10**9  # bytes beyond what the process begins with
_ADDRESSES = 8 * 2**30
_DOCUMENTED = {0, 1, 2, 130}
_NOT_MADE = 99
_WRITTEN = r"out\.onnx(\.[0-9a-f]{8}\.data)?"
_TRAINED = r"out\.onnx\.step[0-9]+\.checkpoint\.npz"  # before a step that failed: --resume goes on there
_PRELOADED = (
    *("compress_ops.cli.main", "compress_ops.pipeline", "compress_ops.search.prospects", "compress_ops.catalogue"),
    *("compress_ops.report.inspection_page", "compress_ops.cli.execute", "compress_ops.cli.show", "onnxruntime"),
    *("compress_ops.cli.flags", "onnx_ir.passes.common", "onnxscript.optimizer", "onnxscript.rewriter", "zstandard"),
    *("rich.console", "rich.table", "rich.progress", "threadpoolctl", "onnx.version_converter", "PIL.Image", "sympy"),
)


@dataclass(frozen=True)
class Outcome:
    """How a case ended: ``kind`` is "exit 0" and the like, or what the fault is.

    ``memory`` is in bytes beyond what the process began with, ``told`` the beginning of stderr.
    """

    number: int
    base: str
    words: Sequence[str]
    kind: str
    fault: bool
    noisy: bool
    seconds: float
    memory: int
    told: str


@cache
def preload() -> None:
    """Import in the parent what every child needs, once."""
    for module in _PRELOADED:
        importlib.import_module(module)
    trials = importlib.import_module("compress_ops.search.trials")
    trials._SECONDS = 0.02  # speed is not what is tried here


@cache
def _bases() -> dict[str, bytes]:
    return {name: made().SerializeToString() for name, made in BASES.items()}


def base_of(seed: int, number: int) -> str:
    return random.Random(f"{seed} base {number // 3}").choice(list(BASES))


def make(seed: int, number: int, folder: Path) -> list[str]:
    """Write the files of a case into its folder and return its command line; three cases share a mutant."""
    original = onnx.load_from_string(_bases()[base_of(seed, number)])
    mutant = onnx.ModelProto.FromString(original.SerializeToString())
    (folder / "m.onnx").write_bytes(mutated(random.Random(f"{seed} mutant {number // 3}"), mutant, folder))
    rng = random.Random(f"{seed} case {number}")
    if number % 3 == 0:
        return ["inspect", "m.onnx", *rng.choice([[], ["--nodes"], ["--json"], ["--quiet"]])]
    data = write_data(rng, original, folder)
    if number % 3 == 1:
        kinds: list[list[str]] = [[], [], [], ["--bits", "4"], ["--bits", "8"], ["--float16"], ["--clusters", "16"]]
        given = ["--data", data] if rng.random() < 0.7 else []
        measured = ["--no-measure"] if rng.random() < 0.8 else ["--set", "measure.seconds=0.05"]
        return ["quantize", "m.onnx", "-o", "out.onnx", *rng.choice(kinds), *given, *measured]
    (folder / "recipe.yaml").write_text(recipe(rng, original, data), encoding="utf-8", newline="")
    more = ["--no-measure"] if rng.random() < 0.8 else []
    return ["run", "recipe.yaml", "m.onnx", "-o", "out.onnx", *more, *rng.choice([[], [], ["--check-steps"]])]


def run(seed: int, number: int, keep: Path | None = None) -> Outcome:
    """Run a case; the files of one with a fault are copied to ``keep``."""
    preload()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        for inner in ("work", "tmp", "home"):
            (folder / inner).mkdir()
        start = time.monotonic()
        child = os.fork()
        if child == 0:
            _child(seed, number, folder)
        status, memory = _wait(child, start + WALL_SECONDS)
        words = (folder / "words").read_text().split("\n") if (folder / "words").exists() else []
        told = [(folder / stream).read_text(errors="replace") for stream in ("stdout", "stderr")]
        kind, fault = _judge(status, memory, told[0], told[1], folder)
        noisy = bool(re.search(r"Warning: |\[[WEF]:onnxruntime", told[1]))
        seconds = time.monotonic() - start
        outcome = Outcome(number, base_of(seed, number), words, kind, fault, noisy, seconds, memory, told[1][:300])
        if fault and keep is not None:
            shutil.copytree(folder, keep / f"{number}-{re.sub(r'[^A-Za-z0-9]+', '-', kind)[:60]}", dirs_exist_ok=True)
    return outcome


def _child(seed: int, number: int, folder: Path) -> NoReturn:
    """The case itself; never returns into the parent's code."""
    status = _NOT_MADE
    try:
        for stream in (1, 2):
            os.dup2(os.open(folder / ("stdout", "stderr")[stream - 1], os.O_CREAT | os.O_WRONLY), stream)
        words = make(seed, number, folder / "work")
        (folder / "words").write_text("\n".join(words))
        (folder / "before").write_text("\n".join(_files(folder / "work")))
        os.chdir(folder / "work")
        os.environ |= {
            "TMPDIR": str(folder / "tmp"),
            "HOME": str(folder / "home"),
            "XDG_CACHE_HOME": str(folder / "home"),
        }
        os.environ.pop("GITHUB_STEP_SUMMARY", None)
        tempfile.tempdir = None
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 5))
        resource.setrlimit(resource.RLIMIT_AS, (_ADDRESSES, _ADDRESSES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        status = 3
        from compress_ops.cli.main import app

        app(words)
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _wait(child: int, until: float) -> tuple[int, int]:
    """The exit status of a child, negative for a signal, and the memory that it took beyond this process's own."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    while True:
        ended, status, usage = os.wait4(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status), max(0, usage.ru_maxrss - before) * 1024
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.005)


def _judge(status: int, memory: int, out: str, told: str, folder: Path) -> tuple[str, bool]:
    """What to call the ending, and whether it is a fault."""
    if status == _NOT_MADE:
        return "not made", False
    if status in (-signal.SIGXCPU, -signal.SIGKILL):
        return "hang", True
    if status < 0:
        return f"signal {signal.Signals(-status).name}", True
    if status not in _DOCUMENTED or "Traceback" in told:
        return f"exit {status}: {_place(told)}", True
    if bug := re.search(r"this is a bug in onnxpress: ([^\n\"]{0,80})", out):
        return f"inspect: {bug[1]}", True
    if memory > MOST_MEMORY:
        return "memory", True
    left = _left(folder, status)
    return (f"left {left}", True) if left else (f"exit {status}", False)


def _place(told: str) -> str:
    """The kind of exception, and the last line of ours that it went through."""
    frames = re.findall(r'File ".*/(compress_ops|cli)/(.*?)", line (\d+), in (\S+)', told)
    errors = re.findall(r"^([A-Za-z_.]*(?:Error|Exception|Interrupt|Warning|Exit|Iteration)\b[^\n]{0,60})", told, re.M)
    return f"{errors[-1] if errors else '?'} @ {'/'.join(frames[-1][:2]) + ':' + frames[-1][2] if frames else '?'}"


def _files(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*"))


def _left(folder: Path, status: int) -> str:
    """A file that should not be there."""
    before = set((folder / "before").read_text().split("\n"))
    new = [name for name in _files(folder / "work") if name not in before]
    allowed = re.compile(_WRITTEN if status in (0, 1) else _TRAINED)
    odd = [name for name in new if not allowed.fullmatch(name)] + _files(folder / "tmp")
    return odd[0] if odd else ""
