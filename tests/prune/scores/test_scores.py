"""Each score against a plain statement of its formula."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from compress_ops.errors import PassError
from compress_ops.prune.channels import find_groups, prepare
from compress_ops.prune.scores.evidence import CannotScore, Evidence, evidence_of, measure
from compress_ops.prune.scores.table import SCORES, ScoreName, normalized
from tests.helpers import Given, context, model_of, noise

from .score_case import FEEDS, TEXT, WEIGHTS

MAKES = noise(5, 7, seed=1)


def evidence(**fields: object) -> Evidence:
    given = {
        "makes": MAKES,
        "scales": np.zeros((5, 0)),
        "reads": [],
        "activations": [],
        "rng": np.random.default_rng(3),
    }
    return Evidence(**{**given, **fields})


def test_l1_and_l2_are_norms_of_rows() -> None:
    assert np.allclose(SCORES["l1"](evidence()), [sum(abs(w) for w in row) for row in MAKES])
    assert np.allclose(SCORES["l2"](evidence()), [sum(w * w for w in row) ** 0.5 for row in MAKES])


def test_geometric_median_is_the_sum_of_distances() -> None:
    expected = [sum(np.linalg.norm(MAKES[i] - MAKES[j]) for j in range(5)) for i in range(5)]
    assert np.allclose(SCORES["geometric_median"](evidence()), expected, rtol=1e-4)


def test_batchnorm_scale_is_the_mean_magnitude_of_gamma() -> None:
    scales = noise(5, 2)
    assert np.allclose(SCORES["batchnorm_scale"](evidence(scales=scales)), np.abs(scales).mean(axis=1))
    with pytest.raises(CannotScore, match="no normalization"):
        SCORES["batchnorm_scale"](evidence())


def test_correlation_spares_one_of_two_that_are_alike() -> None:
    rows = np.eye(3, 4, dtype=np.float32)
    rows = np.concatenate([rows, 0.5 * rows[:1] + 0.1 * rows[1:2]])
    expected = [1, 1, 1, np.linalg.norm(rows[3]) * (1 - (0.5 / np.linalg.norm(rows[3])) ** 2) ** 0.5]
    assert np.allclose(SCORES["correlation"](evidence(makes=rows)), expected, atol=1e-6)


def test_activation_weight_weighs_what_reads_by_what_flows() -> None:
    reads, sizes = [noise(5, 2, 3, seed=4), noise(5, 1, 6, seed=5)], [np.abs(noise(5, 2)), np.abs(noise(5, 1))]
    expected = [
        sum(sizes[r][i, k] * np.abs(reads[r][i, k]).sum() for r in (0, 1) for k in range(sizes[r].shape[1]))
        for i in range(5)
    ]
    assert np.allclose(SCORES["activation_weight"](evidence(reads=reads, activations=sizes)), expected)
    unread = evidence()
    assert np.array_equal(SCORES["activation_weight"](unread), SCORES["l2"](unread))


def test_random_is_the_seeded_generator() -> None:
    assert np.array_equal(SCORES["random"](evidence()), np.random.default_rng(3).random(5))


def test_every_name_has_a_score() -> None:
    assert set(get_args(ScoreName)) == set(SCORES)
    assert {name for name in SCORES if SCORES[name].needs_data} == {"activation_weight", "hessian", "gradient"}


@pytest.mark.parametrize(("how", "expected"), [("none", [1, 3]), ("mean", [0.5, 1.5]), ("max", [1 / 3, 1])])
def test_normalized(how: str, expected: list[float]) -> None:
    assert np.allclose(normalized(np.array([1.0, 3.0]), how), expected)


def test_evidence_of_a_group() -> None:
    model = model_of(TEXT, **WEIGHTS)
    prepare(model)
    grouping = find_groups(model)
    ctx = context(calibration=Given(*FEEDS))
    magnitudes = measure(model, ctx, grouping, "activation_weight")
    found = evidence_of(grouping.groups[0], magnitudes, ctx.rng)
    assert np.array_equal(found.makes, WEIGHTS["w1"].reshape(6, 3))
    assert np.array_equal(found.scales, WEIGHTS["scale"].reshape(6, 1))
    assert np.array_equal(found.reads[0], WEIGHTS["w2"].reshape(2, 6).T[:, None, :])
    assert np.allclose(found.activations[0][:, 0], _mean_activation(), rtol=1e-5)


def _mean_activation() -> np.ndarray:
    x = np.concatenate([feed["x"] for feed in FEEDS])
    a = np.einsum("nihw,oi->nohw", x, WEIGHTS["w1"][:, :, 0, 0]) + WEIGHTS["b1"].reshape(-1, 1, 1)
    a = (a - WEIGHTS["mean"].reshape(-1, 1, 1)) / np.sqrt(WEIGHTS["variance"] + 1e-5).reshape(-1, 1, 1)
    a = a * WEIGHTS["scale"].reshape(-1, 1, 1) + WEIGHTS["shift"].reshape(-1, 1, 1)
    return np.maximum(a, 0).mean(axis=(0, 2, 3))


def test_a_score_that_needs_data_asks_for_it() -> None:
    model = model_of(TEXT, **WEIGHTS)
    prepare(model)
    with pytest.raises(PassError, match="needs calibration data"):
        measure(model, context(), find_groups(model), "activation_weight")


def test_quantized_weights_count_with_their_scales() -> None:
    text = """agraph (float[N,3,4,4] x) => (float[N,2,4,4] y) {
        w = DequantizeLinear<axis=0>(q, s)  a = Conv(x, w)  y = Conv(a, w2) }"""
    q, s = np.arange(-9, 9, dtype=np.int8).reshape(6, 3, 1, 1), np.linspace(0.1, 1, 6, dtype=np.float32)
    model = model_of(text, q=q, s=s, w2=WEIGHTS["w2"])
    prepare(model)
    found = evidence_of(find_groups(model).groups[0], {}, np.random.default_rng(0))
    assert np.allclose(found.makes, q.reshape(6, 3) * s[:, None])


def test_the_weights_of_grouped_convolutions_are_read_group_by_group() -> None:
    text = """agraph (float[N,3,4,4] x) => (float[N,2,4,4] y) {
        a = Conv(x, w1)  g = Conv<group=2>(a, w2)  y = Conv(g, w3) }"""
    w2 = noise(4, 3, 1, 1, seed=6)
    model = model_of(text, w1=WEIGHTS["w1"], w2=w2, w3=noise(2, 4, 1, 1))
    prepare(model)
    grouping = find_groups(model)
    ctx = context(calibration=Given(*FEEDS))
    found = evidence_of(grouping.groups[0], measure(model, ctx, grouping, "activation_weight"), ctx.rng)
    expected = [[w2[:2, i, 0, 0], w2[2:, i, 0, 0]] for i in range(3)]
    assert np.array_equal(found.reads[0], expected)
