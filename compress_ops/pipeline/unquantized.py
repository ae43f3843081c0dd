"""Keep the model from before quantization for the steps that need it."""

from __future__ import annotations

from collections.abc import Sequence

from ..model import Model
from ..passes import Context, Need, Promise
from ..quantize import PASSES as QUANTIZATION
from ..recipe import Step


def keep_unquantized(context: Context, model: Model, steps: Sequence[Step], index: int) -> None:
    """Before a step that quantizes, copy the graph (tensors are shared), where a later step needs it.

    Of several such steps in a row the model before the first is kept. One that comes after something else that changed
    the numbers (equalize, refit) begins anew: what was before that is no longer what this step should come near to.
    """
    if not _quantizes(steps[index]) or not any(map(_needs_unquantized, steps[index + 1 :])):
        return
    if context.unquantized is None or any(map(_changes_numbers, _since_last(steps[:index]))):
        context.unquantized = model.copy()


def _since_last(steps: Sequence[Step]) -> Sequence[Step]:
    """The steps behind the last one that quantizes."""
    last = max((i for i, step in enumerate(steps) if _quantizes(step)), default=-1)
    return steps[last + 1 :]


def _quantizes(step: Step) -> bool:
    return step.operation.promises is Promise.SHRINKS and step.operation in QUANTIZATION


def _needs_unquantized(step: Step) -> bool:
    return Need.UNQUANTIZED in step.operation.needs


def _changes_numbers(step: Step) -> bool:
    return step.operation.promises is not Promise.PREPARES and not _needs_unquantized(step)
