"""The gate: the structure of a model is checked once, when it is read, and what is wrong is one clear error.

What passes has text that is text, tensors that hold what their shapes ask for, graphs in which every value is given
once and before it is read, and nodes that an operator's schema, of ONNX or of onnxruntime, takes. Whether the types of
values fit together is onnxruntime's to say. Time and memory grow with the size of the file only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..errors import ModelError
from .attributes import attribute_faults
from .declared import forget_negative_sizes, type_faults
from .external import settle_external_data
from .functions import function_faults
from .graphs import graph_faults
from .imports import import_faults
from .lost import refuse_what_would_be_lost
from .operators import operator_faults
from .tensors import tensor_faults
from .utf8 import text_faults

__all__ = ["check_structure", "forget_negative_sizes", "settle_external_data", "structure_faults"]

_CHECKS: tuple[Callable[[Any], Iterator[str]], ...] = (  # in this order: each relies on those before
    text_faults,
    attribute_faults,
    import_faults,
    tensor_faults,
    type_faults,
    graph_faults,
    function_faults,
    operator_faults,
)


def check_structure(proto: Any, path: Path) -> None:
    """Raise ModelError with the first fault of a ModelProto, or for parts of it that would be lost."""
    refuse_what_would_be_lost(proto, path)
    for fault in structure_faults(proto):
        raise ModelError(f"{path} is damaged or not valid ONNX: {fault}")


def structure_faults(proto: Any) -> Iterator[str]:
    """What is wrong with a ModelProto, the gravest first."""
    for check in _CHECKS:
        yield from check(proto)
