"""What is known of each execution provider; adding one is adding an entry to ``PROVIDERS``.

Kernels of CUDA: OperatorKernels.md of onnxruntime. Of the others it is what is known of them; no GPU was there to
measure it on. OpenVINO was measured (onnxruntime-openvino 1.24.1, one thread; processor time of a small transformer):
float 1.7 ms, Q/DQ 1.2, dynamic 3.4. What a provider has no kernel for onnxruntime gives to the CPU, with copies there
and back around each node; what has kernels for QuantizeLinear and DequantizeLinear alone computes in float between.

Tensor cores are used best where sizes are multiples of 16 bytes (NVIDIA, "Matrix Multiplication Background User's
Guide", section on tensor core requirements): 16 numbers of int8, 8 of float16. CPU: 8. With 30 % of the channels gone,
1 thread, AVX512, the speed-up was, for widths rounded to 1, 4, 8, 16: resnet50 1.56, 1.70, 1.86, 1.91; a text detector
1.02, 1.48, 1.55, 1.50.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

Precision = Literal["float16", "int8, QDQ", "int8, symmetric QDQ"]
Form = Literal["dynamic", "qdq", "qoperator"]

_DYNAMIC = "it has no kernel for DynamicQuantizeLinear: these nodes run on the CPU, with copies"
_OPERATORS = "it has no kernels for QLinearConv and the like: these nodes run on the CPU, with copies"
_BETWEEN = "it computes in float between QuantizeLinear and DequantizeLinear, which come on top"
_FLOAT_ALONE: dict[Form, str] = {"dynamic": _DYNAMIC, "qdq": _BETWEEN, "qoperator": _OPERATORS}
_FIXED = "it fuses Q/DQ with fixed ranges into integer kernels"


@dataclass(frozen=True)
class Facts:
    """What is known of a provider; the defaults stand for one of which nothing is.

    ``fast`` is the precision that it computes fast, and ``why``; None where trials tell (where its integer support is
    not known for sure it is float16, which all of them compute). ``slower`` has the forms of int8 that it runs slower
    than float32, with the reason. ``device`` is onnxruntime's device type, if it has a memory of its own that can be
    bound; ``threads_option`` its option for threads of its own, beside the session's; ``exact`` its options for float32
    as such. One that ``compiles_whole`` graphs takes seconds for it, and may round what stays inside them.
    ``gives_back`` is the arena whose memory a run can give back.
    """

    fast: Precision | None = "float16"
    why: str = "what it computes in integers is not known here"
    slower: Mapping[Form, str] = field(default_factory=dict)
    int16_activations: bool = True
    bfloat16: bool = True
    fast_fused_norms: bool = True
    int8_multiple: int = 8
    device: str | None = None
    is_nvidia: bool = False
    preloads: bool = False
    compiles_whole: bool = False
    threads_option: str | None = None
    exact: Mapping[str, str] = field(default_factory=dict)
    gives_back: str | None = None
    wheel: str | None = None
    nickname: str | None = None


_ON_CUDA = Facts(
    int16_activations=False, int8_multiple=16, device="cuda", is_nvidia=True, preloads=True, wheel='"onnxpress[gpu]"'
)
PROVIDERS: Mapping[str, Facts] = {
    "cpu": Facts(fast=None, why="", bfloat16=False, fast_fused_norms=False, gives_back="cpu:0"),
    "cuda": replace(
        _ON_CUDA,
        why="it has tensor cores for float16, and next to no integer kernels",
        slower=_FLOAT_ALONE,
        exact={"use_tf32": "0"},
        nickname="gpu",
    ),
    "tensorrt": replace(
        _ON_CUDA,
        fast="int8, symmetric QDQ",
        why="it fuses signed codes with zero points of 0 alone",
        slower={"dynamic": _DYNAMIC, "qoperator": _OPERATORS},
    ),
    "nvtensorrtrtx": Facts(device="cuda", is_nvidia=True),
    "rocm": Facts(
        why="it has matrix cores for float16, and next to no integer kernels",
        slower=_FLOAT_ALONE,
        int16_activations=False,
    ),
    "openvino": Facts(
        fast="int8, QDQ",
        why=_FIXED,
        slower={"dynamic": "it finds ranges and multiplies integers in several slow steps, in twice the time of float"},
        compiles_whole=True,
        threads_option="num_of_threads",
        wheel="onnxruntime-openvino",
    ),
    "qnn": Facts(fast="int8, QDQ", why=_FIXED, slower={"dynamic": _DYNAMIC}),
    "coreml": Facts(
        why="it has no integer kernels for ONNX's quantized operators",
        slower=_FLOAT_ALONE | {"qdq": "it has no integer kernels: QuantizeLinear and DequantizeLinear run on the CPU"},
        int16_activations=False,
    ),
    "dml": Facts(
        why="GPUs compute it fast; int8 depends on the GPU, so measure it", int16_activations=False, device="dml"
    ),
    "cann": Facts(device="cann"),
    "migraphx": Facts(int16_activations=False),
    "xnnpack": Facts(int16_activations=False),
}
_UNKNOWN = Facts()


def facts_of(name: str) -> Facts:
    """What is known of the provider of this short name."""
    return PROVIDERS.get(name, _UNKNOWN)


def meant(name: str) -> str:
    """The short name of the provider that people call so."""
    return next((provider for provider, facts in PROVIDERS.items() if facts.nickname == name), name)
