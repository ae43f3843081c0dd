"""Which model is kept for the steps that compare with what was before quantization."""

from __future__ import annotations

import pytest

from compress_ops.catalogue import PASSES
from compress_ops.pipeline.earlier import Earlier
from compress_ops.recipe import step_from
from tests.helpers import model_of

CASES = {
    "right before the step that quantizes": ("simplify quantize_static correct_bias", 1),
    "before the first of several": ("quantize_static quantize_dynamic learn_rounding correct_bias", 0),
    "a clean-up between them is none": ("quantize_static simplify quantize_dynamic correct_bias", 0),
    "what changes numbers between them begins anew": ("quantize_dynamic equalize quantize_static correct_bias", 2),
    "pruning does not quantize": ("prune_weights quantize_static correct_bias", 1),
    "rounding that was learned is no new beginning": (
        "quantize_static learn_rounding quantize_dynamic correct_bias",
        0,
    ),
    "nobody needs it": ("simplify quantize_static", None),
    "nobody needs it later": ("correct_bias quantize_static", None),
}


@pytest.mark.parametrize(("names", "expected"), CASES.values(), ids=CASES)
def test_the_model_is_kept(names, expected):
    """Each step renames the first node to its number, so that the kept model tells before which step it was."""
    steps = [step_from(PASSES[name], {}) for name in names.split()]
    model, kept = model_of("g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }"), Earlier(steps)
    for index in range(len(steps)):
        model.graph[0].name = str(index)
        found = kept.for_step(model, index)
    assert (found and found.graph[0].name) == (None if expected is None else str(expected))
