"""pack_sparse: of a weight with many zeros only the others are stored, with one bit for each number.

With bits b_i = [w_i != z] and the stored values v = (z, then every w_i != z in order):
    w_i = v[p_i],    p_i = b_i (b_1 + ... + b_i)
z is zero; of 8-bit codes it is the most frequent one (a zero point, say). A share s of numbers other than z takes s of
the weight and one bit for each number: 3 % of float32, 6 % of float16, 12.5 % of int8. For 2:4, two 2-bit positions
for every four weights would be the same one bit for each.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ...arrays import Array
from ...files.stored_half import store_like, stored_bytes
from ...graph.opset import require_opset
from ...graph.packing import Unpacker, editor_for, owner, packed_bytes
from ...lazy import ir
from ...model import Model
from ...nodes import bytes_of
from ...passes import ALL, NONE, Change, Context, Only, Promise, Skip, register, selected

_BITS = (2,)  # the base of the digits that are packed
_OPSET = 11  # since when there is CumSum
_OVERHEAD = 900  # bytes that the nodes of one weight take in the file, about
_TABLE = 2048  # bytes of the table that all weights are unpacked with
_TYPES = ("FLOAT", "FLOAT16", "DOUBLE", "INT8", "UINT8")
_CODES = ("INT8", "UINT8")


@register("pack_sparse", promises=Promise.SHRINKS)
def pack_sparse(model: Model, ctx: Context, *, only: Only = ALL, skip: Skip = NONE) -> Change:
    """Store weights with many zeros as a bit for each number and the numbers that are not zero.

    The values are exactly the same. They are decoded by standard operators (CumSum of the bits gives each number's
    place among the values), which onnxruntime folds when it loads the model: time and memory of a run are those of the
    dense model, loading takes longer. Put it last: behind prune_weights and refit, and behind quantization, since
    nothing else changes a packed weight any more. Half-precision and 8-bit weights are packed too; of the latter, the
    most frequent code is what is left out. A weight is packed only where that is smaller.
    """
    require_opset(model, _OPSET)
    change, unpacker = Change(), Unpacker(model)
    found = [one for value in [*model.weights()] if (one := _sparse(value, only, skip, change))]
    sparse = found if sum(one.saved for one in found) > _TABLE else []
    for one in found if not sparse else ():
        change.decline(one.name, f"packing all weights would save no more than the {_TABLE} bytes of a decoding table")
    before = sum(stored_bytes(one.value) for one in sparse)
    for one in ctx.progress(sparse, "pack_sparse"):
        change.touch(
            one.name, f"{stored_bytes(one.value)} -> {one.nbytes} bytes, {1 - one.kept / one.tensor.size:.1%} zeros"
        )
        one.write(unpacker)
    model.drop_unused()
    change.notes = {"bytes_before": before, "bytes_after": sum(s.nbytes for s in sparse)}
    return change


@dataclass(frozen=True)
class _Sparse:
    """A weight, and what its packed form takes."""

    value: ir.Value

    @property
    def name(self) -> str:
        return self.value.name or "weight"

    @cached_property
    def tensor(self) -> ir.TensorProtocol:
        assert self.value.const_value is not None
        return self.value.const_value

    @cached_property
    def background(self) -> Any:
        """z, in the weight's type."""
        array = self.tensor.numpy()
        if self.tensor.dtype.name not in _CODES:
            return array.dtype.type(0)
        return np.bincount(array.view(np.uint8).reshape(-1)).argmax().astype(np.uint8).view(array.dtype)

    @cached_property
    def kept(self) -> int:
        """How many values are stored besides z."""
        return int(self._bits().sum())

    @property
    def nbytes(self) -> int:
        each = stored_bytes(self.value) / max(self.tensor.size, 1)
        return packed_bytes(self.tensor.size, _BITS) + int((self.kept + 1) * each) + _OVERHEAD

    @property
    def saved(self) -> int:
        return stored_bytes(self.value) - self.nbytes

    def _bits(self) -> Array:
        """Booleans [1, numbers]."""
        return (self.tensor.numpy() != self.background).reshape(1, -1)

    def _values(self) -> ir.TensorProtocol:
        array = self.tensor.numpy().reshape(-1)
        return ir.Tensor(np.concatenate([[self.background], array[self._bits()[0]]], dtype=array.dtype))

    def write(self, unpacker: Unpacker) -> None:
        """Let the weight's readers read v[p]; bits and values are made when the model is saved."""
        graph, edit, tensor = owner(self.value), editor_for(unpacker.model, self.value), self.tensor
        values = ir.LazyTensor(self._values, dtype=tensor.dtype, shape=ir.Shape((self.kept + 1,)))
        stored = unpacker.model.add_weight(f"{self.name}_values", values, graph)
        store_like(stored, self.value)
        planes = unpacker.store(f"{self.name}_bits", self._bits, (1, tensor.size), _BITS, graph)
        bits = unpacker.unpack(edit, planes, _BITS, "int32", tensor.size)
        places = edit.op("Mul", bits, edit.op("CumSum", bits, unpacker.shape([1])))
        decoded = edit.op("Reshape", edit.op("Gather", stored, places, axis=0), unpacker.shape(self._sizes()))
        decoded.type, decoded.shape = ir.TensorType(tensor.dtype), ir.Shape(self._sizes())
        self.value.replace_all_uses_with(decoded)

    def _sizes(self) -> list[int]:
        return [int(size) for size in self.tensor.shape.numpy()]


_MORE = "; put prune_weights: {ratio: 0.7} in front"


def _sparse(value: ir.Value, only: list[str], skip: list[str], change: Change) -> _Sparse | None:
    """The weight, where its packed form is smaller; declines it where not."""
    found, tensor = _Sparse(value), value.const_value
    if (
        tensor is None
        or bytes_of(tensor) <= _OVERHEAD
        or not all(selected(user, only, skip) for user, _ in value.uses())
    ):
        return None
    reason = ""
    if tensor.dtype.name not in _TYPES:
        reason = f"it is {tensor.dtype.name.lower()}"
    elif value.is_graph_output():
        reason = "it is an output of the graph"
    elif found.saved <= 0:
        zeros = 1 - found.kept / tensor.size
        reason = f"its {stored_bytes(value)} bytes would take {found.nbytes}: {zeros:.1%} of it are zeros{_MORE}"
    if reason:
        change.decline(value.name, reason)
    return None if reason else found
