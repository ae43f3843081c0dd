"""Which forms of int8 an execution provider runs slower than float32, and why.

What a provider has no kernel for onnxruntime gives to the CPU, with copies there and back around each node; what has
kernels for QuantizeLinear and DequantizeLinear alone computes in float between them. For CUDA this is read from
OperatorKernels.md of onnxruntime; for the others it is what is known of them. No GPU was there to measure it on.
OpenVINO was measured (onnxruntime-openvino 1.24.1, one thread; processor time of a small transformer): float 1.7 ms,
Q/DQ 1.2, dynamic 3.4.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ...errors import PassError
from ...passes import Context

Form = Literal["dynamic", "qdq", "qoperator"]
AllowSlower = Annotated[
    bool,
    Field(
        description="Write it even for an execution provider that is known to run it slower than float32. Off by "
        "default: such a model has lost accuracy for nothing."
    ),
]
_DYNAMIC = "it has no kernel for DynamicQuantizeLinear: these nodes run on the CPU, with copies"
_OPERATORS = "it has no kernels for QLinearConv and the like: these nodes run on the CPU, with copies"
_BETWEEN = "it computes in float between QuantizeLinear and DequantizeLinear, which come on top"
_CUDA: dict[Form, str] = {"dynamic": _DYNAMIC, "qdq": _BETWEEN, "qoperator": _OPERATORS}
_SLOWER: dict[str, dict[Form, str]] = {
    "cuda": _CUDA,
    "rocm": _CUDA,
    "coreml": {**_CUDA, "qdq": "it has no integer kernels: QuantizeLinear and DequantizeLinear run on the CPU"},
    "tensorrt": {"dynamic": _DYNAMIC, "qoperator": _OPERATORS},
    "qnn": {"dynamic": _DYNAMIC},
    "openvino": {
        "dynamic": "it finds ranges and multiplies integers in several slow steps, in twice the time of float"
    },
}
_INSTEAD = {
    "openvino": "quantize_static is what it runs in integers",
    "tensorrt": "quantize_static: {activation_type: int8} is what it runs in integers",
    "qnn": "quantize_static is what it runs in integers",
}
_ZERO_ONLY = ("tensorrt",)  # these fuse signed codes with zero points of 0 alone


def refuse_slower(ctx: Context, form: Form, *, allowed: bool, zero_point_is_0: bool = True) -> None:
    """Raise PassError where the first provider runs the form slower than float, unless that is allowed."""
    name = ctx.providers[0].name
    reason = _SLOWER.get(name, {}).get(form, "")
    if not reason and name in _ZERO_ONLY and not zero_point_is_0:
        reason = "it fuses signed activations with a zero point of 0 alone, others run in float or elsewhere"
    if reason and not allowed:
        hint = f"{_INSTEAD.get(name, 'to_float16 is what it computes fast')}; allow_slower: true on the step forces it"
        raise PassError(f"{_NAMES[form]} is slower than float on '{name}': {reason}", hint=hint)


_NAMES: dict[Form, str] = {
    "dynamic": "dynamic quantization",
    "qdq": "static quantization in QDQ form",
    "qoperator": "static quantization in QOperator form",
}
