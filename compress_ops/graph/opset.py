"""Raise a model's operator set: some operators that passes write exist only from a certain version on."""

from __future__ import annotations

import logging
from typing import Annotated

from pydantic import Field

from ..errors import PassError
from ..model import Model, make_uniform
from ..passes import Change, Context, Promise, register

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
    reason = _convert(model, minimum)
    if model.opset < minimum:
        raise PassError(
            f"the model has opset {before} and cannot be raised to {minimum}: {reason}",
            hint=f"export the model with opset {minimum} or newer",
        )
    make_uniform(model)


def _convert(model: Model, target: int) -> str:
    from onnxscript import version_converter

    loud, logging.root.manager.disable = logging.root.manager.disable, logging.WARNING
    try:
        version_converter.convert_version(model.ir, target, fallback=True)
    except Exception as error:  # the converters raise whatever their adapters raise
        return " ".join(str(error).split())
    finally:
        logging.root.manager.disable = loud
    return "the converter left it as it was"
