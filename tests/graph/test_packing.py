"""Packing against NumPy's own bit packing, ONNX's 4-bit layout, and what onnxruntime unpacks."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress_ops.graph.edit import Editor
from compress_ops.graph.packing import Unpacker, digit, pack, packed_bytes, per_byte, radices, stride, unpack
from tests.helpers import model_of, optimized, outputs, proto

LEVELS = [2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 33, 64, 65, 128, 129, 256]


def codes_of(levels: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(levels).integers(0, levels, shape).astype(np.uint8)


@pytest.mark.parametrize("levels", LEVELS)
def test_bases_hold_all_levels(levels):
    assert math.prod(radices(levels)) >= levels


@pytest.mark.parametrize(
    ("levels", "bits"), [(2, 1), (3, 1.6), (4, 2), (6, 8 / 3), (8, 3), (16, 4), (32, 5), (64, 6), (128, 7), (256, 8)]
)
def test_room_that_a_code_takes(levels, bits):
    assert packed_bytes(1680, radices(levels)) == 1680 * bits / 8


@given(base=st.integers(2, 256), data=st.data())
def test_unpacking_undoes_packing(base, data):
    codes = np.array(data.draw(st.lists(st.integers(0, base - 1), min_size=1, max_size=20)), np.uint8)
    packed = pack(codes[None], base)
    assert packed.shape == (1, -(-codes.size // per_byte(base)))
    assert np.array_equal(unpack(packed, base, codes.size), codes[None])


@pytest.mark.parametrize("levels", LEVELS)
def test_digits_make_up_the_code(levels):
    codes, bases = codes_of(levels, 50).astype(int), radices(levels)
    weights = [math.prod(bases[:i]) for i in range(len(bases))]
    assert np.array_equal(sum(weight * digit(codes, bases, i) for i, weight in enumerate(weights)), codes)


def test_base_2_is_numpys_bit_packing_lowest_bit_first():
    codes = codes_of(2, 3, 21)
    assert np.array_equal(pack(codes, 2), np.packbits(codes, axis=1, bitorder="little"))


def test_base_16_is_onnxs_uint4():
    codes = codes_of(16, 3, 8)
    assert pack(codes.reshape(1, -1), 16).tobytes() == ir.Tensor(codes.astype(ml_dtypes.uint4)).tobytes()


def unpacking_model(levels: int, codes: np.ndarray) -> onnx.ModelProto:
    """y = x + the codes, unpacked by the operators under test."""
    model = model_of("g (float[R, C] x) => (float[R, C] y) { y = Identity(x) }")
    node, unpacker, bases = model.graph[0], Unpacker(model), radices(levels)
    edit = Editor(model, node)
    planes = unpacker.store("codes", lambda: codes, codes.shape, bases, model.graph)
    edit.replace(edit.op("Add", node.inputs[0], unpacker.unpack(edit, planes, bases, "float32", codes.shape[1])))
    return proto(model)


@pytest.mark.parametrize("columns", [1, 7, 240])
@pytest.mark.parametrize("levels", LEVELS)
def test_onnxruntime_unpacks_the_same_codes(levels, columns):
    codes = codes_of(levels, 3, columns)
    (unpacked,) = outputs(unpacking_model(levels, codes), x=np.zeros((3, columns), np.float32))
    assert np.array_equal(unpacked, codes)


@pytest.mark.parametrize("levels", [3, 8, 16])
def test_rows_fill_whole_bytes_of_every_base(levels):
    bases = radices(levels)
    assert all(stride(bases) % per_byte(base) == 0 for base in bases)
    assert packed_bytes(stride(bases) + 1, bases) == 2 * packed_bytes(stride(bases), bases)


def test_onnxruntime_folds_the_unpacking_at_load():
    assert optimized(unpacking_model(8, codes_of(8, 64, 64)), "ORT_ENABLE_ALL") == {"Add": 1}


def test_tables_are_stored_once_for_all_weights():
    model = model_of("g (float[3, 8] x) => (float[3, 8] y) { y = Identity(x) }")
    unpacker = Unpacker(model)
    first = unpacker.constant("table", np.arange(4))
    assert unpacker.constant("table", np.arange(4)) is first
    assert unpacker.constant("table", np.arange(4).astype(np.float32)) is not first
