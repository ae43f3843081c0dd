"""What a timing depends on besides the model: provider, threads, processor, device and versions."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..providers import facts_of
from ..runtime import onnxruntime_module

_CPUINFO = Path("/proc/cpuinfo")
_TELLING: tuple[str, ...] = (
    "avx",
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_int8",
)
_TELLING += ("amx_bf16", "amx_fp16", "asimd", "asimddp", "i8mm", "bf16", "sve", "sve2")
"""Instruction sets that decide which of onnxruntime's kernels run (x86, then Arm)."""


@dataclass(frozen=True)
class Environment:
    """Where and with what a measurement was made. ``device`` names an accelerator and its driver, if one is used."""

    provider: str
    threads: int
    cpu: str
    cpu_features: tuple[str, ...]
    cores: int
    device: str | None
    system: str
    python: str
    onnxruntime: str
    onnxpress: str


def describe_environment(provider: str, threads: int) -> Environment:
    """The environment of this process, for a model run on ``provider`` with ``threads`` threads."""
    return Environment(
        provider=provider,
        threads=threads,
        cpu=_cpuinfo().get("model name") or platform.processor() or platform.machine(),
        cpu_features=cpu_features(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        device=_nvidia_device() if facts_of(provider).is_nvidia else None,
        system=platform.platform(),
        python=platform.python_version(),
        onnxruntime=onnxruntime_module().__version__,
        onnxpress=tool_version(),
    )


def cpu_features() -> tuple[str, ...]:
    """The instruction sets of this processor that decide which kernels run; none where the system does not tell."""
    facts = _cpuinfo()
    flags = (facts.get("flags") or facts.get("Features") or "").split()
    return tuple(name for name in _TELLING if name in flags)


def _cpuinfo() -> dict[str, str]:
    """The first processor's entries in /proc/cpuinfo; empty where there is no such file."""
    if not _CPUINFO.is_file():
        return {}
    first = _CPUINFO.read_text().split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _nvidia_device() -> str | None:
    """Name and driver version of the GPUs, as nvidia-smi gives them."""
    if (tool := shutil.which("nvidia-smi")) is None:
        return None
    query = [tool, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True, check=False, timeout=30)
    return "; ".join(answer.stdout.split("\n")).strip("; ") or None


def tool_version() -> str:
    """The installed version of onnxpress."""
    try:
        return version("onnxpress")
    except PackageNotFoundError:
        return "not installed"
