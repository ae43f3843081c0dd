"""The loop of a training: epochs of steps, and what is done between them (write, evaluate, judge, save)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from itertools import islice
from math import ceil, inf, isfinite, isnan
from operator import length_hint
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from ...arrays import Array
from ...errors import DataError
from ...model import Model
from ...passes import Context
from ...runtime import Feeds
from .checkpoint import read_checkpoint, refuse_other_training, write_checkpoint
from .history import Epoch, History
from .optimizers import Optimizer, norm
from .rates import FEWEST, Batches, Diverged, Search, untried
from .schedules import factor
from .state import Training
from .train_settings import TrainSettings


@dataclass(frozen=True)
class Hooks:
    """``evaluate``: what the best epoch has most of; ``measure``: the held-out loss, by which a rate is found."""

    evaluate: Callable[[], float] | None
    measure: Callable[[], float] | None
    on_step: Callable[[Training], None] | None
    write: Callable[[Model, Mapping[str, Array]], None]


@dataclass
class Trainer:
    student: Model
    settings: TrainSettings
    ctx: Context
    training: Training
    optimizer: Optimizer
    hooks: Hooks
    checkpoint: Path | None
    history: History = field(default_factory=History)
    best: Array | None = None

    def run(self, epoch: Batches, batches: int | None) -> History:
        """All epochs that are left. The number of steps must be known before the first, for the schedule."""
        if not self._finished:
            self._settle_rate(epoch, batches)
            opened = epoch(self.ctx.rng)
            self.training.steps = self._steps(length_hint(opened, -1) if batches is None else batches)
            left = self.training.steps - self.training.step
            for _ in self.ctx.progress(self._updates(opened, epoch), self._label, left):
                pass
        if self.best is not None:
            self.write(self.best)
        return self.history

    def _settle_rate(self, epoch: Batches, batches: int | None) -> None:
        """As given, as the checkpoint has it, or as trials find it."""
        if self.settings.learning_rate is not None:
            self.history.rate = self.settings.learning_rate
        elif not self.history.rate:
            self.history.rate = self.find_rate(epoch, batches)

    def find_rate(self, epoch: Batches, batches: int | None) -> float:
        """By trials, where there is something to judge them by and they cost little beside the training."""
        state = deepcopy(self.ctx.rng)
        steps = self._steps(length_hint(epoch(deepcopy(state)), -1) if batches is None else batches)
        if self.hooks.measure is None or steps < FEWEST:
            return untried(self.settings.optimizer)
        search = Search(self, epoch, state, steps, self.hooks.measure)
        rate = search.run()
        self.history.trials = search.trials
        return rate

    def _steps(self, batches: int) -> int:
        if batches < 0:
            raise ValueError("batches: the number of batches of an epoch must be given where they have no len")
        if batches == 0:
            raise _no_batch()
        steps = self.settings.epochs * ceil(batches / self.settings.accumulate)
        return min(steps, self.settings.steps or steps)

    def _updates(self, opened: Iterable[Feeds], epoch: Batches) -> Iterator[None]:
        while not self._finished:
            yield from self._epoch(iter(opened))
            if not self._finished:
                opened = epoch(self.ctx.rng)

    @property
    def _finished(self) -> bool:
        over = 0 < self.training.steps <= self.training.step or self.training.epoch >= self.settings.epochs
        return over or bool(self.history.stopped)

    def _label(self) -> str:
        told = [f"training, epoch {min(self.training.epoch + 1, self.settings.epochs)}/{self.settings.epochs}"]
        told += [f"{name} {value:.3g}" for name, value in self.training.last.items()]
        last = self.history.epochs[-1] if self.history.epochs else None
        return ", ".join([*told, f"score {last.score:.4g}"] if last is not None and last.score is not None else told)

    def _epoch(self, batches: Iterator[Feeds]) -> Iterator[None]:
        started, first, rate = perf_counter(), self.training.step, 0.0
        sums = self._no_losses()
        while self.training.step < self.training.steps:
            group = list(islice(batches, self.settings.accumulate))
            if not group:
                break
            rate = self._rate()
            sums += self.step(group, rate)
            yield
        steps = self.training.step - first
        if not steps:
            raise _no_batch()
        self._close(sums / steps, rate, perf_counter() - started, steps)

    def _rate(self) -> float:
        training, settings = self.training, self.settings
        return self.history.rate * factor(settings.schedule, settings.warmup, training.step, training.steps)

    def step(self, group: Sequence[Feeds], rate: float) -> Array:
        """One update; returns the loss and the terms."""
        training = self.training
        if self.hooks.on_step is not None:
            self.hooks.on_step(training)
        values = self._gradients(group)
        length = self.optimizer.step(rate, training.step + 1)
        if not isfinite(length):
            raise self._diverged(f"the norm of the gradient became {length}")
        training.step += 1
        training.last = self._named(values)
        return values

    def _gradients(self, group: Sequence[Feeds]) -> Array:
        """Loss and terms; the gradient is the mean over the samples of all batches of the group."""
        if len(group) == 1:
            return self._compute(group[0])
        flat, rows = self.training.session.buffers.gradients, [_rows(batch) for batch in group]
        values, total = self._no_losses(), flat * 0
        for batch, count in zip(group, rows, strict=True):
            share = count / sum(rows)
            values += self._compute(batch) * share
            flat *= share
            total += flat
        flat[:] = total
        return values

    def _no_losses(self) -> Array:
        return np.zeros_like(self.training.session.values, dtype=np.float64)

    def _compute(self, batch: Feeds) -> Array:
        self.training.compute(batch, self.training.weights)
        values = self.training.session.values.astype("float64")
        if not all(map(isfinite, values)):
            raise self._diverged(self._culprit(values))
        return values

    def _named(self, values: Array) -> dict[str, float]:
        return {name: float(value) for name, value in zip(("loss", *self._terms), values, strict=True)}

    @property
    def _terms(self) -> tuple[str, ...]:
        return tuple(self.training.session.objective.terms)

    def _culprit(self, values: Array) -> str:
        if not np.isfinite(self.training.session.buffers.parameters).all():
            return f"the gradient of step {self.training.step} was not finite, and so the weights are not"
        broken = [f"term '{name}'" for name, value in zip(self._terms, values[1:], strict=True) if not isfinite(value)]
        return f"{broken[0] if broken else 'the weighted sum of the terms'} made the loss {values[0]}"

    def _diverged(self, what: str) -> Diverged:
        good = self.history.epochs[-1].number if self.history.epochs else 0
        kept = f"the checkpoint holds epoch {good}" if self.checkpoint is not None and good else ""
        advice = (
            f"give a learning_rate below {self.history.rate:g}, or set clip_norm" if self.training.step else _AT_ONCE
        )
        hint = "; ".join(filter(None, [advice, kept]))
        return Diverged(f"training stopped in step {self.training.step + 1}: {what}", hint=hint)

    def _close(self, means: Array, rate: float, seconds: float, steps: int) -> None:
        parameters = self.training.session.buffers.parameters
        if not isfinite(norm(parameters)):
            raise self._diverged("a weight is no longer finite")
        self.training.epoch += 1
        self.write(parameters.copy())
        score = self.hooks.evaluate() if self.hooks.evaluate is not None else None
        loss, *terms = map(float, means)
        named = dict(zip(self._terms, terms, strict=True))
        self.history.epochs.append(Epoch(self.training.epoch, loss, named, score, rate, seconds, steps))
        self._judge()
        if self.checkpoint is not None:
            self._save(self.checkpoint)

    def _judge(self) -> None:
        """The best epoch's weights stay; where nothing is evaluated the last one's."""
        history, patience = self.history, self.settings.patience
        if self.hooks.evaluate is None:
            history.best = self.training.epoch
            return
        scores = [-inf if epoch.score is None or isnan(epoch.score) else epoch.score for epoch in history.epochs]
        best = scores.index(max(scores)) + 1
        if best == self.training.epoch or self.best is None:
            self.best = self.training.session.buffers.parameters.copy()
        history.best = best
        if patience is not None and self.training.epoch - best >= patience:
            history.stopped = f"no better score in {patience} epoch{'s' if patience > 1 else ''}"

    def write(self, flat: Array) -> None:
        self.hooks.write(self.student, self.training.session.buffers.views(flat))

    def _save(self, path: Path) -> None:
        arrays = {"parameters": self.training.session.buffers.parameters}
        arrays |= {f"moment_{index}": moment for index, moment in enumerate(self.optimizer.moments)}
        arrays |= {"best": self.best} if self.best is not None else {}
        rng = self.ctx.rng.bit_generator.state
        state = {"training": self.training.state(), "rng": rng, "history": asdict(self.history)}
        write_checkpoint(path, arrays, self._identity() | state)

    def _identity(self) -> dict[str, Any]:
        """What a checkpoint must agree with."""
        slots = {slot.name: list(slot.shape) for slot in self.training.session.buffers.slots}
        return {**self.ctx.identity, "parameters": slots, **self.settings.lasting()}

    def take_up(self, path: Path) -> None:
        """Go on from a checkpoint."""
        arrays, state = read_checkpoint(path)
        refuse_other_training(path, state, self._identity())
        self.training.session.buffers.parameters[:] = arrays["parameters"]
        for index, moment in enumerate(self.optimizer.moments):
            moment[:] = arrays[f"moment_{index}"]
        self.best = arrays.get("best")
        self.training.restore(state["training"])
        self.ctx.rng.bit_generator.state = state["rng"]
        told = state["history"]
        self.history = History(**{**told, "epochs": [Epoch(**epoch) for epoch in told["epochs"]]})
        self.write(arrays["parameters"])


_AT_ONCE = (
    "no weight has moved yet, so it is not the learning rate: look for NaN and infinities in the training data and in "
    "what student and teacher give for it, or leave that term out of the loss"
)


def _rows(batch: Feeds) -> int:
    """How many samples a batch holds: the first size of its first array."""
    shape = next(iter(batch.values())).shape
    return shape[0] if shape else 1


def _no_batch() -> DataError:
    return DataError(
        "an epoch of the training data holds no batch", hint="give more data, or a batch_size that it can fill"
    )
