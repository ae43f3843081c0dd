"""The table of gradient rules, by operator: every ``Rule`` in a file of ``rules``."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from ..lazy import ir
from . import rules
from .rule import Rule

_FLAT = (
    "And ArgMax ArgMin BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Ceil ConstantOfShape Equal EyeLike Floor "
    "Greater GreaterOrEqual Hardmax IsInf IsNaN Less LessOrEqual NonZero Not Or RandomNormalLike RandomUniformLike "
    "Round Shape Sign Size Xor"
)
FLAT = frozenset(_FLAT.split(" "))
"""Operators whose derivative is zero wherever there is one: nothing flows back through them."""


@cache
def operators() -> dict[str, Rule]:
    """The rule of each operator of the standard domain."""
    families = [import_module(f"{rules.__name__}.{family.name}") for family in iter_modules(rules.__path__)]
    found = [rule for family in families for rule in vars(family).values() if isinstance(rule, Rule)]
    return {operator: rule for rule in found for operator in rule.operators}


def rule_of(node: ir.Node) -> Rule | None:
    """The rule of a node, or None where its operator has none."""
    return operators().get(node.op_type) if node.domain in ("", "ai.onnx") else None


def is_flat(node: ir.Node) -> bool:
    """Whether the node's derivative is zero."""
    return node.domain in ("", "ai.onnx") and node.op_type in FLAT
