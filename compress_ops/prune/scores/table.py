"""The scores by which units are cut: one table. A new one is one function in ``formulas`` and one entry here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from ...arrays import Array
from ...model import Model
from ...passes import Context
from ..channels import Group, Grouping
from . import formulas
from .formulas import Evidence
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
    "l1": Score(formulas.l1),
    "l2": Score(formulas.l2),
    "batchnorm_scale": Score(formulas.batchnorm_scale),
    "geometric_median": Score(formulas.geometric_median),
    "correlation": Score(formulas.correlation),
    "activation_weight": Score(formulas.activation_weight, reads_activations=True),
    "hessian": Score(formulas.measured, measure=removal_costs),
    "gradient": Score(formulas.measured, measure=first_order),
    "random": Score(formulas.random),
}


def normalized(scores: Array, how: Normalize) -> Array:
    """Scores of one group made comparable with those of others: divided by their mean or their maximum."""
    divisor = {"none": 1.0, "mean": float(scores.mean()), "max": float(scores.max())}[how]
    return scores / divisor if divisor > 0 else scores
