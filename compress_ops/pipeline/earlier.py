"""Keep the earlier models that steps compare with, as their passes declare it (``Need``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..model import Model
from ..passes import EARLIER, Need, Promise
from ..quantize import PASSES as QUANTIZATION
from ..recipe import Step


@dataclass
class Earlier:
    """Copies of the graph from before some of the steps, one for each need of a later one; tensors are shared."""

    steps: Sequence[Step]
    _kept: dict[Need, Model] = field(default_factory=dict, init=False)

    def for_step(self, model: Model, index: int) -> Model | None:
        """The earlier model that a step needs, if any; before each step, so that what later ones need is kept."""
        if self._begins(index):
            self._kept[Need.UNQUANTIZED] = model.copy()
        if index == 0:
            self.begin_with(model.copy)
        return next((self._kept.get(need) for need in self.steps[index].operation.needs & EARLIER), None)

    def begin_with(self, given: Callable[[], Model]) -> None:
        """Keep the model as it was given, if a step needs it."""
        if _need(Need.ORIGINAL, self.steps):
            self._kept[Need.ORIGINAL] = given()

    def _begins(self, index: int) -> bool:
        """Whether the model before a step is the one before quantization, for a later step.

        Of several steps in a row that quantize it is the one before the first. One that comes after something else that
        changed the numbers (equalize, refit) begins anew: what was before that is not to be come near to any more.
        """
        if not _quantizes(self.steps[index]) or not _need(Need.UNQUANTIZED, self.steps[index + 1 :]):
            return False
        last = max((i for i, step in enumerate(self.steps[:index]) if _quantizes(step)), default=-1)
        return Need.UNQUANTIZED not in self._kept or any(map(_changes_numbers, self.steps[last + 1 : index]))


def _need(need: Need, steps: Sequence[Step]) -> bool:
    return any(need in step.operation.needs for step in steps)


def _quantizes(step: Step) -> bool:
    return step.operation.promises is Promise.SHRINKS and step.operation in QUANTIZATION


def _changes_numbers(step: Step) -> bool:
    return step.operation.promises is not Promise.PREPARES and not _need(Need.UNQUANTIZED, [step])
