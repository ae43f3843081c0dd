"""Low-rank adapters: of each weight W only a product is trained, W' = W + A B (Hu et al. 2021, LoRA, arXiv:2106.09685).

W of shape [d, e...] gets A [d, r], zero at first, and B [r, prod(e)], random. Afterwards the product is added to the
weight, so that the model keeps its nodes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...arrays import Array
from ...graph.edit import Editor, put_behind
from ...lazy import ir
from ...model import Model
from ..training.train import write_weights
from .masks import Mask


@dataclass(frozen=True)
class Adapter:
    """The names of A and B, and the weight as it was."""

    first: str
    second: str
    weight: Array


@dataclass(frozen=True)
class Adapted:
    """``model`` is a copy with adapters beside weights; ``parameters`` are they and the weights that have none."""

    model: Model
    adapters: Mapping[str, Adapter]
    parameters: Sequence[str]

    def write(self, student: Model, values: Mapping[str, Array]) -> None:
        """Put weights with their products added into the student."""
        merged = {name: _merged(adapter, values) for name, adapter in self.adapters.items()}
        write_weights(student, {**values, **merged})


def adapted(model: Model, names: Sequence[str], rank: int, rng: np.random.Generator, mask: Mask) -> Adapted:
    """Adapters for the weights that are larger than both factors; the others of these weights are trained whole.

    Of a product nothing is added where the mask holds zeros.
    """
    copy = model.copy()
    adapters = {}
    for name in names:
        value = copy.graph.initializers[name]
        if value.const_value is not None and _saves(tuple(value.const_value.shape.numpy()), rank):
            adapters[name] = _insert(copy, value, rank, rng, mask.kept.get(name))
    factors = [factor for adapter in adapters.values() for factor in (adapter.first, adapter.second)]
    return Adapted(copy, adapters, [*factors, *(name for name in names if name not in adapters)])


def _saves(shape: tuple[int, ...], rank: int) -> bool:
    return len(shape) > 1 and rank * (shape[0] + math.prod(shape[1:])) < math.prod(shape)


def _insert(model: Model, value: ir.Value, rank: int, rng: np.random.Generator, keep: Array | None) -> Adapter:
    assert value.const_value is not None
    weight, name = value.const_value.numpy(), value.name or ""
    rest = math.prod(weight.shape[1:])
    factors = (np.zeros((len(weight), rank)), rng.normal(0, rest**-0.5, (rank, rest)))
    a, b = (model.add_weight(f"{name}/adapter", ir.Tensor(factor.astype(weight.dtype))) for factor in factors)
    shape = model.add_weight(f"{name}/adapter/shape", ir.Tensor(np.array(weight.shape, np.int64)))
    edit = Editor(model, model.graph[0], f"{name}/adapter")
    product = edit.op("Reshape", edit.op("MatMul", a, b), shape)
    if keep is not None:
        product = edit.op("Mul", product, edit.constant(f"{name}/adapter/mask", keep.astype(weight.dtype)))
    put_behind(edit.op("Add", value, product), value)
    return Adapter(a.name or "", b.name or "", weight)


def _merged(adapter: Adapter, values: Mapping[str, Array]) -> Array:
    product = values[adapter.first] @ values[adapter.second]
    total: Array = adapter.weight + product.reshape(adapter.weight.shape)
    return total.astype(adapter.weight.dtype)
