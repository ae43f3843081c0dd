"""Gradients of Resize: along each axis it is a matrix, y = R x, so dx = R^T dy.

The matrix is what onnxruntime makes of the identity with the node's own attributes: every mode is right by design.
"""

from __future__ import annotations

import numpy as np

from ...arrays import Array
from ...lazy import ir, onnx
from ...runtime import open_session
from ..rule import Result, gradient
from ..step import Step
from .gather import along

_ATTRIBUTES = (
    "antialias",
    "coordinate_transformation_mode",
    "cubic_coeff_a",
    "exclude_outside",
    "mode",
    "nearest_mode",
)


@gradient("Resize", stops=(1, 2, 3))
def resize(step: Step, dy: ir.Value) -> Result:
    if step.attribute("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        raise step.refusal("it crops")
    factors = _repeats(step)
    if factors is not None:
        means = step.op("AveragePool", dy, kernel_shape=factors, strides=factors)
        return step.scale(means, factors[0] * factors[1])
    axes = step.attribute("axes", range(step.rank(step.x)))
    for axis in (axis % step.rank(step.x) for axis in axes):
        inputs, outputs = (step.shape(value, [axis])[0] for value in (step.x, step.y))
        if inputs != outputs:
            dy = along(step, dy, _matrix(step, axis, list(axes).index(axis)), axis)
    return dy


def _repeats(step: Step) -> list[int] | None:
    """Whole factors of an image whose every pixel is repeated as a block, else None."""
    scales = step.known(2)
    repeating = (
        step.attribute("mode", "nearest") == "nearest"
        and step.attribute("coordinate_transformation_mode", "half_pixel") in ("asymmetric", "half_pixel")
        and step.attribute("nearest_mode", "round_prefer_floor") in ("floor", "round_prefer_floor")
    )
    if not repeating or scales is None or scales.size != 4 or "axes" in step.node.attributes:
        return None
    whole = [round(float(scale)) for scale in scales]
    centred = step.attribute("coordinate_transformation_mode", "half_pixel") == "half_pixel"
    floored = step.attribute("nearest_mode", "round_prefer_floor") == "floor"
    fits = whole[:2] == [1, 1] and whole == scales.tolist() and centred != floored
    return whole[2:] if fits else None


def _matrix(step: Step, axis: int, index: int) -> Array:
    """R: its columns are the rows of the identity, each resized as the node does along this axis."""
    from onnx import helper

    inputs, outputs = (step.shape(value, [axis])[0] for value in (step.x, step.y))
    scales = step.known(2)
    scale = float(scales[index]) if scales is not None and scales.size else outputs / inputs
    attributes = {name: step.attribute(name, None) for name in _ATTRIBUTES if name in step.node.attributes}
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"], **attributes)
    feeds = {"x": np.eye(inputs, dtype=np.float32)[None, None], "scales": np.array([1, 1, 1, scale], np.float32)}
    ports = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("x", "scales", "y")]
    graph = helper.make_graph([node], "resize", ports[:2], ports[2:])
    opset = helper.make_opsetid("", step.model.opset)
    probe = helper.make_model(graph, ir_version=10, opset_imports=[opset])
    return np.asarray(open_session(probe.SerializeToString()).run(feeds)["y"][0, 0].T)
