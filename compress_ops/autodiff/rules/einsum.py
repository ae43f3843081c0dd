"""Gradient of Einsum: each operand's gradient is again an Einsum, of dy and the other operands.

    y = einsum("ab,bc->ac", A, B):  dA = einsum("ac,bc->ab", dy, B)        dB = einsum("ac,ab->bc", dy, A)

A label that only this operand has was summed away: dy is repeated along it.
"""

from __future__ import annotations

import string

from ...lazy import ir
from ..rule import Result, gradient
from ..step import Step


@gradient("Einsum")
def einsum(step: Step, dy: ir.Value) -> Result:
    terms, out = _labels(step)
    return [lambda index=index: _operand(step, dy, terms, out, index) for index in range(len(terms))]  # type: ignore[misc]


def _labels(step: Step) -> tuple[list[str], str]:
    """The labels of each operand and of the output, dots written out and a missing output filled in."""
    equation = step.attribute("equation", "").replace(" ", "")
    left, arrow, out = equation.partition("->")
    if not arrow:
        once = sorted(label for label in set(left) - set(",.") if left.count(label) == 1)
        out = ("..." if "..." in left else "") + "".join(once)
    free = [label for label in string.ascii_letters if label not in equation]
    ranks = [step.rank(x) for x in step.inputs]
    terms = [_written_out(term, rank, free) for term, rank in zip(left.split(","), ranks, strict=True)]
    if any(len(set(term)) < len(term) for term in terms):
        raise step.refusal("it takes a diagonal")
    return terms, _written_out(out, step.rank(step.y), free)


def _written_out(term: str, rank: int, free: list[str]) -> str:
    """Dots stand for the same labels everywhere, counted from the right."""
    count = rank - len(term.replace("...", ""))
    return term.replace("...", "".join(free[:count][::-1]))


def _operand(step: Step, dy: ir.Value, terms: list[str], out: str, index: int) -> ir.Value:
    others = [(term, x) for i, (term, x) in enumerate(zip(terms, step.inputs, strict=True)) if i != index]
    reached = set(out).union(*(term for term, _ in others))
    kept = "".join(label for label in terms[index] if label in reached)
    equation = f"{','.join([out, *(term for term, _ in others)])}->{kept}"
    gradient = step.op("Einsum", dy, *(x for _, x in others), equation=equation)
    lonely = [axis for axis, label in enumerate(terms[index]) if label not in reached]
    x = step.inputs[index]
    if lonely:
        gradient = step.op("Expand", step.op("Unsqueeze", gradient, step.integers(lonely)), step.sizes(x))
    sized = [pair for term, value in [(out, step.y), *others] for pair in zip(term, step.dims(value), strict=True)]
    known = {label: size for label, size in sized if size != 1}
    own = zip(terms[index], step.dims(x), strict=True)
    return step.shaped(gradient, [known.get(label, size) for label, size in own])
