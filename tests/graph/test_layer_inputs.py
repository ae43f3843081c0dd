"""X^T X of what layers read: NumPy lays out every patch by the definition and multiplies in double precision."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from compress_ops.errors import PassError
from compress_ops.graph import layer_inputs
from compress_ops.graph.layer_inputs import HELD, Rows, in_groups, products, squares
from tests.helpers import Given, context, model_of, noise

EPS = np.finfo(np.float32).eps


def taps_of(shape, attributes):
    """Stride, dilation and padding before and after, for each axis of a kernel."""
    rank = len(shape)
    pads = attributes.get("pads", [0] * 2 * rank)
    ones = [1] * rank
    return attributes.get("strides", ones), attributes.get("dilations", ones), pads[:rank], pads[rank:]


def patches(x, shape, attributes):
    """patch(j)[c, k] = x[c, j s + k d - p], one row an output position, as float64 [rows, channels * taps]."""
    strides, dilations, before, after = taps_of(shape, attributes)
    padded = np.pad(x.astype(np.float64), [(0, 0), (0, 0), *zip(before, after, strict=True)])
    counts = [
        (size - (k - 1) * d - 1) // s + 1
        for size, k, d, s in zip(padded.shape[2:], shape, dilations, strides, strict=True)
    ]
    found = []
    for position in itertools.product(*map(range, counts)):
        starts = [j * s for j, s in zip(position, strides, strict=True)]
        window = tuple(slice(b, b + (k - 1) * d + 1, d) for b, k, d in zip(starts, shape, dilations, strict=True))
        found.append(padded[(slice(None), slice(None), *window)].reshape(len(x), -1))
    return np.concatenate(found)


def close(found, rows, expected):
    """Sums over so many rows, each rounded to float32 once an addend."""
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() <= len(rows) * EPS * np.square(rows).sum(axis=0).max()


def conv_model(x, weight, attributes):
    written = ", ".join(f"{name} = {value}" for name, value in {"group": 1, **attributes}.items())
    sizes = ",".join(map(str, ("B", *x.shape[1:])))
    result = ",".join("BC" + "DEFG"[: x.ndim - 2])
    return model_of(f"g (float[{sizes}] x) => (float[{result}] y) {{ y = Conv<{written}>(x, w) }}", w=weight)


CONVS = {
    "plain": ((3, 5, 6), (4, 3, 2, 3), {}),
    "all attributes": ((3, 9, 8), (4, 3, 3, 2), {"strides": [2, 1], "dilations": [1, 2], "pads": [1, 0, 2, 1]}),
    "1-D": ((2, 11), (3, 2, 4), {"strides": [3], "pads": [2, 1]}),
    "3-D": ((2, 4, 4, 4), (3, 2, 2, 2, 2), {}),
}


@pytest.mark.parametrize(("sizes", "kernel", "attributes"), CONVS.values(), ids=CONVS)
@pytest.mark.parametrize("opset", [17, 18])
def test_patches_of_a_convolution(sizes, kernel, attributes, opset):
    x = noise(5, *sizes)
    model = conv_model(x, noise(*kernel), attributes)
    model.ir.opset_imports[""] = opset
    node = model.graph[0]
    rows = [Rows(model.graph.inputs[0], int(np.prod(kernel[1:])), node)]
    data = context(calibration=Given({"x": x[:3]}, {"x": x[3:]}))
    laid = patches(x, kernel[2:], attributes)
    close(products(model, data, rows, "")[rows[0].key], laid, laid.T @ laid)
    close(squares(model, data, rows, "")[rows[0].key], laid, np.square(laid).sum(axis=0))


@pytest.mark.parametrize(("most", "step"), [(2 * 18 * 20, 1), (2 * 18 * 20 - 1, 2), (2 * 18 * 6, 2), (2 * 18 * 4, 3)])
def test_of_many_patches_those_of_every_so_many_positions_are_taken(most, step, monkeypatch):
    monkeypatch.setattr(layer_inputs, "PATCHES", most)  # two samples of 18 numbers at 5 x 4 positions
    x, attributes = noise(2, 2, 7, 6), {"strides": [1, 1]}
    model = conv_model(x, noise(4, 2, 3, 3), attributes)
    rows = Rows(model.graph.inputs[0], 18, model.graph[0])
    laid = patches(x, (3, 3), {"strides": [step, step]})
    assert len(laid) * 18 <= most
    close(products(model, context(calibration=Given({"x": x})), [rows], "")[rows.key], laid, laid.T @ laid)


@pytest.mark.parametrize("groups", [2, 6])
def test_squares_of_grouped_and_depthwise_convolutions(groups):
    x, weight = noise(3, 6, 5, 5), noise(12, 6 // groups, 3, 3)
    model = conv_model(x, weight, {"group": groups, "pads": [1, 1, 1, 1]})
    rows = Rows(model.graph.inputs[0], weight[0].size, model.graph[0])
    laid = patches(x, (3, 3), {"pads": [1, 1, 1, 1]})
    found = squares(model, context(calibration=Given({"x": x})), [rows], "")[rows.key]
    close(found, laid, np.square(laid).sum(axis=0))


@pytest.mark.parametrize("shape", [(4, 16), (2, 3, 16), (2, 2, 3, 16)])
def test_rows_of_a_matrix_product(shape):
    sizes = ",".join("BCDE"[: len(shape) - 1])
    text = f"g (float[{sizes},16] x) => (float[{sizes},8] y) {{ h = Relu(x)  y = MatMul(h, w) }}"
    model = model_of(text, w=noise(16, 8))
    batches = [noise(*shape, seed=seed) for seed in range(3)]
    rows = [Rows(model.graph[1].inputs[0], 16)]
    data = context(calibration=Given(*({"x": x} for x in batches)))
    read = np.maximum(np.concatenate([x.reshape(-1, 16) for x in batches]), 0).astype(np.float64)
    close(products(model, data, rows, "")[rows[0].key], read, read.T @ read)
    close(squares(model, data, rows, "")[rows[0].key], read, np.square(read).sum(axis=0))


def test_half_precision_is_summed_in_single_precision():
    model = model_of("g (float16[B,16] x) => (float16[B,8] y) { y = MatMul(x, w) }", w=noise(16, 8).astype(np.float16))
    x = (300 * noise(64, 16)).astype(np.float16)  # sums of squares far beyond 65504
    rows = Rows(model.graph.inputs[0], 16)
    found = products(model, context(calibration=Given({"x": x})), [rows], "")[rows.key]
    wide = x.astype(np.float64)
    close(found, wide, wide.T @ wide)


def test_layers_that_read_the_same_rows_share_one_sum():
    text = """g (float[B,3,6,6] x) => (float[B,C,D,E] y, float[B,C,F,G] z, float[B,C,H,I] q) {
        y = Conv(x, a)  z = Conv(x, b)  q = Conv(x, c) }"""
    model = model_of(text, a=noise(4, 3, 1, 2), b=noise(5, 3, 1, 2), c=noise(4, 3, 2, 1))
    keys = [Rows(model.graph.inputs[0], 6, node).key for node in model.graph]
    assert keys[0] == keys[1] != keys[2]  # as many numbers in a patch, but others


def test_so_many_at_a_time_as_fit():
    model = model_of("g (float[2,16] x) => (float[2,8] y) { y = MatMul(x, w) }", w=noise(16, 8))
    half = int((HELD / 16) ** 0.5)  # two of them fill the room: 8 bytes for each number of a product
    value, other = model.graph.inputs[0], model.graph[0].outputs[0]
    alike, apart = Rows(value, half), Rows(other, half)
    third = Rows(model.graph[0].inputs[1], half)
    assert [*in_groups([[alike], [apart], [third]], lambda rows: rows)] == [[[alike], [apart]], [[third]]]
    assert [*in_groups([[alike], [alike], [apart], []], lambda rows: rows)] == [[[alike], [alike], [apart], []]]
    huge = Rows(value, 2 * half)
    assert [*in_groups([[apart], [huge], [third]], lambda rows: rows)] == [[[apart]], [[huge]], [[third]]]


def test_nothing_to_look_at_costs_no_pass_over_the_data():
    model = model_of("g (float[2,16] x) => (float[2,8] y) { y = MatMul(x, w) }", w=noise(16, 8))
    data = Given({"x": noise(2, 16)})
    assert products(model, context(calibration=data), [], "") == {} and data.passes == 0


def test_data_without_batches_is_an_error():
    model = model_of("g (float[2,16] x) => (float[2,8] y) { y = MatMul(x, w) }", w=noise(16, 8))
    with pytest.raises(PassError, match="no batches"):
        products(model, context(calibration=Given()), [Rows(model.graph.inputs[0], 16)], "")


def test_the_model_is_as_it_was():
    model = model_of("g (float[2,16] x) => (float[2,8] y) { y = MatMul(x, w) }", w=noise(16, 8))
    squares(model, context(calibration=Given({"x": noise(2, 16)})), [Rows(model.graph.inputs[0], 16)], "")
    assert [node.op_type for node in model.graph] == ["MatMul"] and [v.name for v in model.graph.outputs] == ["y"]
