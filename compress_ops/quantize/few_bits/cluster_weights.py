"""cluster_weights: weights share a few values; each is stored as the number of its value.

    min over c_1..c_k and codes a of sum_i (w_i - c_{a_i})^2                    (k-means in one dimension)
Sorted, the clusters are intervals, so sums over them are differences of prefix sums, and a round of Lloyd's algorithm
costs k binary searches whatever the number of weights. It starts from the exact optimum (dynamic programming) for
weights gathered into 512 bins, which is within a bin of the optimum for all. Channels start from the optimum for all
channels together, each scaled to its root mean square; they end within a few percent of their own optima.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from ...arrays import Array
from ...graph.opset import require_opset
from ...graph.packing import Unpacker, editor_for, owner, radices
from ...lazy import ir
from ...measure.quality import Quality
from ...model import Model
from ...passes import Change, Context, Gain, Promise, Selection, register
from ..numbers.clustering import assign, centroids
from .decoded import MINIMUM_OPSET, OPERATORS, Operator, Stored, find_stored, gains, signal_to_noise


class ClusterOptions(Selection):
    """What cluster_weights takes."""

    clusters: Annotated[
        int,
        Field(
            ge=2,
            le=256,
            description="Values that the weights share. 16 by default: 4 bits a weight, with which the sample models "
            "keep their accuracy.",
        ),
    ] = 16
    scope: Annotated[
        Literal["tensor", "channel"],
        Field(
            description="One codebook a weight by default, for size; or one an output channel: more exact, but 16 "
            "float32 values a channel weigh as much as 128 weights of 4 bits."
        ),
    ] = "tensor"
    operators: Annotated[
        list[Operator],
        Field(description="Operator types whose weights are clustered. All by default: decoding costs no speed."),
    ] = OPERATORS


@register("cluster_weights", promises=Promise.SHRINKS, gives=Gain.CODEBOOK)
def cluster_weights(model: Model, ctx: Context, options: ClusterOptions) -> Change:
    """Let weights share a few values, stored as packed numbers of a codebook (k-means, non-uniform quantization).

    After Deep Compression (Han et al. 2016, arXiv:1510.00149). Codes take log2(clusters) bits and are decoded by
    standard operators that onnxruntime folds when it loads the model: the file shrinks, time and memory of a run are
    those of the float model. Where at least one weight in ``clusters`` is exactly zero (a pruned model), zero is one
    of the values, so zeros stay zeros.
    """
    require_opset(model, MINIMUM_OPSET)
    change, unpacker, quality = Change(), Unpacker(model), Quality()
    weights = find_stored(model, options.operators, options.only, options.skip, change)
    for stored in ctx.progress(weights, "cluster_weights"):
        by_channel = options.scope == "channel"
        books = stored.sizes[stored.axis] if by_channel else 1
        extra = books * (options.clusters * stored.tensor.dtype.itemsize + 4 * by_channel)
        if not gains(stored, radices(options.clusters), int(extra), change):
            continue
        book = _Book.of(stored, options.clusters, by_channel)
        quality.add(stored.name, book.signal_to_noise())
        book.write(unpacker)
        change.touch(stored.name, f"{stored.tensor.size} weights share {books} x {book.values.shape[1]} values")
    model.drop_unused()
    change.notes["sqnr_db"] = quality.by_name()
    return change


@dataclass(frozen=True)
class _Book:
    """Values [channels or 1, clusters] of a weight, ascending, in the weight's type."""

    stored: Stored
    values: Array
    by_channel: bool

    @classmethod
    def of(cls, stored: Stored, clusters: int, by_channel: bool) -> _Book:
        rows = stored.rows(by_channel)
        return cls(stored, centroids(rows, clusters).astype(rows.dtype), by_channel)

    def codes(self) -> Array:
        """uint8 [channels or 1, weights]: the number of the nearest value."""
        return assign(self.stored.rows(self.by_channel), self.values)

    def signal_to_noise(self) -> float:
        restored = np.take_along_axis(self.values, self.codes().astype(np.intp), axis=1)
        return signal_to_noise(self.stored.rows(self.by_channel), restored)

    def write(self, unpacker: Unpacker) -> None:
        """Let the weight's readers read Gather(values, codes)."""
        value, graph = self.stored.value, owner(self.stored.value)
        edit, bases, size = editor_for(unpacker.model, value), radices(self.values.shape[1]), self.stored.tensor.size
        planes = unpacker.store(
            f"{self.stored.name}_codes", lambda: self.codes().reshape(1, -1), (1, size), bases, graph
        )
        book = unpacker.model.add_weight(f"{self.stored.name}_values", ir.Tensor(self.values.reshape(-1)), graph)
        codes = unpacker.unpack(edit, planes, bases, "int32", size)
        shape, back = self.stored.turned(self.by_channel)
        if self.by_channel:
            codes = edit.op("Reshape", codes, unpacker.shape([self.values.shape[0], -1]))
            begins = (np.arange(len(self.values), dtype=np.int32) * self.values.shape[1]).reshape(-1, 1)
            begin = unpacker.model.add_weight(f"{self.stored.name}_offsets", ir.Tensor(begins), graph)
            codes = edit.op("Add", codes, begin)
        numbers = edit.op("Gather", book, edit.op("Reshape", codes, unpacker.shape(shape)), axis=0)
        if back != sorted(back):
            numbers = edit.op("Transpose", numbers, perm=back)
        value.replace_all_uses_with(numbers)
