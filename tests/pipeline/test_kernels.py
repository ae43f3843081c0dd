"""A step that undoes integer kernels of an earlier one is a fault; one that takes the codes away means to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from compress_ops.errors import BrokenPromise
from compress_ops.graph.edit import Editor
from compress_ops.model import Model
from compress_ops.pipeline import Job, run
from compress_ops.pipeline import integer_kernels as kernels

from .fake_case import improving

MakeJob = Callable[..., Job]
QUANTIZED = "passes: [quantize_dynamic, %s]"
IN_BLOCKS = "passes: [quantize_weights: {storage: qdq}, %s]"


def _come_between(model: Model) -> None:
    """Something between the decoded weight and the product that reads it."""
    product = next(node for node in model.nodes() if node.op_type == "MatMul")
    product.replace_input_with(1, Editor(model, product).op("Neg", product.inputs[1]))


def _back_to_float(model: Model) -> None:
    relu = next(node for node in model.nodes() if node.op_type == "Relu")
    weight = model.add_weight("w_float", ir.Tensor(np.ones((64, 32), np.float32)))
    relu.replace_input_with(0, Editor(model, relu).op("MatMul", model.graph.inputs[0], weight))
    model.drop_unused()


def test_lost_kernels_are_a_fault_of_the_step(job: MakeJob, tmp_path: Path) -> None:
    with pytest.raises(
        BrokenPromise, match=r"step 2, fake: .*0 of 1 integer kernels are left \(lost: 1 MatMulNBits"
    ) as told:
        run(job(IN_BLOCKS % "fake", improving(_come_between)))
    assert "allow_undone: true" in str(told.value) and not (tmp_path / "out.onnx").exists()


def test_allow_undone_lifts_that(job: MakeJob) -> None:
    assert len(run(job(IN_BLOCKS % "fake: {allow_undone: true}", improving(_come_between))).steps) == 2


def test_a_step_that_takes_the_codes_away_means_to(job: MakeJob) -> None:
    text = "passes: [quantize_dynamic: {allow_larger: true}, fake]"
    assert len(run(job(text, improving(_back_to_float))).steps) == 2


def test_kernels_are_counted_only_where_the_graph_changed(job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "integer_kernels", lambda *args: pytest.fail("counted"))
    run(job(QUANTIZED % "fake", improving(lambda model: None)))
    run(job("passes: [fake, quantize_dynamic]", improving(lambda model: None), force=True))
