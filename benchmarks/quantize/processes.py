"""Tools in processes of their own, held to a time and a memory, and the environments of the peers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SECONDS = 600
GIGABYTES = 12.0
TORCH = "torch==2.13.0"
ENVIRONMENTS = {
    "onnxsim": ["onnxsim==0.8.1", "onnxruntime"],
    "nncf": [TORCH, "nncf", "onnx", "onnxruntime"],
    "quark": [TORCH, "amd-quark", "onnxruntime"],
    "olive": [TORCH, "olive-ai", "onnxruntime", "requests"],
}
"""What pip installs for each peer; Olive imports requests without declaring it."""
_QUIET = {"OLIVE_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1", "CI": "1"}


@dataclass(frozen=True)
class Ran:
    """What a process took, its gigabytes at the most, why it failed where it did, and its exit status."""

    seconds: float
    cpu: float
    gigabytes: float
    fault: str = ""
    status: int = 0


def run(command: Sequence[str], fine: Sequence[int] = (0,), seconds: float = SECONDS) -> Ran:
    """Run a command to its end, or to one of the limits; ``fine`` are exit statuses that are no fault."""
    start = time.perf_counter()
    with tempfile.TemporaryFile() as told:
        process = subprocess.Popen(
            command, stdout=told, stderr=subprocess.STDOUT, start_new_session=True, env={**os.environ, **_QUIET}
        )
        limit, peak = _watch(process, start + seconds)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        told.seek(0)
        fault = limit or ("" if process.returncode in fine else _last_line(told.read().decode(errors="replace")))
    return Ran(time.perf_counter() - start, usage.ru_utime + usage.ru_stime, peak, fault, process.returncode)


def _watch(process: subprocess.Popen[bytes], end: float) -> tuple[str, float]:
    """Wait for the process without reaping it; kill it, and say why, where it goes over a limit. Its peak in GB, too.

    The peak is not that of wait4, which begins with what this process held when it forked.
    """
    peak = 0.0
    while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        peak = max(peak, _peak(process.pid))
        late, large = time.perf_counter() > end, peak > GIGABYTES
        if late or large:
            os.killpg(process.pid, signal.SIGKILL)
            return "killed: out of time" if late else f"killed: over {GIGABYTES:.0f} GB", peak
        time.sleep(0.05)
    return "", peak


def _peak(pid: int) -> float:
    """Gigabytes that a process held at the most so far (Linux)."""
    told = Path(f"/proc/{pid}/status").read_text()
    return sum(int(line.split()[1]) for line in told.splitlines() if line.startswith("VmHWM")) / 1e6


def _last_line(told: str) -> str:
    """The message of a traceback: its last line, and the place where that says nothing but its type."""
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    return lines[-1][:160] if lines else "no message"


def python_of(peer: str, folder: Path) -> Path:
    """The peer's own Python, its environment made where it is not there yet; raises OSError where that fails."""
    home = folder / f"venv-{peer}"
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        print(f"making {home}", file=sys.stderr)
        venv.create(home, with_pip=True, clear=True)
        made = run([str(python), "-m", "pip", "install", "--quiet", *ENVIRONMENTS[peer]], seconds=1800)
        if made.fault:
            raise OSError(f"cannot be installed: {made.fault}")
        (home / "ready").touch()
    return python
