"""What every pass that mends a quantized model asks for, and that it leaves a float model alone."""

from __future__ import annotations

import pytest

from compress_ops.errors import PassError
from compress_ops.quantize.mend.correct_bias import correct_bias
from compress_ops.quantize.mend.keep_float import keep_float
from compress_ops.quantize.mend.learn_rounding import learn_rounding
from tests.helpers import calibrated, model_of, noise
from tests.quantize.mend.mend_case import source_of

SOURCE = source_of("y = Gemm(x, w, b)", w=noise(40, 24, seed=2), b=noise(24, seed=3))
X = noise(64, 40, seed=1)


@pytest.mark.parametrize("mend", [correct_bias, learn_rounding, keep_float], ids=lambda each: each.name)
def test_without_the_model_before_there_is_a_clear_error(mend):
    with pytest.raises(PassError, match="the model before quantization is needed"):
        mend(model_of(SOURCE), calibrated({"x": X}))


@pytest.mark.parametrize("mend", [correct_bias, learn_rounding], ids=lambda each: each.name)
def test_nothing_quantized_changes_nothing(mend):
    model, ctx = model_of(SOURCE), calibrated({"x": X})
    ctx.earlier = model.copy()
    assert not mend(model, ctx).touched and ctx.calibration.passes == 0
