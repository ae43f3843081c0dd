"""What a choice of forms will cost as a whole, from the table of costs and what whole models were measured to take.

The file is what the model takes now, with each layer's bytes exchanged. Losses add up, those of each form times k,
which corrects for what first order leaves out: 1 until models are measured, then fitted to their losses, relative to
these, by ridge regression around the median of measured over predicted. Times are told from an anchor, a choice a
whose model took T_a:

    T(x) = T_a + sum over i of t_i(x_i) - t_i(a_i) + c(x) - c(a),
    c(x) = sum over i of e_i(x_i) (1 - sum over j in integers of w_ij),

with t_i the time of layer i by itself, e_i that of quantizing what it reads and decoding what it gives, where it
computes in integers (0 elsewhere), and w_ij the share of its ends that lie at layer j: between two layers in integers
nothing is converted. Of all anchors the one from which least changes counts; every model that is measured becomes one.
The float model is the first. For the solver c is linear around the anchor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...arrays import Array
from ..costs.cost_table import Costs
from ..solver import Problem

_LEAST = 0.02  # of the time of the float model: no choice is expected to take less
_FACTORS = (0.05, 50.0)  # what losses may be corrected by
_BESIDE = (0.2, 20.0)  # and one form beside the others
_RIDGE = 0.1


@dataclass(frozen=True)
class Anchor:
    """A choice, [layers], and the seconds that its model takes."""

    choice: Array
    seconds: float


@dataclass
class Predictions:
    """``size`` is that of the whole float model, ``seconds`` what it takes; ``kept`` is the loss that it comes with.

    ``original_size`` and ``original_seconds`` are the original's, before it was prepared.
    """

    costs: Costs
    size: int
    seconds: float
    original_size: int
    original_seconds: float
    kept: float = 0.0
    lossier: Array = field(default_factory=lambda: np.ones(1))
    anchors: list[Anchor] = field(default_factory=list)
    _losses: list[tuple[Array, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.anchors.append(Anchor(np.zeros(len(self.costs.layers), np.int64), self.seconds))

    def problems(self) -> Iterator[Problem]:
        """The costs of all choices as each anchor tells them; and those of size and time as one."""
        size = self.costs.bytes.astype(np.float64)
        for anchor in self.anchors:
            seconds = self._seconds_from(anchor)
            fixed = {
                "loss": self.kept,
                "bytes": self.size - float(size[:, 0].sum()),
                "seconds": anchor.seconds - float(_picked(seconds, anchor.choice).sum()),
            }
            table = {"loss": self.losses(), "bytes": size, "seconds": seconds}
            yield Problem({**table, "size and time": self._both(table)}, {**fixed, "size and time": self._both(fixed)})

    def _both(self, costs: Mapping[str, Any]) -> Any:
        """Size and time as one: each as a share of the original's."""
        return costs["bytes"] / self.original_size + costs["seconds"] / self.original_seconds

    def losses(self) -> Array:
        """Noise over signal of each layer in each form, corrected, [layers, forms]; infinite where it cannot be."""
        return self.costs.loss * self.lossier

    def _seconds_from(self, anchor: Anchor) -> Array:
        """Of each layer in each form its time and the conversions that it brings if only it changes."""
        edges, links = self.costs.edges, self.costs.links
        own = _picked(edges, anchor.choice)
        alone = 1 - links @ (own > 0)
        return self.costs.seconds + np.where(edges > 0, edges * alone[:, None], (own @ links)[:, None])

    def _conversions(self, choice: Array) -> float:
        """c of a choice, in seconds."""
        own = _picked(self.costs.edges, choice)
        return float((own * (1 - self.costs.links @ (own > 0))).sum())

    def _seconds(self, choice: Array) -> float:
        """What is expected from the nearest anchor."""
        near = min(self.anchors, key=lambda anchor: self._changes(anchor, choice))
        kernels = float((_picked(self.costs.seconds, choice) - _picked(self.costs.seconds, near.choice)).sum())
        told = near.seconds + kernels + self._conversions(choice) - self._conversions(near.choice)
        return max(told, _LEAST * self.seconds)

    def _changes(self, anchor: Anchor, choice: Array) -> tuple[float, int]:
        """Seconds that lie between an anchor and a choice, up and down added up; and how many layers differ."""
        alone = self.costs.seconds + self.costs.edges
        between = np.abs(_picked(alone, choice) - _picked(alone, anchor.choice)).sum()
        return float(between), int((choice != anchor.choice).sum())

    def of(self, choice: Array) -> dict[str, float]:
        """What is expected of a choice, [layers], by kind of cost."""
        problem = next(self.problems())
        found = {kind: float(problem.total(kind, choice[None])[0]) for kind in ("loss", "bytes")}
        found["seconds"] = self._seconds(choice)
        return {**found, "size and time": self._both(found)}

    def learn(self, choice: Array, loss: float | None, seconds: float | None) -> None:
        """Take in what was measured of a whole model."""
        if seconds is not None:
            self.anchors.append(Anchor(choice, seconds))
        by_form = np.bincount(choice, _picked(self.costs.loss, choice), minlength=len(self.costs.forms))
        if loss is not None and loss > self.kept and by_form.sum() > 0:
            self._losses.append((by_form, loss - self.kept))
            self.lossier = _fitted(*map(np.array, zip(*self._losses, strict=True)))


def _fitted(expected: Array, measured: Array) -> Array:
    """k of each form, [forms], from losses by form, [models, forms], and those of whole models, [models]."""
    usual = float(np.median(measured / expected.sum(axis=1)))
    shares = usual * expected / measured[:, None]
    moment = shares.T @ shares + _RIDGE * np.eye(shares.shape[1])
    beyond = np.linalg.solve(moment, shares.T @ (1 - shares.sum(axis=1)))
    return np.clip(usual * np.clip(1 + beyond, *_BESIDE), *_FACTORS)


def _picked(table: Array, choice: Array) -> Array:
    """Of each layer what stands under its form, [layers]."""
    return np.asarray(table[np.arange(len(choice)), choice])
