"""Scores: how much a unit (a channel, a head) matters, as one number; the units with the lowest numbers are cut.

Let w_i be all weights that make unit i, as one vector; v_ik the weights that read its channel k; x_ik that channel.
  l1, l2               |w_i|_1, |w_i|_2 (Li et al. 2017, arXiv:1608.08710)
  batchnorm_scale      mean |gamma_i| of normalizations (network slimming, Liu et al. 2017, arXiv:1708.06519)
  geometric_median     sum_j |w_i - w_j|_2: what others can stand for goes first (He et al. 2019, arXiv:1811.00250)
  correlation          |w_i|_2 sqrt(1 - max_j r_ij^2), j over stronger units: what is left beside the best stand-in
  activation_weight    sum_k mean |x_ik| * |v_ik|_1 (Wanda, Sun et al. 2023, arXiv:2306.11695, for whole channels);
                       l2 for channels that no weight reads, such as those of queries and keys
  hessian              what others cannot make up for when i goes, by second derivatives: see ``output_error``
  gradient             (sum w_i dL/dw_i)^2, to first order what a loss does when i goes: see ``gradient``
  random               uniform: the baseline that every other score has to beat
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...arrays import Array
from ...model import Model
from ...passes import Context
from ..channels import Group, Grouping
from .evidence import CannotScore, Evidence
from .gradient import first_order
from .output_error import removal_costs

ScoreName = Literal[
    "l1",
    "l2",
    "batchnorm_scale",
    "geometric_median",
    "correlation",
    "activation_weight",
    "hessian",
    "gradient",
    "random",
]
Normalize = Literal["none", "mean", "max"]


def l1(evidence: Evidence) -> Array:
    score: Array = np.abs(evidence.makes).sum(axis=1)
    return score


def l2(evidence: Evidence) -> Array:
    score: Array = np.linalg.norm(evidence.makes, axis=1)
    return score


def batchnorm_scale(evidence: Evidence) -> Array:
    if not evidence.scales.size:
        raise CannotScore("no normalization scales these channels")
    score: Array = np.abs(evidence.scales).mean(axis=1)
    return score


def geometric_median(evidence: Evidence) -> Array:
    squares = np.square(evidence.makes).sum(axis=1)
    between = squares[:, None] + squares - 2 * evidence.makes @ evidence.makes.T
    score: Array = np.sqrt(np.maximum(between, 0)).sum(axis=1)
    return score


def correlation(evidence: Evidence) -> Array:
    norms = np.linalg.norm(evidence.makes, axis=1)
    directions = evidence.makes / np.maximum(norms, 1e-30)[:, None]
    order = np.argsort(-norms, kind="stable")
    likeness = np.tril(np.abs(directions[order] @ directions[order].T), -1).max(axis=1)
    left = np.empty_like(norms)
    left[order] = np.sqrt(np.maximum(1 - np.square(likeness), 0))
    score: Array = norms * left
    return score


def activation_weight(evidence: Evidence) -> Array:
    if not evidence.activations:
        return l2(evidence)
    pairs = zip(evidence.reads, evidence.activations, strict=True)
    score: Array = np.sum([(np.abs(weights).sum(axis=2) * size).sum(axis=1) for weights, size in pairs], axis=0)
    return score


def measured(evidence: Evidence) -> Array:
    """The score of a pass over the data that is told for each unit (hessian, gradient)."""
    if evidence.measured is None:
        raise CannotScore("no layer that this score can look at has to do with these channels")
    return evidence.measured


def random(evidence: Evidence) -> Array:
    return evidence.rng.random(len(evidence))


@dataclass(frozen=True)
class Score:
    """A score; call it like its function. ``reads_activations``: it looks at the mean magnitudes of a pass over data.

    ``measure`` is a pass over the data of its own, that gives ``Evidence.measured`` for each group.
    """

    function: Callable[[Evidence], Array]
    reads_activations: bool = False
    measure: Callable[[Model, Context, Grouping, Sequence[Group]], list[Array | None]] | None = None

    def __call__(self, evidence: Evidence) -> Array:
        return self.function(evidence)

    @property
    def needs_data(self) -> bool:
        return self.reads_activations or self.measure is not None


SCORES: dict[ScoreName, Score] = {
    "l1": Score(l1),
    "l2": Score(l2),
    "batchnorm_scale": Score(batchnorm_scale),
    "geometric_median": Score(geometric_median),
    "correlation": Score(correlation),
    "activation_weight": Score(activation_weight, reads_activations=True),
    "hessian": Score(measured, measure=removal_costs),
    "gradient": Score(measured, measure=first_order),
    "random": Score(random),
}


def normalized(scores: Array, how: Normalize) -> Array:
    """Scores of one group made comparable with those of others: divided by their mean or their maximum."""
    divisor = {"none": 1.0, "mean": float(scores.mean()), "max": float(scores.max())}[how]
    return scores / divisor if divisor > 0 else scores
