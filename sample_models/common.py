"""What the three make_*.py scripts share: a short training loop, the export to ONNX and the check of what came out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

FOLDER = Path(__file__).parent
SEED = 0
THREADS = 2
TOLERANCE = 1e-4
"""Largest difference allowed between torch and onnxruntime: float32 sums taken in another order, logits of size 10."""

Axes = dict[str, dict[int, str]]


def start() -> None:
    """Seed torch and hold it to deterministic kernels and few threads."""
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(THREADS)


def fit(
    module: nn.Module,
    batches: Iterable[tuple[Tensor, ...]],
    loss: Callable[..., Tensor],
    *,
    steps: int,
    rate: float,
    decay: float = 0.01,
) -> None:
    """Train with AdamW on a one-cycle learning rate for `steps` batches, and leave the module in evaluation mode."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=rate, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=steps, pct_start=0.1)
    module.train()
    for step, (*inputs, target) in enumerate(islice(batches, steps), start=1):
        value = loss(module(*inputs), target)
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % max(1, steps // 10) == 0:
            print(f"  step {step:5d} of {steps}: loss {value.item():.4f}", flush=True)
    module.eval()


def export_classic(module: nn.Module, example: dict[str, Tensor], output: str, axes: Axes, path: Path) -> None:
    """Opset 17 by the TorchScript exporter. PRESERVE keeps every BatchNormalization a node of its own."""
    torch.onnx.export(
        module,
        tuple(example.values()),
        path,
        input_names=list(example),
        output_names=[output],
        dynamic_axes=axes,
        training=torch.onnx.TrainingMode.PRESERVE,
        opset_version=17,
        dynamo=False,
    )


def export_dynamo(module: nn.Module, example: dict[str, Tensor], output: str, axes: Axes, path: Path) -> None:
    """Opset 18 by the torch.export exporter."""
    dims = {name: torch.export.Dim(name) for named in axes.values() for name in named.values()}
    torch.onnx.export(
        module,
        tuple(example.values()),
        path,
        input_names=list(example),
        output_names=[output],
        dynamic_shapes=tuple({axis: dims[dim] for axis, dim in axes[name].items()} for name in example),
        opset_version=18,
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def tidy(path: Path) -> None:
    """Remove the exporters' stack traces, which name folders of this machine, and check the file."""
    model = onnx.load(path)
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def run(path: Path, feed: dict[str, np.ndarray]) -> np.ndarray:
    """The single output of the saved model, computed by onnxruntime on the CPU."""
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, feed)[0]


def check(path: Path, module: nn.Module, feed: dict[str, np.ndarray]) -> None:
    """onnxruntime must agree with torch at batch 1 and at batch 16."""
    for batch in (1, 16):
        part = {name: array[:batch] for name, array in feed.items()}
        with torch.no_grad():
            expected = module(*(torch.from_numpy(array) for array in part.values())).numpy()
        difference = float(np.abs(run(path, part) - expected).max())
        assert difference < TOLERANCE, f"{path.name} at batch {batch}: torch and onnxruntime differ by {difference}"


def report(path: Path, **metrics: float) -> None:
    """One line with what the README's table says about a model."""
    model = onnx.load(path)
    floats = (tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT)
    weights = sum(int(np.prod(tensor.dims)) for tensor in floats)
    scores = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
    size, opset = path.stat().st_size, model.opset_import[0].version
    print(f"{path.name}: {weights:,} parameters, {size:,} bytes, opset {opset}, {scores}")


def save(name: str, **arrays: np.ndarray) -> None:
    """Stack samples into a compressed .npz beside the models."""
    np.savez_compressed(FOLDER / name, **arrays)
