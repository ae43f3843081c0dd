"""Quantized students x[6] -> 64 -> 3 of a float teacher, their fine-tuning, and how far they are from it."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir

from compress_ops.autodiff import build_gradients
from compress_ops.distill import finetune_quantized
from compress_ops.model import Model
from compress_ops.passes import Change
from compress_ops.quantize import quantize_static
from compress_ops.runtime import open_session
from tests.distill.student_case import mlp
from tests.helpers import Table, arrays_of, context, model_of, noise, outputs, proto

X = noise(400, 6, seed=9)
UNSEEN = noise(200, 6, seed=99)
HIDDEN = 64
MINE = """<ir_version: 10, opset_import: ["": 21]> agraph (float[N,6] x) => (float[N,3] y) {
  w = DequantizeLinearATTRIBUTES(INPUTS)
  h = MatMul(x, w) a = Add(h, b1) r = Relu(a) y = Gemm(r, w2, b2)
}"""
FORMS: dict[str, dict[str, Any]] = {
    "channels": {"bits": 4, "axis": 1},
    "rows": {"bits": 4, "axis": 0},
    "one scale": {"bits": 4, "axis": None},
    "zero points": {"bits": 4, "axis": 1, "zero": 9},
    "blocks": {"bits": 4, "axis": 0, "block": 3},
    "last block short": {"bits": 4, "axis": 0, "block": 4, "zero": 6},
    "8 bits": {"bits": 8, "axis": 1, "steps": 7},
}


def rounded(weight: np.ndarray, bits: int, axis: int | None, block: int = 0, zero: int = 0, steps: int = 7) -> Any:
    """A weight [6, n] as codes, scales and zero points, in plain NumPy."""
    if block:
        parts = [np.abs(weight[i : i + block]).max(axis=0) for i in range(0, len(weight), block)]
        scale = np.stack(parts) / steps
        each = np.repeat(scale, block, axis=0)[: len(weight)]
    else:
        scale = np.abs(weight).max(axis=None if axis is None else 1 - axis) / steps
        each = scale if axis is None else np.expand_dims(scale, 1 - axis)
    signed = not zero
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    kind = {(4, True): ml_dtypes.int4, (4, False): ml_dtypes.uint4, (8, True): np.int8}[bits, signed]
    codes = np.clip(np.rint(weight / each) + zero, low, high).astype(np.int8).astype(kind)
    return codes, np.float32(scale), np.full(scale.shape, zero).astype(kind) if zero else None


def quantized(name: str = "channels") -> tuple[Model, Model]:
    """A model whose first weight is codes of the given form, and the float model that it was."""
    form, teacher = FORMS[name], mlp(hidden=HIDDEN)
    floats = arrays_of(teacher)
    codes, scale, zero = rounded(floats.pop("w1"), **form)
    settings = [f"axis={form['axis']}"] if form["axis"] is not None else []
    settings += [f"block_size={form['block']}"] if "block" in form else []
    given = {"q": codes, "s": scale, **({"z": zero} if zero is not None else {})}
    attributes = f"<{', '.join(settings)}>" if settings else ""
    return model_of(MINE.replace("ATTRIBUTES(INPUTS)", f"{attributes}({', '.join(given)})"), **given, **floats), teacher


def static(**options: Any) -> tuple[Model, Model]:
    model = mlp(hidden=HIDDEN)
    quantize_static(model, context(calibration=Table(X)), **options)
    return model, mlp(hidden=HIDDEN)


def tuned(model: Model, teacher: Model | None, x: np.ndarray = X, dry_run: bool = False, **options: Any) -> Change:
    ctx = context(training=Table(x, batch=16), earlier=teacher, dry_run=dry_run)
    usual = {"epochs": 10, "loss": {"mse": 1.0}, "learning_rate": 0.001}
    change = finetune_quantized(model, ctx, **{**usual, **options})
    model.check()
    return change


def error(model: Model, teacher: Model, x: np.ndarray = UNSEEN) -> float:
    """The mean squared error of the logits on data that nothing was trained on."""
    return float(((outputs(model, x=x)[0] - outputs(teacher, x=x)[0]) ** 2).mean())


def stored(model: Model) -> dict[str, onnx.TensorProto]:
    """The weights as they would be saved."""
    return {tensor.name: tensor for tensor in proto(model).graph.initializer}


def slope(model: Model, parameter: str, dy: np.ndarray, feeds: dict[str, np.ndarray]) -> np.ndarray:
    """dL/dp of L = sum dy y, as the engine finds it; ``feeds`` hold p."""
    built = build_gradients(model, of=["y"], parameters=[parameter])
    session = open_session(ir.to_proto(built.model.ir).SerializeToString())
    return session.run({**feeds, built.upstream["y"]: dy})[built.gradients[parameter]]
