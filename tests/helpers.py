"""Small models as ONNX text, and what onnxruntime makes of them: the oracle of most tests."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime

from compress_ops.data.base import Batch, Dataset
from compress_ops.model import Model, load
from compress_ops.passes import Change, Context, Pass

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "sample_models"


def proto_of(text: str, **weights: np.ndarray) -> onnx.ModelProto:
    """A model from ONNX text; ``weights`` become initializers of the main graph. A header is put in where it lacks."""
    header = "" if text.lstrip().startswith("<") else '<ir_version: 8, opset_import: ["": 17]>\n'
    proto = onnx.parser.parse_model(header + text)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(np.asarray(w), n) for n, w in weights.items())
    return proto


def model_of(source: str | onnx.ModelProto, **weights: np.ndarray) -> Model:
    """A loaded model, from ONNX text or a protobuf."""
    proto = proto_of(source, **weights) if isinstance(source, str) else source
    with tempfile.TemporaryDirectory() as folder:
        onnx.save(proto, Path(folder) / "model.onnx")
        return load(Path(folder) / "model.onnx")


def reloaded(model: Model) -> Model:
    """The model after a save and a load."""
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model.onnx")
        return load(Path(folder) / "model.onnx")


def proto(model: Model) -> onnx.ModelProto:
    """The model as it would be saved."""
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model.onnx")
        return onnx.load(Path(folder) / "model.onnx")


def outputs(model: Model | onnx.ModelProto, /, **feeds: np.ndarray) -> list[np.ndarray]:
    """What onnxruntime computes, with its own graph optimizations off so that the graph as written is judged."""
    raw = (proto(model) if isinstance(model, Model) else model).SerializeToString()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(raw, options, providers=["CPUExecutionProvider"]).run(None, feeds)


def array_of(model: Model, name: str) -> np.ndarray:
    """The numbers of one weight of the main graph."""
    return model.graph.initializers[name].const_value.numpy()


def arrays_of(model: Model) -> dict[str, np.ndarray]:
    """The numbers of every weight of the main graph."""
    return {name: array_of(model, name) for name in model.graph.initializers}


def put(model: Model, name: str, array: np.ndarray) -> None:
    """Other numbers in the place of a weight of the main graph."""
    model.graph.initializers[name].const_value = ir.Tensor(array, name=name)


def saved_weights(model: Model) -> dict[str, np.ndarray]:
    """The numbers of every weight, those of subgraphs too, after a save and a load."""
    return {value.name: value.const_value.numpy() for value in reloaded(model).weights()}


def optimized(model: Model | onnx.ModelProto, level: str = "ORT_ENABLE_EXTENDED") -> Counter[str]:
    """Operator types of the graph that onnxruntime really runs; ORT_ENABLE_ALL is as this processor likes it best."""
    raw = (proto(model) if isinstance(model, Model) else model).SerializeToString()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        onnxruntime.InferenceSession(raw, options, providers=["CPUExecutionProvider"])
        return Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)


def applied(
    operation: Pass, source: str | onnx.ModelProto | Model, /, ctx: Context | None = None, **options: object
) -> tuple[Model, Change]:
    """The model after a pass, whose ports stayed and which is valid ONNX, and what the pass told."""
    model = source if isinstance(source, Model) else model_of(source)
    before = model.contract()
    change = operation(model, ctx or context(), **options)
    assert model.contract() == before
    onnx.checker.check_model(proto(model), full_check=True)
    return model, change


def op_types(model: Model) -> Counter[str]:
    """How many nodes of each operator type the model has, subgraphs included."""
    return Counter(node.op_type for node in model.nodes())


def context(seed: int = 0, **fields: object) -> Context:
    """What a pass is given; its random numbers are seeded."""
    return Context(np.random.default_rng(seed), **fields)


def calibrated(*feeds: dict[str, np.ndarray], **fields: object) -> Context:
    """What a pass is given, with these feeds as calibration data."""
    return context(calibration=Given(*feeds), **fields)


def noise(*shape: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    """Seeded normal float32 numbers."""
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def sqnr_db(exact: np.ndarray, found: np.ndarray) -> float:
    """10 log10 sum y^2 / sum (y - y')^2, in double precision."""
    exact, found = exact.astype(np.float64), found.astype(np.float64)
    return float(10 * np.log10(np.square(exact).sum() / np.square(exact - found).sum()))


class Given(Dataset):
    """Feeds as they are; counts how often they are gone through and how many are alive at once."""

    name = "given"

    def __init__(self, *feeds):
        self.feeds, self.passes, self.served = feeds, 0, 0

    def __len__(self):
        return len(self.feeds)

    def batches(self, limit=None):
        self.passes += 1
        for feed in self.feeds[:limit]:
            self.served += 1
            yield Batch(feed, None, 1)

    def digest(self):
        return ""


class Interrupted(Given):
    """Feeds, behind which somebody presses Control-C."""

    def batches(self, limit=None):
        yield from super().batches(limit)
        raise KeyboardInterrupt


class Table(Dataset):
    """Rows of ``x``, or of several inputs, and labels perhaps, in batches."""

    name = "table"

    def __init__(self, x: np.ndarray | dict[str, np.ndarray], labels: np.ndarray | None = None, batch: int = 8):
        self.inputs, self.labels, self.batch = x if isinstance(x, dict) else {"x": x}, labels, batch

    def __len__(self):
        return len(next(iter(self.inputs.values())))

    def batches(self, limit=None):
        for start in range(0, len(self), self.batch)[:limit]:
            part = slice(start, start + self.batch)
            feeds = {name: array[part] for name, array in self.inputs.items()}
            labels = self.labels[part] if self.labels is not None else None
            yield Batch(feeds, labels, len(next(iter(feeds.values()))))

    def digest(self):
        return ""
