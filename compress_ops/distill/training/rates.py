"""The learning rate that suits a model: a few are tried, each in a small copy of the training ahead.

From the same start and on the same batches a rate r runs the schedule of the whole training in n of its T steps. L(r)
is the held-out loss after them, L(0) that before, L* the least that was seen. What is taken is

    max {r : L(r) <= L* (1 + (L* / L(0))^4 / 2)},

between two trials as a straight line of log L over log r has it.

The best trial would be the wrong choice: short trials prefer rates that are too small for the whole (Wu et al. 2018,
arXiv:1803.02021). Adam's first steps, which move every weight by about r however small its gradient, may be a reason.
Hence a rate may raise the loss by half where the trials gain nothing, and the more they gain
the more they count: where L* is half of L(0), a thirtieth is allowed. Trials begin in the middle of a geometric grid
and go up while rates pass, or down until one does: four of seven rates at most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import islice
from math import inf, isnan, log
from typing import Protocol

import numpy as np

from ...arrays import Array
from ...errors import PassError
from ...passes import Context
from ...runtime import Feeds
from .optimizers import Optimizer
from .schedules import factor
from .state import Training
from .train_settings import TrainSettings

Batches = Callable[[np.random.Generator], Iterable[Feeds]]


class Diverged(PassError):
    """A loss, a gradient or a weight is no longer finite."""


Trial = tuple[float, float]
"""A rate and the held-out loss that it led to."""

GRIDS: dict[str, tuple[float, ...]] = {
    "sgd": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
    "adam": (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2),
    "adamw": (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2),
}
SHARE = 0.25  # of the planned steps: what all trials may take together
SHORTEST, LONGER = 4, 12  # steps that a trial has all the same, a tenth of the training: fewer show Adam's first alone
FEWEST = 20  # planned steps below which nothing is tried
_ALLOWED, _EXPONENT = 0.5, 4


class Trainer(Protocol):
    """What a search makes its trials on."""

    settings: TrainSettings
    ctx: Context
    training: Training
    optimizer: Optimizer

    def step(self, group: Sequence[Feeds], rate: float) -> Array: ...

    def write(self, flat: Array) -> None: ...


@dataclass
class Search:
    """Trials on a trainer that has not begun a training of so many ``planned`` steps.

    ``rng`` is in the state in which the training will find its own, so that trials see the batches that it begins with.
    ``measure`` gives the held-out loss of the student as it is. Afterwards the trainer is what it was.
    """

    trainer: Trainer
    epoch: Batches
    rng: np.random.Generator
    planned: int
    measure: Callable[[], float]
    trials: list[Trial] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._grid = GRIDS[self.trainer.settings.optimizer]
        self._state = deepcopy(self.trainer.training.state())
        self._start = self.trainer.training.session.buffers.parameters.copy()
        self._steps = trial_steps(self.planned, len(self._grid))

    def run(self) -> float:
        """The rate; what each gave is in ``trials``."""
        before, most = self.measure(), self._steps * (len(self._grid) // 2 + 1)
        try:
            for _ in self.trainer.ctx.progress(self._updates(before), self._label, most):
                pass
        finally:
            self._begin()
            self.trainer.write(self._start)
            self.trainer.training.restore(self._state)
        return chosen(self.trials, before)

    def _updates(self, before: float) -> Iterator[None]:
        middle = len(self._grid) // 2
        yield from self._tried(self._grid[middle])
        up = self.trials[0][1] <= limit(self.trials, before)
        for rate in self._grid[middle + 1 :] if up else self._grid[middle - 1 :: -1]:
            yield from self._tried(rate)
            if up != (self.trials[-1][1] <= limit(self.trials, before)):
                return

    def _tried(self, rate: float) -> Iterator[None]:
        self._begin()
        self.trainer.training.restore({**deepcopy(self._state), "steps": self._steps})
        try:
            yield from self._trial(rate)
            self.trainer.write(self.trainer.training.session.buffers.parameters.copy())
            loss = self.measure()
        except Diverged:
            loss = inf
        self.trials.append((rate, inf if isnan(loss) else loss))

    def _begin(self) -> None:
        self.trainer.training.session.buffers.parameters[:] = self._start
        for moment in self.trainer.optimizer.moments:
            moment[:] = 0

    def _trial(self, rate: float) -> Iterator[None]:
        settings = self.trainer.settings
        for step, group in enumerate(islice(self._groups(), self._steps)):
            self.trainer.step(group, rate * factor(settings.schedule, settings.warmup, step, self._steps))
            yield

    def _groups(self) -> Iterator[Sequence[Feeds]]:
        """Those of the training's first epochs; an epoch without a batch is left to the training to tell."""
        rng, size = deepcopy(self.rng), self.trainer.settings.accumulate
        while True:
            batches = iter(self.epoch(rng))
            groups = list(islice(batches, size))
            if not groups:
                return
            while groups:
                yield groups
                groups = list(islice(batches, size))

    def _label(self) -> str:
        told = [f"{rate:g} {loss:.4g}" for rate, loss in self.trials]
        return ", ".join(["trying learning rates, held-out loss", *told])


def trial_steps(steps: int, rates: int) -> int:
    """How long each of at most rates / 2 + 1 trials is, of a training of so many steps."""
    return max(round(SHARE * steps / (rates // 2 + 1)), min(LONGER, max(SHORTEST, steps // 10)))


def untried(optimizer: str) -> float:
    """Where nothing can be tried: the middle of the grid."""
    grid = GRIDS[optimizer]
    return grid[len(grid) // 2]


def limit(trials: Sequence[Trial], before: float) -> float:
    """The loss that is allowed."""
    best = min(before, *(loss for _, loss in trials))
    return best * (1 + _ALLOWED * (best / before) ** _EXPONENT) if before > 0 else 0.0


def chosen(trials: Sequence[Trial], before: float) -> float:
    """The largest rate within the limit, to one digit; the smallest that was tried where none is."""
    most = limit(trials, before)
    rate, loss = max((trial for trial in trials if trial[1] <= most), default=(0.0, 0.0))
    beyond, more = min((trial for trial in trials if trial[0] > rate), default=(inf, inf))
    if not rate:
        return beyond
    if more == inf or loss <= 0:
        return rate
    return float(f"{rate * (beyond / rate) ** (log(most / loss) / log(more / loss)):.0e}")
