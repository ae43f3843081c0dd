"""What is mended: a quantized model with the float model from before, small or of a recipe on the samples."""

from __future__ import annotations

import numpy as np
import onnx

from compress_ops.pipeline import Job, run
from compress_ops.recipe import parse_recipe
from tests.helpers import SAMPLES, calibrated, model_of, outputs, proto_of

ROWS = np.empty((0, 40))


def source_of(body, x=ROWS, y="float[N,24] y", **weights):
    """Nodes that read any number of samples of the shape of those of ``x``."""
    shape = ",".join(["N", *map(str, x.shape[1:])])
    return proto_of(f"g (float[{shape}] x) => ({y}) {{ {body} }}", **weights)


def rounded(source, quantize, *batches, **fields):
    """The model that ``quantize`` made, and what a pass that mends it is given: x in batches, the model before."""
    model, ctx = model_of(source), calibrated(*({"x": x} for x in batches), **fields)
    ctx.earlier = model.copy()
    assert quantize(model, ctx).touched
    return model, ctx


def made(out, name, *passes):
    """A sample after these steps, calibrated on the digits."""
    steps = "".join(f"  - {step}\n" for step in passes)
    recipe = f"version: 1\ndata: {{calibration: {SAMPLES}/digits-calibration.npz}}\npasses:\n{steps}"
    run(Job(parse_recipe(recipe), SAMPLES / f"{name}.onnx", out, measure=False))
    return out


def error_of(path, name):
    """The squared error of the logits of unseen images."""
    images = np.load(SAMPLES / "digits-test.npz")["image"]
    found, exact = (outputs(each, image=images)[0] for each in (onnx.load(path), onnx.load(SAMPLES / f"{name}.onnx")))
    return float(np.square(found - exact.astype(np.float64)).sum())
