"""Where a model is to run, by the names of ``--device``; adding one is adding an entry to ``TARGETS``.

A target allows the forms of weights that run there and are fast or small there, and says by which figure. These are of
one thread: onnxruntime 1.31 and 1.32 on AVX512-VNNI; 1.32 without VNNI, and on Arm, emulated by qemu, which tells
results and no times; onnxruntime-web 1.30; onnxruntime-openvino 1.24. What was not measured is said so.

Weights without a packed kernel are decoded by standard operators when a runtime loads the model: they run anywhere, at
the speed of float. Packed kernels are operators of onnxruntime's own (MatMulNBits, GatherBlockQuantized).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .measure.environment import cpu_features
from .runtime import available_providers

Form = Literal[
    "int8 static",
    "int8 dynamic",
    "8-bit weights",
    "8-bit weights, packed kernel",
    "4-bit weights",
    "4-bit weights, packed kernel",
    "2-bit weights",
    "codebook of 64",
    "codebook of 16",
    "low rank, energy 0.99",
    "low rank, energy 0.95",
    "float16",
]
Options = Mapping[str, Mapping[str, Any]]

_DECODED: tuple[Form, ...] = ("8-bit weights", "4-bit weights", "2-bit weights", "codebook of 64", "codebook of 16")
_PACKED: tuple[Form, ...] = ("8-bit weights, packed kernel", "4-bit weights, packed kernel")
_LOW_RANK: tuple[Form, ...] = ("low rank, energy 0.99", "low rank, energy 0.95")
_EVERYWHERE = (*_DECODED, *_LOW_RANK)
_VNNI = ("avx512_vnni", "avx_vnni")
_PORTABLE: Options = {"quantize_static": {"portable": True}, "quantize_dynamic": {"portable": True}}
_SIGNED: Options = {"quantize_static": {"activation_type": "int8"}}


@dataclass(frozen=True)
class Target:
    """A kind of machine: ``what`` it is, the ``forms`` that are worth it there, and ``why``, in a sentence.

    ``provider`` is the execution provider that stands for it here. ``options`` are what steps must carry for it, by
    the name of the pass. ``has`` and ``lacks`` are instruction sets: a CPU with one of the first (any, if there are
    none) and none of the last is such a machine; ``elsewhere`` is one that this can't be.
    """

    name: str
    what: str
    provider: str
    forms: tuple[Form, ...]
    why: str
    options: Options = field(default_factory=dict)
    has: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    elsewhere: bool = False

    @property
    def measured_here(self) -> bool:
        """Whether times on this machine, by the target's provider, say something about it."""
        if self.elsewhere or self.provider not in available_providers():
            return False
        features = set(cpu_features())
        return (not self.has or not features.isdisjoint(self.has)) and features.isdisjoint(self.lacks)


_LISTED = (
    Target(
        "server-avx512",
        "an x86 server with AVX512-VNNI",
        "cpu",
        ("int8 static", "int8 dynamic", *_EVERYWHERE, *_PACKED, "float16"),
        "Static int8 took 0.28 of the float time on an encoder and 0.57 on a text recogniser, dynamic int8 0.29 and "
        "0.96, the 4-bit kernel 0.16 on a decoder's product; float16 0.97 to 1.07, which is smaller and no faster.",
        has=("avx512_vnni",),
    ),
    Target(
        "laptop-avx2",
        "an x86 laptop or desktop with AVX2 and no VNNI",
        "cpu",
        ("int8 static", "int8 dynamic", *_EVERYWHERE, *_PACKED, "float16"),
        "Without VNNI sums of 8-bit products saturate: models that were not portable fell to 12 to 32 dB of what they "
        "give elsewhere, portable ones were the same bit by bit; times were not measured.",
        _PORTABLE,
        has=("avx2",),
        lacks=_VNNI,
    ),
    Target(
        "arm-phone",
        "a phone or board with a 64-bit Arm CPU",
        "cpu",
        ("int8 static", *_EVERYWHERE, *_PACKED, "float16"),
        "Static int8 gave what x86 gives, bit by bit on a small CNN and 40 dB or more on others, 4-bit kernels 43 to "
        "54 dB; dynamic int8 came out wrong on one with matrix instructions; times were not measured.",
        _PORTABLE,
        elsewhere=True,
    ),
    Target(
        "browser-wasm",
        "a web page, by onnxruntime-web on WebAssembly",
        "cpu",
        ("int8 static", "int8 dynamic", *_EVERYWHERE, "float16"),
        "Static int8 took 0.57 of the float time on a small CNN, 0.50 on an encoder, and 1.35 on a text recogniser; "
        "dynamic int8 0.50 to 0.70 on matrices, and 5 to 11 times as long on convolutions; 4-bit kernels 1.2 to 1.6 "
        "times; the time of float16, which loads and runs, was not measured.",
        {"quantize_dynamic": {"operators": ["MatMul", "Gemm"]}},
        elsewhere=True,
    ),
    Target(
        "cuda",
        "an NVIDIA GPU, by CUDA",
        "cuda",
        ("float16", *_EVERYWHERE),
        "Not measured: by its list of kernels it computes float16 in tensor cores, and next to nothing in integers.",
    ),
    Target(
        "tensorrt",
        "an NVIDIA GPU, by TensorRT",
        "tensorrt",
        ("int8 static", "float16", *_LOW_RANK),
        "Not measured: by its documentation it fuses signed codes with zero points of 0 alone, and computes float16; "
        "whether it decodes weights in few bits ahead of time is not known.",
        {"quantize_static": {"activation_type": "int8", "portable": False}},
    ),
    Target(
        "openvino",
        "an Intel CPU, by OpenVINO",
        "openvino",
        ("int8 static", *_EVERYWHERE),
        "Static int8 with signed activations took 0.42 of the float time on a text recogniser, unsigned ones 0.53; "
        "dynamic int8 1.7 times as long on a language model; float16 brought nothing; decoded weights were not timed.",
        _SIGNED,
    ),
    Target(
        "mcu",
        "a microcontroller, by a compiler to C",
        "cpu",
        ("int8 static", *_LOW_RANK),
        "A compiler of ONNX to C (emx-onnx-cgen 1.4) kept the arrays of a small static int8 CNN in 8 bits, to 3 units "
        "in the last place; it refuses operators on codes and 4 bits; weights that are decoded would fill the memory; "
        "times were not measured.",
        {"quantize_static": {"form": "qdq"}},
        elsewhere=True,
    ),
)
TARGETS: Mapping[str, Target] = {target.name: target for target in _LISTED}
