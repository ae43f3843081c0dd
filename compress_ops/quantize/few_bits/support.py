"""Whether the execution provider runs a storage form: a one-node model of that form is loaded, and onnxruntime says."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from ...errors import OnnxpressError, PassError
from ...graph.layers.weights import Site
from ...graph.packing import Unpacker
from ...lazy import ir
from ...model import Model
from ...passes import Context
from ...runtime import open_session
from ..numbers.blocks import Blocked, BlockFormat, Grid
from .kernels import write
from .sites import Weight
from .standard_operators import QDQ_BITS, write_qdq

Storage = Literal["MatMulNBits", "qdq", "decoded"]
_INNER, _ROWS, _BLOCK = 32, 8, 16


def require_storage(ctx: Context, storage: Storage, bits: int) -> None:
    """Raise PassError where the provider cannot run the form, naming the forms that it can."""
    reason = _refusal(ctx, storage, bits)
    if not reason:
        return
    others = [name for name in get_args(Storage) if name != storage and not _refusal(ctx, name, bits)]
    raise PassError(
        f"storage {storage} with {bits} bits does not run on '{ctx.providers[0].name}': {reason}",
        hint=f"storage that runs here with {bits} bits: {', '.join(others) or 'none'}",
    )


def _refusal(ctx: Context, storage: str, bits: int) -> str:
    if storage == "decoded":
        return ""  # operators that ONNX has had from the start
    if storage == "qdq" and bits not in QDQ_BITS:
        return f"DequantizeLinear takes {' or '.join(map(str, QDQ_BITS))} bits"
    try:
        with _probe(storage, bits).exported() as path:
            open_session(path, ctx.providers)
    except OnnxpressError as error:
        return error.message
    return ""


def _probe(storage: str, bits: int) -> Model:
    """y = x W for a weight of zeros, written in the storage form."""
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([1, _INNER]))
    tensor = ir.Tensor(np.zeros((_INNER, _ROWS), np.float32), name="weight")
    value = ir.Value(name="weight", type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
    node: ir.Node = ir.node("MatMul", [x, value], name="probe")
    node.outputs[0].name, node.outputs[0].type = "y", ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph([x], [node.outputs[0]], nodes=[node], initializers=[value], opset_imports={"": 21}, name="probe")
    model, weight = Model(ir.Model(graph, ir_version=10)), Weight(value, tensor, False, [Site(node, 1, value)])
    form = BlockFormat(bits, _BLOCK, symmetric=True)
    grid = Grid(np.ones((_ROWS, _INNER // _BLOCK), np.float32), None)
    blocked = Blocked(form, _ROWS, _INNER, grid, lambda: np.zeros((_ROWS, _INNER), np.uint8), "none")
    if storage == "qdq":
        write_qdq(Unpacker(model), weight, blocked)
    else:
        write(Unpacker(model), weight, blocked, accuracy_level=0)
    model.drop_unused()
    return model
