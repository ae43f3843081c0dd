"""separable_conv: a Conv becomes a depthwise Conv and a 1x1, fitted on data.

W'[n, c, k] = P[n, c] D[c, k]: for each input channel a kernel of rank 1. With G = X^T X of patches, |X (W' - W)|^2 is
quadratic in P for a given D and in D for a given P, so that each is solved in turn (alternating least squares):
    P:  (S^T G S) P^T = S^T G W          S [inner, channels] holds D[c] in the rows of channel c
    D:  (G * (P^T P)[c, c']) d = sum_n (G W)[(c, k), n] P[n, c]
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from ..arrays import Array
from ..model import Model
from ..passes import ALL, NONE, Change, Context, Fraction, Need, Only, Promise, Skip, register
from .layers import Layer, find_layers
from .products import can_be_tapped, with_roots
from .rewrite import rewrite
from .schemes import Cost, Kernel

_ROUNDS = 5  # of alternating least squares; the error falls with each, and by little after a few
_RIDGE = 1e-6  # of the mean diagonal: channels that the data never used leave the equations singular


@register("separable_conv", promises=Promise.SHRINKS, needs={Need.CALIBRATION, Need.SHAPES})
def separable_conv(
    model: Model,
    ctx: Context,
    *,
    energy: Annotated[
        Fraction, Field(description="Share of each layer's output (squared) that has to be kept, else it stays.")
    ] = 0.95,
    only: Only = ALL,
    skip: Skip = NONE,
) -> Change:
    """Replace convolutions by depthwise and 1x1 convolutions, fitted on data in closed form.

    As in MobileNet (Howard et al. 2017, arXiv:1704.04861), but fitted to the trained kernel: alternating least squares
    on the outputs for the calibration data. A kernel of k numbers a channel becomes about k times cheaper, and there is
    no rank to choose; few trained kernels allow it. Those that would keep less than ``energy`` of their output are
    declined with what they would keep. At the default of 0.95 an output may be off by 22 %, which convolutional
    classifiers were seen to stand; measure it.
    """
    change = Change()
    layers = [*_able(find_layers(model, ["Conv"], only, skip, change), model, change)]
    fits = [(layer, fit) for layer, fit in _fits(model, ctx, layers, change) if _is_kept(layer, fit, energy, change)]
    for layer, fit in fits:
        rewrite(model, layer, "separable", fit.factors)
        change.touch(layer.node.name, f"{fit.cost.parameters} of {layer.tensor.size} parameters, error {fit.error:.2%}")
    model.drop_unused()
    change.notes = {
        "parameters_before": sum(layer.tensor.size for layer, _ in fits),
        "parameters_after": sum(fit.cost.parameters for _, fit in fits),
        "worst_error": round(max((fit.error for _, fit in fits), default=0.0), 4),
    }
    return change


def _able(layers: Any, model: Model, change: Change) -> Any:
    for layer in layers:
        reason = _why_not(model, layer)
        if reason:
            change.decline(layer.node.name, f"Conv: {reason}")
        else:
            yield layer


def _why_not(model: Model, layer: Layer) -> str:
    outputs, channels, *sizes = layer.tensor.shape.numpy()
    if channels * (math.prod(sizes) + outputs) >= 0.9 * layer.tensor.size:
        return "depthwise and 1x1 would not save 10 %"
    return "" if can_be_tapped(model, layer) else "no calibration data reaches it, or its patches are too large"


def _fits(model: Model, ctx: Context, layers: list[Layer], change: Change) -> Any:
    for layer, root in with_roots(model, ctx, layers, change, "separable_conv"):
        if root is None:
            change.decline(layer.node.name, "Conv: it reads nothing but zeros")
        else:
            yield layer, Separable(Kernel(layer.weight(), layer.reading(), root))


def _is_kept(layer: Layer, fit: Separable, energy: float, change: Change) -> bool:
    kept = 1 - fit.error**2
    if kept < energy:
        change.decline(layer.node.name, f"Conv: depthwise and 1x1 would keep {kept:.1%} of its output's energy")
    return kept >= energy


@dataclass
class Separable:
    """The fit of one kernel."""

    kernel: Kernel

    @property
    def cost(self) -> Cost:
        numbers = sum(factor.size for factor in self.factors)
        return Cost(numbers, numbers)

    @cached_property
    def error(self) -> float:
        """Root mean square of the output's error, relative to the output."""
        depthwise, pointwise = self.factors
        return math.sqrt(self.kernel.lost(pointwise * depthwise.swapaxes(0, 1)))

    @cached_property
    def factors(self) -> tuple[Array, Array]:
        """Kernels [channels, 1, *sizes] and [outputs, channels, 1...]."""
        weight, root = self.kernel.weight, self.kernel.root
        assert root is not None
        outputs, channels, *sizes = weight.shape
        depthwise = _first_kernels(weight.reshape(outputs, channels, -1))
        product, target = root @ root.T, root @ (root.T @ self.kernel.matrix)
        for _ in range(_ROUNDS):
            pointwise = _pointwise(depthwise, product, target)
            depthwise = _depthwise(pointwise, product, target)
        pointwise = _pointwise(depthwise, product, target)
        return depthwise.reshape(channels, 1, *sizes), pointwise.reshape(outputs, channels, *[1] * len(sizes))


def _first_kernels(weight: Array) -> Array:
    """[channels, k]: the best of rank 1 for each channel, by weights alone."""
    return np.linalg.svd(weight.transpose(1, 0, 2), full_matrices=False)[2][:, 0]


def _pointwise(depthwise: Array, product: Array, target: Array) -> Array:
    """P [outputs, channels] for a given D."""
    channels, size = depthwise.shape
    spread = (np.eye(channels)[:, None, :] * depthwise[:, :, None]).reshape(channels * size, channels)
    return _solve(spread.T @ product @ spread, spread.T @ target).T


def _depthwise(pointwise: Array, product: Array, target: Array) -> Array:
    """D [channels, k] for a given P, each channel's of length 1: the scale is P's."""
    channels = pointwise.shape[1]
    size = len(product) // channels
    alike = np.repeat(np.repeat(pointwise.T @ pointwise, size, axis=0), size, axis=1)
    wanted = (target * np.repeat(pointwise.T, size, axis=0)).sum(axis=1)
    found = _solve(product * alike, wanted).reshape(channels, size)
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    return np.divide(found, lengths, out=np.full_like(found, size**-0.5), where=lengths > 0)


def _solve(matrix: Array, wanted: Array) -> Array:
    ridge = _RIDGE * max(np.trace(matrix) / len(matrix), np.finfo(np.float64).tiny)
    return np.linalg.solve(matrix + ridge * np.eye(len(matrix)), wanted)
