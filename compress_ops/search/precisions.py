"""What quantize chooses for an execution provider that is not the CPU: by what it computes fast, not by trials.

For CUDA see OperatorKernels.md of onnxruntime; for the others it is what is known of them, measured on none. Where a
provider's integer support is not known for sure float16 is taken, which all of them compute.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Passes = list[dict[str, dict[str, Any]]]
_FLOAT16: Passes = [{"to_float16": {}}]
_QDQ: Passes = [{"quantize_static": {}}]
_SIGNED: Passes = [{"quantize_static": {"activation_type": "int8", "portable": False}}]


@dataclass(frozen=True)
class Default:
    """What to do with calibration data, in words too, and why. Without data it is float16 where that is other."""

    name: str
    passes: Passes
    why: str


_DEFAULTS: Mapping[str, Default] = {
    "cuda": Default("float16", _FLOAT16, "it has tensor cores for float16, and next to no integer kernels"),
    "rocm": Default("float16", _FLOAT16, "it has matrix cores for float16, and next to no integer kernels"),
    "tensorrt": Default("int8, symmetric QDQ", _SIGNED, "it fuses signed codes with zero points of 0 alone"),
    "openvino": Default("int8, QDQ", _QDQ, "it fuses Q/DQ with fixed ranges into integer kernels"),
    "qnn": Default("int8, QDQ", _QDQ, "it fuses Q/DQ with fixed ranges into integer kernels"),
    "coreml": Default("float16", _FLOAT16, "it has no integer kernels for ONNX's quantized operators"),
    "dml": Default("float16", _FLOAT16, "GPUs compute it fast; int8 depends on the GPU, so measure it"),
}
_OTHER = Default("float16", _FLOAT16, "what it computes in integers is not known here")
_NO_DATA = "; int8 there needs calibration data (--data)"


def default_of(provider: str, *, with_data: bool) -> Default | None:
    """What is chosen for a provider; None for the CPU, where trials decide."""
    if provider == "cpu":
        return None
    found = _DEFAULTS.get(provider, _OTHER)
    if with_data or found.passes == _FLOAT16:
        return found
    return Default("float16", _FLOAT16, found.why + _NO_DATA)


def reason_of(provider: str, *, with_data: bool) -> str:
    """The choice in a sentence; empty for the CPU."""
    found = default_of(provider, with_data=with_data)
    return f"{found.name} is chosen for '{provider}': {found.why}" if found else ""
