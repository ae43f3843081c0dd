"""The loss on data that is not trained on, for the student's weights as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from ...errors import PassError
from ...model import Model
from ...passes import Context
from ...runtime import Arrays, open_session
from ..losses.objective import Objective


class HeldOut:
    """Call it for the mean loss over the batches; ``weights`` and ``scalars`` stay the same throughout."""

    def __init__(
        self,
        objective: Objective,
        student: Model,
        ctx: Context,
        batches: Callable[[], Iterable[Arrays]],
        weights: Mapping[str, float],
        scalars: Mapping[str, float],
    ) -> None:
        self._student, self._batches = student, batches
        self._loss = objective.loss
        model = objective.model.copy()
        self._parameters = [name for name in objective.parameters if name in model.graph.initializers]
        _make_inputs(model, self._parameters)
        model.graph.outputs[:] = model.graph.outputs[:1]
        numbers = {objective.weights[term]: weight for term, weight in weights.items()}
        numbers |= {name: scalars[setting] for setting, name in objective.settings.items()}
        self._numbers = {name: np.asarray(number, np.float32) for name, number in numbers.items()}
        with model.exported() as path:
            self._session = open_session(path, ctx.providers, threads=ctx.threads)

    def __call__(self) -> float:
        fixed = {**self._numbers, **weights_of(self._student, self._parameters)}
        losses = [self._one({**batch, **fixed}) for batch in self._batches()]
        return sum(losses) / len(losses)

    def _one(self, feeds: Arrays) -> float:
        return float(self._session.run(self._session.taken(feeds), [self._loss])[self._loss])


def weights_of(model: Model, names: Sequence[str]) -> Arrays:
    """The present numbers of weights of the main graph."""
    found = {}
    for name in names:
        tensor = model.graph.initializers[name].const_value
        if tensor is None:
            raise PassError(f"weight '{name}' has no numbers")
        found[name] = tensor.numpy()
    return found


def _make_inputs(model: Model, names: Sequence[str]) -> None:
    """What is an input is not folded into anything, and every run brings its own."""
    for name in names:
        value = model.graph.initializers.pop(name)
        value.const_value = None
        model.graph.inputs.append(value)
