"""distill: a model learns to give what another one gives (Hinton, Vinyals, Dean 2015, arXiv:1503.02531).

L(w) = sum_k w_k L_k(student(x; w), teacher(x)) falls by gradient steps on the student's weights, over training data x
that needs no labels. ``losses`` has the L_k, ``train`` takes the steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, Literal

import numpy as np
from pydantic import Field

from ..autodiff import trainable
from ..errors import DataError, PassError
from ..model import Model
from ..passes import Change, Context, Need, Promise, register
from ..settings import Settings
from .lesson.evaluation import MOST_SEEDS, Scores, metric_of, score, start_anew, verdict
from .lesson.masks import zeros_of
from .lesson.task import Task, lesson_of
from .options import Taught
from .training.train_settings import Descent


def _asks(options: Any) -> Iterable[Need]:
    """A baseline is judged on evaluation data."""
    return [Need.EVALUATION] if options.baseline is not None else []


class Beside(Settings):
    """What distill alone can do with a teacher, and without it."""

    pairs: dict[str, str] = Field(
        {}, description="Inner tensors of student: teacher, names or globs, for hidden, attention and similarity."
    )
    adapters: int | None = Field(
        None, ge=1, description="Rank of a product that is trained beside each weight and then added; null: weights."
    )
    adaptive: bool = Field(
        False, description="Believe the teacher as far as labels say that it is right, sample by sample; needs labels."
    )
    baseline: Literal["scratch"] | None = Field(
        None,
        description="Train the same model from fresh weights with labels alone too, and say what the teacher adds.",
    )
    seeds: int = Field(3, ge=2, le=MOST_SEEDS, description="Trainings of each kind that a baseline compares.")


class DistillOptions(Taught, Descent, Beside):
    """What distill takes."""


@register("distill", promises=Promise.IMPROVES, needs={Need.TRAINING, Need.ORIGINAL}, asks=_asks)
def distill(model: Model, ctx: Context, options: DistillOptions) -> Change:
    """Train the model to give what a teacher gives, without labels unless a loss reads them.

    The loss is a sum of named terms; where none is named, kl for probabilities, kl + mse for scores, mse + cosine for
    embeddings and mse for other numbers, each output by what it holds. Logits are taken before a last Softmax. Padding
    that an input masks does not count. A part of the training data is held out: the weights of the epoch that does
    best there stay, and where none does better than before, nothing is changed. Nodes, names and shapes stay as they
    are; weights that several nodes read stay shared, and what pruning made zero stays zero.
    """
    lesson, parameters = lesson_of(model, ctx, options, options.pairs), parameters_of(model, options.train)
    how = {"adaptive": options.adaptive, "rank": options.adapters, "mask": zeros_of(model, parameters)}
    task = Task.of(options, model, ctx, lesson, parameters, **how)
    if options.baseline is not None and not ctx.dry_run:
        change = _with_baseline(task, options.seeds)
    else:
        change = task.tried() if ctx.dry_run else task.done()
    change.chosen |= {"loss": dict(task.weights)}
    return change


def parameters_of(model: Model, patterns: Sequence[str]) -> list[str]:
    known = trainable(model)
    if not known:
        hint = "put the step in front of the one that quantizes; finetune_quantized trains integers, behind it"
        raise PassError("the model has no float weight that its outputs depend on", hint=hint)
    found = [name for name in known if any(fnmatchcase(name, pattern) for pattern in patterns)]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in known):
            some = ", ".join(known[:5]) + (" ..." if len(known) > 5 else "")
            told = f"train: '{pattern}' matches no weight that can be trained{_held(model, pattern)}"
            raise PassError(told, hint=f"there are: {some}")
    return found


def _held(model: Model, pattern: str) -> str:
    """What a weight holds that the pattern matches but that is not trained."""
    frozen = [value for name, value in model.graph.initializers.items() if fnmatchcase(name, pattern)]
    if not frozen:
        return ""
    kind = frozen[0].dtype
    learned = kind is not None and kind.is_floating_point()
    return f": '{frozen[0].name}' {'is a constant of the formula, or not read' if learned else f'holds {kind}'}"


def _with_baseline(task: Task, seeds: int) -> Change:
    """The training that stays, and those that only compare: other seeds, and fresh weights without the teacher."""
    if task.lesson.targets.labels is None:
        hint = "name the array that holds them (labels of data.training)"
        raise DataError("a baseline learns from labels, and the training data has none", hint=hint)
    metric, start, ctx = metric_of(task.ctx), task.model.copy(), task.ctx
    before, best = score(start, metric, ctx), score(task.lesson.teacher, metric, ctx)
    change = task.done()
    taught, untaught = [score(task.model, metric, ctx)], []
    for seed in range(seeds):
        rng = np.random.default_rng([seed, seeds])
        apart = replace(ctx, rng=rng, checkpoint=None, resume=False)
        if seed:
            again = replace(task, model=start.copy(), ctx=apart)
            again.done()
            taught.append(score(again.model, metric, ctx))
        alone = replace(task, model=start.copy(), ctx=apart, weights={"cross_entropy": 1.0})
        alone = replace(alone, adaptive=False, rank=None)
        start_anew(alone.model, task.parameters, rng)
        alone.done()
        untaught.append(score(alone.model, metric, ctx))
    change.notes["baseline"] = verdict(metric, Scores(taught), Scores(untaught))
    change.notes[metric.name] = f"{before:.4g} before, {taught[0]:.4g} after, {best:.4g} the teacher"
    return change
