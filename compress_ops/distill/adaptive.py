"""Losses that find their own weights, and a temperature that falls.

Every few steps the gradient norm g_k of each loss is measured (with momentum, since batches differ), and

    w_k = b_k g / g_k,   g = sum_j b_j g_j / sum_j b_j,

so that what each loss moves is in proportion to its own weight b_k, whatever its scale (after Chen et al. 2018,
GradNorm, arXiv:1711.02257). The temperature falls from T to 1 in a straight line (Jafari et al. 2021,
arXiv:2104.07163).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .losses import TEMPERATURE
from .train import Training

_EVERY = 10  # steps between two looks: a norm costs a backward pass
_KEPT = 0.7  # of the norm before
_LEAST = 1e-3  # of the largest norm: a loss that has reached 0 must not take over


@dataclass(frozen=True)
class Adaptation:
    """Goes along with a training, as its ``on_step``."""

    weights: Mapping[str, float]
    temperature: float

    def __call__(self, training: Training) -> None:
        if TEMPERATURE in training.scalars:
            done = training.step / max(training.steps - 1, 1)
            training.scalars[TEMPERATURE] = self.temperature + (1 - self.temperature) * min(done, 1)
        if len(self.weights) > 1 and training.step % _EVERY == 0:
            norms = {name: self._norm(training, name) for name in self.weights}
            training.memory["norms"] = norms
            training.weights.update(balanced(self.weights, norms))

    @staticmethod
    def _norm(training: Training, name: str) -> float:
        before = training.memory.get("norms", {}).get(name)
        now = training.gradient_norm(name)
        return now if before is None else _KEPT * before + (1 - _KEPT) * now


def balanced(weights: Mapping[str, float], norms: Mapping[str, float]) -> dict[str, float]:
    """The w_k above."""
    least = _LEAST * max(norms.values())
    floored = {name: max(norm, least) for name, norm in norms.items()}
    mean = sum(weights[name] * floored[name] for name in weights) / sum(weights.values())
    return {name: weight * mean / floored[name] if floored[name] else weight for name, weight in weights.items()}
