"""One training of a student by a teacher: objective, samples, steps, and what is kept of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, TypedDict

import numpy as np

from ...data import Dataset
from ...errors import DataError, PassError
from ...lazy import ir
from ...model import Model
from ...passes import Change, Context
from ...runtime import Arrays
from ..losses import LOSSES, TEMPERATURE, Inputs, Wanted, Weights, asks_for_classes, build_objective, chosen_weights
from ..losses.objective import Objective
from ..options import Taught
from ..training.history import History
from ..training.train import Training, Write, find_rate, train, write_weights
from ..training.train_settings import TrainSettings
from .adapters import Adapted, adapted
from .held_out import HeldOut, weights_of
from .masks import Mask
from .samples import Rows, Samples, Split, Store, split
from .targets import Enricher, Targets, find_targets
from .teacher import Tensors, load_teacher, refuse_random

_SAME = (
    "it gives what the teacher gives already: put a step that changes it in front, such as prune_channels: {ratio: 0.5}"
    ", or name another teacher: FILE.onnx"
)
_NOTHING = 1e-6  # of a held-out loss: what rounding of single precision leaves where both models are one


@dataclass(frozen=True)
class Lesson:
    """Teacher and data, and what is to be learned from them."""

    teacher: Model
    data: Dataset
    targets: Targets


def training_data(ctx: Context) -> Dataset:
    data = ctx.training if ctx.training is not None else ctx.calibration
    if data is None:
        raise PassError("training data is needed", hint="give --data, or data.training in the recipe")
    return data


def lesson_of(model: Model, ctx: Context, options: Taught, pairs: dict[str, str] | None = None) -> Lesson:
    data = training_data(ctx)
    teacher = load_teacher(options.teacher, ctx)
    refuse_random(model, "student")
    refuse_random(teacher, "teacher")
    classes = asks_for_classes(options.loss)
    return Lesson(teacher, data, find_targets(model, teacher, ctx, data, options.match, pairs or {}, classes=classes))


@dataclass(frozen=True)
class Task:
    """One training, from its objective to what became of the model."""

    model: Model
    ctx: Context
    lesson: Lesson
    weights: Weights
    parameters: Sequence[str]
    temperature: float
    settings: TrainSettings
    adaptive: bool = False
    rank: int | None = None
    hold_out: float = 0.1
    batch: int | None = None
    mask: Mask = field(default_factory=Mask)

    @classmethod
    def of(
        cls, options: Taught, model: Model, ctx: Context, lesson: Lesson, parameters: Sequence[str], **more: Any
    ) -> Task:
        """The training that a pass's options ask for."""
        weights = chosen_weights(options.loss, options.blend, lesson.targets.natures)
        given = {"hold_out": options.hold_out, "batch": options.batch, **more}
        return cls(model, ctx, lesson, weights, parameters, options.temperature, TrainSettings.of(options), **given)

    def tried(self) -> Change:
        """A dry run: one step on the first batch."""
        objective, inputs = self._objective()
        enricher = self._enricher(inputs)
        first = [enricher(batch) for batch in self.lesson.data.batches(limit=1)]
        self._train(objective, first, None, len(first))
        change = Change()
        for name in self.parameters:
            change.touch(name, "to be trained")
        return change

    def done(self) -> Change:
        """Train, and say what became of the weights."""
        with self._prepared() as (objective, epochs, judging):
            return self._judge(objective, epochs, judging)

    def trained(self) -> tuple[float, float]:
        """Train, and keep what comes of it; the held-out loss before and after."""
        with self._prepared() as (objective, epochs, judging):
            before = judging()
            self._train(objective, epochs, None, len(epochs))
            return before, judging()

    def rate(self) -> float:
        """The learning rate that trials find; nothing is trained."""
        with self._prepared() as (objective, epochs, judging):
            how = self._how(objective)
            return find_rate(
                objective, self.model, epochs, self.settings, self.ctx, judging, batches=len(epochs), **how
            )

    @contextmanager
    def _prepared(self) -> Iterator[tuple[Objective, _Epochs, HeldOut]]:
        """What is trained, on what, and what judges it; the teacher's outputs are kept meanwhile."""
        objective, inputs = self._objective()
        judged = self._judged(objective)
        judge, more = self._written(self.model, self.parameters, judged)
        with Store() as store:
            samples = self._samples(store, _both(inputs, more))
            size = self._batch_size(samples)
            parts = split(samples, self.hold_out, size, self.ctx.rng)
            held_out = partial(samples.batches, parts.held_out, size)
            judging = HeldOut(judge, self.model, self.ctx, held_out, _plain(judged), self._scalars)
            yield objective, _Epochs(samples, parts, size), judging

    def _judge(self, objective: Objective, epochs: _Epochs, judging: HeldOut) -> Change:
        """Train, and keep the weights if they do better."""
        change, before, old = Change(), judging(), weights_of(self.model, self.parameters)
        history = self._train(objective, epochs, judging, len(epochs))
        after = judging()
        change.notes = _notes(history, self.weights, before, after)
        if self.mask.kept:
            change.notes["zeros that stay"] = self.mask.told()
        if self.settings.learning_rate is None:
            change.chosen = {"learning_rate": history.rate}
            change.notes["learning rate"] = _told_rate(history)
        if after < before:
            _touch(change, self.model, old)
        else:
            _restore(self.model, old)
            lost = f"the held-out loss went from {before:.4g} to {after:.4g}: the weights stay as they were"
            advice = _SAME if before < _NOTHING else _advice(history, before)
            change.decline("the training", f"{lost}; {advice}")
        return change

    def _train(
        self, objective: Objective, epochs: _Epochs | Sequence[Arrays], judging: HeldOut | None, batches: int
    ) -> History:
        return train(
            objective,
            self.model,
            epochs if isinstance(epochs, _Epochs) else lambda rng: epochs,
            self.settings,
            self.ctx,
            batches=batches,
            evaluate=(lambda: -judging()) if judging is not None else None,
            measure=judging,
            **self._how(objective),
            checkpoint=self.ctx.checkpoint,
            resume=self.ctx.resume and self.ctx.checkpoint is not None and self.ctx.checkpoint.exists(),
        )

    def _how(self, objective: Objective) -> _How:
        return {
            "weights": _plain(self.weights),
            "scalars": {name: self._scalars[name] for name in objective.settings},
            "on_step": self.mask.on_step,
            "write": self.mask.around(self._adapted.write if self._adapted is not None else write_weights),
        }

    @property
    def _scalars(self) -> dict[str, float]:
        return {TEMPERATURE: self.temperature}

    @cached_property
    def _adapted(self) -> Adapted | None:
        return (
            adapted(self.model, self.parameters, self.rank, self.ctx.rng, self.mask) if self.rank is not None else None
        )

    def _objective(self) -> tuple[Objective, Inputs]:
        """What is trained: the student's weights, or adapters beside them."""
        if self._adapted is None:
            return self._written(self.model, self.parameters, self.weights)
        return self._written(self._adapted.model, self._adapted.parameters, self.weights)

    def _written(self, model: Model, parameters: Sequence[str], weights: Weights) -> tuple[Objective, Inputs]:
        targets = self.lesson.targets
        unlabelled = [name for name in weights if LOSSES[name].of_labels and targets.labels is None]
        if unlabelled:
            hint = "name the array that holds them (labels of data.training), or use a loss without labels"
            raise DataError(f"the loss {unlabelled[0]} needs labels, and the training data has none", hint=hint)
        wanted = Wanted(
            weights,
            parameters,
            targets.outputs,
            targets.pairs,
            targets.labels,
            targets.mask,
        )
        return build_objective(model, wanted, self.ctx.rng)

    def _judged(self, objective: Objective) -> Weights:
        """What is measured on held-out data: every loss that does not stand on maps that only training has."""
        left: Weights = {name: weight for name, weight in self.weights.items() if not LOSSES[name].mapped}
        if not objective.helpers:
            return self.weights
        return left or chosen_weights(None, 0, self.lesson.targets.natures)

    def _enricher(self, inputs: Inputs) -> Enricher:
        names = Enricher.tensors(self.lesson.targets, inputs)
        teacher = Tensors(self.lesson.teacher, names, self.ctx) if names else None
        return Enricher(self.lesson.targets, inputs, teacher, self._believed)

    @property
    def _believed(self) -> str | None:
        """The output whose teacher is corrected by labels."""
        if not self.adaptive:
            return None
        if self.lesson.targets.labels is None:
            hint = "name the array that holds them (labels of data.training), or leave adaptive out"
            raise DataError("adaptive corrects the teacher by labels, and the training data has none", hint=hint)
        name, nature = next(iter(self.lesson.targets.natures.items()))
        if not nature.classes:
            raise PassError(f"adaptive: the first output '{name}' holds no classes", hint="leave adaptive out")
        return name

    def _samples(self, store: Store, inputs: Inputs) -> Samples:
        enricher, data = self._enricher(inputs), self.lesson.data

        def batches() -> Iterable[tuple[Arrays, int]]:
            for batch in data.watched(self.ctx.progress, "distill: teacher"):
                yield enricher(batch), batch.size

        return store.keep(batches, len(data), lambda: sum(1 for _ in data.batches()))

    def _batch_size(self, samples: Samples) -> int:
        """What is asked for, or what the data feeds at once; a model of fixed batch takes no other."""
        fed = next(iter(self.lesson.data.batches(limit=1))).size
        inputs = [value for value in self.model.graph.inputs if value.name not in self.model.defaults]
        fixed = {value.shape[0] for value in inputs if value.shape is not None and value.shape.rank()}
        sizes, wanted = [size for size in fixed if isinstance(size, int)], self.batch
        if wanted is not None and (not isinstance(samples, Rows) or (sizes and wanted not in sizes)):
            raise PassError(f"the model is fed {fed} at a time: batch cannot be {wanted}", hint="use accumulate")
        return wanted or fed


@dataclass(frozen=True)
class _Epochs:
    """What is trained on, in a new order each time."""

    samples: Samples
    parts: Split
    size: int

    def __call__(self, rng: np.random.Generator) -> Iterable[Arrays]:
        return self.samples.batches(rng.permutation(self.parts.training), self.size)

    def __len__(self) -> int:
        return self.samples.count(len(self.parts.training), self.size)


class _How(TypedDict):
    """What a training and the search for its learning rate share."""

    weights: dict[str, float]
    scalars: dict[str, float]
    on_step: Callable[[Training], None] | None
    write: Write


def _plain(weights: Weights) -> dict[str, float]:
    return {str(name): weight for name, weight in weights.items()}


def _both(a: Inputs, b: Inputs) -> Inputs:
    """Two objectives of one student call their inputs alike."""
    return Inputs({**a.outputs, **b.outputs}, {**a.pairs, **b.pairs}, a.labels or b.labels, a.mask or b.mask)


def _notes(history: History, weights: Weights, before: float, after: float) -> dict[str, object]:
    epochs = len(history.epochs)
    return {
        "loss": " + ".join(f"{weight:g} {name}" if weight != 1 else name for name, weight in weights.items()),
        "held-out loss": f"{before:.4g} -> {after:.4g}",
        "epochs": f"{epochs}" + (f" (best {history.best})" if history.best not in (0, epochs) else ""),
        "held-out loss by epoch": [-epoch.score if epoch.score is not None else epoch.loss for epoch in history.epochs],
    }


def _advice(history: History, before: float) -> str:
    """What to do where training did harm."""
    if history.trials and all(loss >= before for _, loss in history.trials):
        rates = ", ".join(f"{rate:g}" for rate, _ in history.trials)
        return f"none of the learning rates that were tried lowered it ({rates}): give more data, or more epochs"
    return f"try a smaller learning_rate, such as {history.rate / 10:g}"


def _told_rate(history: History) -> str:
    tried = ", ".join(f"{loss:.3g} with {rate:g}" for rate, loss in history.trials)
    why = f"found; held-out loss of trials: {tried}" if tried else "a guess: too few steps for trials"
    return f"{history.rate:g} ({why})"


def _touch(change: Change, model: Model, old: Arrays) -> None:
    for name, now in weights_of(model, list(old)).items():
        moved = float(np.linalg.norm(now.astype(np.float64) - old[name]))
        if moved:
            length = float(np.linalg.norm(old[name].astype(np.float64)))
            change.touch(name, f"moved by {moved / length:.1%} of its length" if length else "moved from zero")


def _restore(model: Model, old: Arrays) -> None:
    for name, array in old.items():
        model.graph.initializers[name].const_value = ir.Tensor(array, name=name)
