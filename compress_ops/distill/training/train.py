"""Training: move the parameters of a student so that an objective falls, L(w) -> min, in mini-batches.

    w <- w - lr(t) * optimizer(dL/dw)

One onnxruntime session computes L and dL/dw of a batch (``training.session``), then one pass over flat arrays moves the
parameters (``training.optimizers``). Weights that exporters stored once for several readers (equal scales of layer
norms, say) stay one: they are trained as one, with the sum of their readers' gradients. The student's nodes, names and
metadata stay as they are; only weights change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from ...arrays import Array
from ...errors import PassError, did_you_mean
from ...lazy import ir
from ...model import Model
from ...passes import Context
from ...runtime import Feeds
from ..losses.objective import Objective
from .buffers import make_buffers
from .history import History
from .loop import Hooks, Trainer
from .optimizers import make_optimizer
from .session import make_session
from .state import Training
from .train_settings import TrainSettings

Batches = Callable[[np.random.Generator], Iterable[Feeds]]
Write = Callable[[Model, Mapping[str, Array]], None]

__all__ = ["History", "TrainSettings", "Training", "find_rate", "train", "write_weights"]


def train(
    objective: Objective,
    student: Model,
    epoch: Batches,
    settings: TrainSettings,
    ctx: Context,
    *,
    weights: Mapping[str, float] | None = None,
    scalars: Mapping[str, float] | None = None,
    batches: int | None = None,
    evaluate: Callable[[], float] | None = None,
    measure: Callable[[], float] | None = None,
    on_step: Callable[[Training], None] | None = None,
    write: Write | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
) -> History:
    """Train until the epochs or steps are over, and leave the weights in the student.

    ``epoch`` gives the feeds of one epoch (the model's inputs and the objective's targets by name), in an order drawn
    from the generator; ``batches`` says how many they are, where their ``len`` does not. ``weights`` (w_k by term, 1
    where none is given) and ``scalars`` (by name in ``objective.settings``) are what ``on_step`` sees and may change
    before each step. Where no learning rate is given, trials find it, judged by ``measure``, the held-out loss; without
    it, or in a training too short for trials, it is ``rates.untried``. After each epoch ``write`` puts the weights into
    the student (``write_weights``, unless something else is wanted), ``evaluate`` scores it (higher is better; the best
    weights stay, else the last), and the state goes into ``checkpoint``, from which ``resume`` goes on bit for bit. A
    dry run is one step.

    Raises PassError when a loss, gradient or weight is no longer finite; the student then has the weights of the last
    epoch that was good.
    """
    if settings.patience is not None and evaluate is None:
        raise PassError("patience counts epochs without a better score, and nothing is evaluated", hint=_NO_SCORE)
    if ctx.dry_run:
        settings = settings.but(epochs=1, steps=1, accumulate=1, patience=None)
        evaluate = measure = checkpoint = None
    hooks = Hooks(evaluate, measure, on_step, write or write_weights)
    trainer = _trainer(objective, student, settings, ctx, weights or {}, scalars or {}, hooks, checkpoint)
    if resume and checkpoint is not None:
        trainer.take_up(checkpoint)
    return trainer.run(epoch, batches)


def find_rate(
    objective: Objective,
    student: Model,
    epoch: Batches,
    settings: TrainSettings,
    ctx: Context,
    measure: Callable[[], float],
    *,
    weights: Mapping[str, float] | None = None,
    scalars: Mapping[str, float] | None = None,
    batches: int | None = None,
    on_step: Callable[[Training], None] | None = None,
    write: Write | None = None,
) -> float:
    """The learning rate that ``train`` would find. Nothing is trained, and the generator stays where it is."""
    hooks = Hooks(None, measure, on_step, write or write_weights)
    trainer = _trainer(objective, student, settings, ctx, weights or {}, scalars or {}, hooks, None)
    return trainer.find_rate(epoch, batches)


def _trainer(
    objective: Objective,
    student: Model,
    settings: TrainSettings,
    ctx: Context,
    weights: Mapping[str, float],
    scalars: Mapping[str, float],
    hooks: Hooks,
    checkpoint: Path | None,
) -> Trainer:
    buffers = make_buffers(objective)
    session = make_session(objective, buffers, tuple(ctx.providers), ctx.threads)
    training = Training(session, _weights(objective, weights), _scalars(objective, scalars))
    return Trainer(student, settings, ctx, training, make_optimizer(settings, buffers), hooks, checkpoint)


_NO_SCORE = "give evaluation data, or leave patience out"


def write_weights(student: Model, values: Mapping[str, Array]) -> None:
    """Put trained values into the weights of their names; what the student lacks existed only while training."""
    for name, array in values.items():
        value = student.graph.initializers.get(name)
        if value is not None:
            value.const_value = ir.Tensor(array, name=name)


def _weights(objective: Objective, given: Mapping[str, float]) -> dict[str, float]:
    for name in given:
        if name not in objective.weights:
            raise PassError(f"the objective has no term '{name}'{did_you_mean(name, objective.weights)}")
    return {name: float(given.get(name, 1.0)) for name in objective.weights}


def _scalars(objective: Objective, given: Mapping[str, float]) -> dict[str, float]:
    missing = ", ".join(f"'{name}'" for name in objective.settings if name not in given)
    if missing:
        raise PassError(f"the objective needs a value for {missing}")
    return {name: float(given[name]) for name in objective.settings}
