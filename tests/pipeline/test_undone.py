"""What one step gained and another takes back: zeros and codebooks; and what looks like that and is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from compress_ops.errors import BrokenPromise
from compress_ops.model import Model, load
from compress_ops.pipeline import Job, run
from tests.helpers import array_of, noise

from .fake_case import improving

MakeJob = Callable[..., Job]
PRUNED = "passes: [prune_weights: {ratio: 0.9}, %s]"
CLUSTERED = "passes: [cluster_weights: {clusters: 4, allow_larger: true}, %s]"


def _set(model: Model, array: np.ndarray) -> None:
    """The weight of the one layer, whatever it is computed from now."""
    product = next(node for node in model.nodes() if node.op_type == "MatMul")
    product.replace_input_with(1, model.add_weight("new", ir.Tensor(array)))
    model.drop_unused()


def _fill(model: Model) -> None:
    _set(model, noise(64, 32))


@pytest.mark.parametrize("text", [PRUNED, CLUSTERED])
def test_a_step_that_undoes_an_earlier_one_is_a_fault(job: MakeJob, tmp_path: Path, text: str) -> None:
    with pytest.raises(BrokenPromise, match=r"step 2, fake undoes what step 1, (prune|cluster)_weights gained") as told:
        run(job(text % "fake", improving(_fill)))
    assert "allow_undone: true" in str(told.value) and not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize("text", [PRUNED, CLUSTERED])
def test_allow_undone_lifts_that(job: MakeJob, text: str) -> None:
    report = run(job(text % "fake: {allow_undone: true}", improving(_fill)))
    if text == PRUNED:
        assert "Sparsity of the result: 0.0% of the weights of 1 pruned layer are zero." in report.notes


@pytest.mark.parametrize(
    "then", ["to_float16", "quantize_dynamic", "pack_sparse", "cluster_weights", "quantize_weights"]
)
def test_other_forms_of_the_same_zeros_undo_nothing(job: MakeJob, then: str) -> None:
    run(job(PRUNED % f"{then}: {{allow_unchanged: true, allow_larger: true}}"))


def test_cutting_a_weight_undoes_nothing(job: MakeJob) -> None:
    def cut(model: Model) -> None:
        kept = array_of(model, "w")
        _set(model, np.concatenate([kept[:32], kept[:32]]))

    with_half = improving(cut)
    run(job(PRUNED % "fake", with_half))


def test_the_sparsity_of_the_result_is_that_of_the_file(job: MakeJob, tmp_path: Path) -> None:
    report = run(job("passes: [prune_weights: {ratio: 0.5}, prune_weights: {ratio: 0.75}]"))
    weight = array_of(load(tmp_path / "out.onnx"), "w")
    assert (weight == 0).mean() == 0.75
    assert report.notes == ["Sparsity of the result: 75.0% of the weights of 1 pruned layer are zero."]
