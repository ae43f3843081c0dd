"""Raise a model's operator set: some operators that passes write exist only from a certain version on."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..errors import PassError
from ..lazy import ir, onnx
from ..model import ONNX_DOMAINS, Model, make_uniform
from ..passes import Change, Context, Promise, register
from .clean.quiet import quietly, set_aside
from .edit import attribute

_ASYMMETRIC_RESIZE = 10
NEWEST = 21
"""The newest version that is asked for here; onnxruntime 1.20, the oldest supported, runs it."""


@register("upgrade_opset", promises=Promise.PREPARES)
def upgrade_opset(
    model: Model,
    ctx: Context,
    *,
    to: Annotated[int, Field(ge=7, le=NEWEST, description="Version of the standard operator set.")] = 17,
) -> Change:
    """Raise the model to a newer version of the standard operator set.

    Uses the version converters of onnxscript and onnx. A model that is already that new is left alone. That the
    model really has the version asked for afterwards is checked.
    """
    change, before = Change(), model.opset
    require_opset(model, to)
    if model.opset != before:
        change.touch("opset", f"{before} -> {model.opset}")
    return change


def require_opset(model: Model, minimum: int) -> None:
    """Convert the model in place to at least ``minimum``; raises PassError, naming the version, where that fails."""
    if model.opset >= minimum:
        return
    before = model.opset
    reason = _would_change(model, minimum) or _convert(model, minimum)
    if model.opset < minimum:
        raise PassError(
            f"the model has opset {before} and cannot be raised to {minimum}: {reason}",
            hint=f"export the model with opset {minimum} or newer",
        )
    if before <= _ASYMMETRIC_RESIZE:
        _say_asymmetric(model)
    make_uniform(model)


def _would_change(model: Model, target: int) -> str:
    """Operators that mean something else from opset 13 on, which onnx's converter does not know."""
    if not model.opset < 13 <= target:
        return ""
    found = [node.name or "?" for node in model.nodes() if node.op_type == "Hardmax" and not _is_of_last_axis(node)]
    return f"{', '.join(found)}: Hardmax over several axes has no newer form" if found else ""


def _is_of_last_axis(node: ir.Node) -> bool:
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    return attribute(node, "axis", 1) in (-1, len(shape) - 1 if shape is not None else -1)


def _say_asymmetric(model: Model) -> None:
    """Up to opset 10, Upsample and Resize mapped coordinates by scale alone; the converter leaves the newer default."""
    for node in model.nodes():
        if node.op_type == "Resize":
            for name, value in (("coordinate_transformation_mode", "asymmetric"), ("nearest_mode", "floor")):
                node.attributes.setdefault(name, ir.AttrString(name, value))


def _convert(model: Model, target: int) -> str:
    from onnxscript import version_converter

    try:
        with quietly(), set_aside(model, _foreign(model)):
            version_converter.convert_version(model.ir, target, fallback=True)
    except Exception as error:  # the converters raise whatever their adapters raise
        return " ".join(str(error).split())
    return "the converter left it as it was"


def _foreign(model: Model) -> list[ir.Node]:
    """onnxruntime's own operators in the standard domain (a LayerNormalization before opset 17) are none of ONNX's.

    The converters refuse them; onnxruntime takes them alike at every version.
    """
    standard = [node for node in model.nodes() if node.domain in ONNX_DOMAINS]
    return [node for node in standard if not onnx.defs.has(node.op_type, model.opset, "")]
