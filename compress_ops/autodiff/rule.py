"""What a gradient rule is: from a node and the gradient dy of its output to the gradients of its inputs.

A rule returns one entry an input, in order: a value, a function that writes the nodes only when that gradient is
wanted, or None where there is nothing to differentiate. A rule of a one-input operator may return the value alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ..lazy import ir
from .step import Step

Entry: TypeAlias = "ir.Value | Callable[[], ir.Value] | None"
Result: TypeAlias = "ir.Value | Sequence[Entry]"
RuleFunction: TypeAlias = "Callable[[Step, ir.Value], Result]"


@dataclass(frozen=True, eq=False)
class Rule:
    """The gradient of some operators.

    ``broadcasts``: gradients come in the shape of the output, to be summed down to each input's own shape by the
    engine. ``stops``: inputs that are never differentiated although they hold floats. ``outputs``: how many outputs
    have a gradient (None: all, in ``step.upstream``). ``integers``: the output holds integers that stand for floats.
    """

    operators: tuple[str, ...]
    function: RuleFunction
    broadcasts: bool = False
    stops: frozenset[int] = frozenset()
    outputs: int | None = 1
    integers: bool = False


def gradient(
    *operators: str,
    broadcasts: bool = False,
    stops: Sequence[int] = (),
    outputs: int | None = 1,
    integers: bool = False,
) -> Callable[[RuleFunction], Rule]:
    """Make a rule of a function ``(step, dy) -> gradients of the inputs``."""
    return lambda function: Rule(operators, function, broadcasts, frozenset(stops), outputs, integers)


def formulas(table: Mapping[str, RuleFunction], *, broadcasts: bool = False, stops: Sequence[int] = ()) -> Rule:
    """The rule of operators each of which has a formula of one line."""
    return gradient(*table, broadcasts=broadcasts, stops=stops)(lambda step, dy: table[step.node.op_type](step, dy))
