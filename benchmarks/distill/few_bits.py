"""What fine-tuning brings back of weights that were rounded to 4 bits, one scale per output channel.

Every weight of a convolution, matrix product or table is rounded to nearest, symmetrically, in steps of a seventh of
its channel's largest magnitude. The float model teaches; labels are looked at on the test data alone.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx_ir as ir

from benchmarks.tables import Goal, put
from compress_ops.graph.edit import attribute
from compress_ops.graph.opset import require_opset
from compress_ops.model import Model, load
from compress_ops.pipeline import Job, run
from compress_ops.recipe import parse_recipe
from compress_ops.runtime import open_session

SAMPLES = Path("sample_models").resolve()
TOP = 7  # the largest code; -8 is left out
OPERATORS = {"Conv": 1, "Gemm": 1, "MatMul": 1, "Gather": 0}  # which input is the weight
CONTEXT, WINDOWS, HELD_OUT_EVERY = 128, 8192, 16  # as sample_models/make_textlm.py cuts the text


def int4(models: Path, folder: Path) -> list[Goal]:
    """The digits CNN and the language model."""
    digits = np.load(SAMPLES / "digits-test.npz")
    np.savez(folder / "digits.npz", image=np.load(SAMPLES / "digits-train.npz")["image"])
    passes = "[{finetune_quantized: {teacher: float.onnx, epochs: 10}}]"
    rows, errors = _case("digits-cnn", "digits.npz", passes, 32, folder, {"image": digits["image"]}, _top1(digits))
    text = np.load(SAMPLES / "textlm-test.npz")
    np.savez(folder / "text.npz", tokens=training_text(text["tokens"]))
    passes = "[{finetune_quantized: {teacher: float.onnx, epochs: 3, learning_rate: 0.002, learn_scales: true}}]"
    more, others = _case("textlm", "text.npz", passes, 8, folder, {"tokens": text["tokens"]}, _perplexity(text))
    heads = ["model", "float", "4 bits", "fine-tuned", "error of logits", "fine-tuned", "CPU s"]
    put(heads, [rows, more], f"int4 per channel; {WINDOWS} windows of training text")
    return [
        Goal("digits-cnn, int4: error of logits, times lower", errors[0] / errors[1], 3),
        Goal("textlm, int4: error of logits, times lower", others[0] / others[1], 3),
        Goal("textlm, int4: perplexity over float, in %", 100 * (float(more[3]) / float(more[1]) - 1), 1, at_most=True),
    ]


def _case(
    name: str,
    training: str,
    passes: str,
    batch: int,
    folder: Path,
    feeds: dict[str, np.ndarray],
    score: Callable[[np.ndarray], float],
) -> tuple[list[str], tuple[float, float]]:
    """A row of the table, and the errors of the logits before and after."""
    data = f"{{training: {training}, batch_size: {batch}}}"
    _run(SAMPLES / f"{name}.onnx", folder / "float.onnx", data, "[simplify]", folder)
    model = load(folder / "float.onnx")
    round_per_channel(model)
    model.save(folder / "rounded.onnx")
    cpu = _run(folder / "rounded.onnx", folder / "tuned.onnx", data, passes, folder)
    files = [folder / f"{each}.onnx" for each in ("float", "rounded", "tuned")]
    logits = [next(iter(open_session(file).run(feeds).values())) for file in files]
    errors = tuple(float(((each - logits[0]) ** 2).mean()) for each in logits[1:])
    told = [name, *(f"{score(each):.4f}" for each in logits), *(f"{error:.4g}" for error in errors), f"{cpu:.0f}"]
    return told, (errors[0], errors[1])


def _run(model: Path, out: Path, data: str, passes: str, folder: Path) -> float:
    recipe = parse_recipe(f"version: 1\ndata: {data}\npasses: {passes}\n", folder=folder)
    out.unlink(missing_ok=True)
    return run(Job(recipe, model, out, measure=False)).cpu_seconds


def round_per_channel(model: Model) -> None:
    """Codes of 4 bits and a scale for each output channel (row of a table), behind DequantizeLinear."""
    require_opset(model, 21)
    for node in list(model.graph):
        index = OPERATORS.get(node.op_type, 0)
        value = node.inputs[index] if node.op_type in OPERATORS else None
        tensor = value.const_value if value is not None else None
        if value is None or tensor is None or tensor.dtype != ir.DataType.FLOAT or len(tensor.shape) < 2:
            continue
        weight = tensor.numpy()
        first = node.op_type in ("Conv", "Gather") or attribute(node, "transB", 0)
        axis = 0 if first else weight.ndim - 1
        node.replace_input_with(index, _dequantized(model, node, value.name or "", weight, axis))
    model.drop_unused()


def _dequantized(model: Model, node: ir.Node, name: str, weight: np.ndarray, axis: int) -> ir.Value:
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scale = np.abs(weight).max(axis=others, keepdims=True) / TOP
    scale[scale == 0] = 1
    codes = np.rint(weight / scale).astype(np.int8).astype(ml_dtypes.int4)
    inputs = [
        model.add_weight(f"{name}_int4", ir.Tensor(codes)),
        model.add_weight(f"{name}_scale", ir.Tensor(scale.reshape(-1).astype(np.float32))),
    ]
    made = ir.node("DequantizeLinear", inputs, {"axis": axis}, name=model.fresh(f"{name}/DequantizeLinear"))
    made.outputs[0].name = made.name
    made.outputs[0].shape, made.outputs[0].type = ir.Shape(weight.shape), ir.TensorType(ir.DataType.FLOAT)
    model.graph.insert_before(node, made)
    return made.outputs[0]


def training_text(test: np.ndarray) -> np.ndarray:
    """int64 [windows, CONTEXT] of the text that textlm was trained on: the standard library without every 16th file.

    With another version of Python these are other files: windows that hold a stretch of the test text are left out.
    """
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    files = [path for path in files if not path.name.startswith("_sysconfigdata")]
    held_out = set(files[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY])
    text = np.frombuffer(b"".join(path.read_bytes() for path in files if path not in held_out), np.uint8)
    starts = np.linspace(0, len(text) - CONTEXT, WINDOWS).astype(int)
    windows = text[starts[:, None] + np.arange(CONTEXT)]
    known, half = test.astype(np.uint8), CONTEXT // 2
    unseen = {row[i : i + half].tobytes() for row in known for i in range(half + 1)}
    kept = [not any(row[i : i + half].tobytes() in unseen for i in range(half + 1)) for row in windows]
    return windows[np.array(kept)].astype(np.int64)


def _top1(test: dict[str, np.ndarray]) -> Callable[[np.ndarray], float]:
    return lambda logits: float((logits.argmax(axis=1) == test["label"]).mean())


def _perplexity(test: dict[str, np.ndarray]) -> Callable[[np.ndarray], float]:
    def score(logits: np.ndarray) -> float:
        shifted = logits - logits.max(axis=-1, keepdims=True)
        likelihood = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
        return float(np.exp(-np.take_along_axis(likelihood, test["next"][..., None], axis=-1).mean()))

    return score
