"""Refuse the forms of int8 that an execution provider runs slower than float32 (``compress_ops.providers``)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ...errors import PassError
from ...passes import Context
from ...providers import Form, Precision

AllowSlower = Annotated[
    bool,
    Field(
        description="Write it even for an execution provider that is known to run it slower than float32. Off by "
        "default: such a model has lost accuracy for nothing."
    ),
]
_NAMES: dict[Form, str] = {
    "dynamic": "dynamic quantization",
    "qdq": "static quantization in QDQ form",
    "qoperator": "static quantization in QOperator form",
}
_INSTEAD: dict[Precision | None, str] = {
    "float16": "to_float16 is what it computes fast",
    "int8, QDQ": "quantize_static is what it runs in integers",
    "int8, symmetric QDQ": "quantize_static: {activation_type: int8} is what it runs in integers",
}


def refuse_slower(ctx: Context, form: Form, *, allowed: bool, zero_point_is_0: bool = True) -> None:
    """Raise PassError where the first provider runs the form slower than float, unless that is allowed."""
    name, facts = ctx.providers[0].name, ctx.providers[0].facts
    reason = facts.slower.get(form, "")
    if not reason and facts.fast == "int8, symmetric QDQ" and not zero_point_is_0:
        reason = "it fuses signed activations with a zero point of 0 alone, others run in float or elsewhere"
    if reason and not allowed:
        hint = f"{_INSTEAD[facts.fast]}; allow_slower: true on the step forces it"
        raise PassError(f"{_NAMES[form]} is slower than float on '{name}': {reason}", hint=hint)
