"""Blocks in standard operators: DequantizeLinear in blocks, or codes unpacked at load or after a lookup.

``qdq`` writes DequantizeLinear with block_size (opset 21): onnxruntime fuses it with the MatMul or Gemm behind it, in
front of a Conv it runs at each call. Blocks are equal: the standard asks that their size divides the axis, and readers
other than onnxruntime refuse a shorter last one or misread it. ``decoded`` unpacks with operators that onnxruntime
folds when it loads the model: the file is small, and time and memory are those of the float model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ...arrays import Array
from ...graph.edit import Editor
from ...graph.layers.weights import Site
from ...graph.packing import Unpacker, editor_for, owner, radices
from ...lazy import ir
from ...nodes import later
from ..numbers.blocks import Blocked
from .sites import Weight

QDQ_BITS = (4, 8)


def equal_blocks(inner: int, most: int, *, by_columns: bool) -> int:
    """The size of equal blocks of a row of ``inner`` numbers, ``most`` being a power of two: the largest that divides.

    A short row that is not read by columns is one block. Of other sizes than powers of two, and of an axis other than
    0, OpenVINO (1.24 of its provider, products of 40 to 500 outputs) gave wrong numbers without a word.
    """
    return inner if inner <= most and not by_columns else math.gcd(inner, most)


def write_qdq(unpacker: Unpacker, weight: Weight, blocked: Blocked) -> None:
    """One DequantizeLinear for all readers, of codes [inner, rows]: the form that onnxruntime fuses into products.

    What reads the weight by rows, a table or a kernel, reads it through a Transpose.
    """
    edit = editor_for(unpacker.model, weight.value)
    codes = _add(unpacker, weight, f"int{blocked.format.bits}", _integers(blocked))
    inputs = [codes, _add(unpacker, weight, "scale", ir.Tensor(_turned(blocked.grid.scale)))]
    if blocked.grid.zero is not None:
        zeros = _typed(_turned(blocked.grid.zero), blocked)
        inputs.append(_add(unpacker, weight, "zero_point", ir.Tensor(zeros)))
    columns = edit.op("DequantizeLinear", *inputs, axis=0, block_size=blocked.format.size)
    rows = None if weight.roles == {"matrix"} else edit.op("Transpose", columns, perm=[1, 0])
    if rows is not None and len(weight.sizes) > 2:
        rows = edit.op("Reshape", rows, unpacker.shape(weight.sizes))
    for site in weight.sites:
        site.node.replace_input_with(site.index, columns if site.role == "matrix" else rows)
        site.node.attributes.pop("transB", None)


def _integers(blocked: Blocked) -> ir.LazyTensor:
    """The codes [inner, rows], unpadded, in the integer type that DequantizeLinear reads."""
    kind = ("INT" if blocked.format.symmetric else "UINT") + str(blocked.format.bits)
    sizes = (blocked.inner, blocked.rows)
    return later(lambda: _typed(_turned(blocked.codes()[:, : blocked.inner]), blocked), ir.DataType[kind], sizes)


def _typed(codes: Array, blocked: Blocked) -> Array:
    """uint8 codes as uint4 or uint8; symmetric ones around zero, as int4 or int8."""
    import ml_dtypes

    narrow = {4: (ml_dtypes.uint4, ml_dtypes.int4), 8: (np.uint8, np.int8)}[blocked.format.bits]
    if not blocked.format.symmetric:
        return codes.astype(narrow[0])
    return (codes.astype(np.int16) - blocked.format.middle).astype(np.int8).astype(narrow[1])


def _turned(array: Array) -> Array:
    return np.ascontiguousarray(array.T)


def write_decoded(unpacker: Unpacker, weight: Weight, blocked: Blocked) -> None:
    """Unpack the whole weight in front of its readers, in its own shape."""
    edit, form, size = editor_for(unpacker.model, weight.value), blocked.format, blocked.format.size
    bases, count = radices(1 << form.bits), blocked.rows * blocked.blocks * form.size
    planes = unpacker.store(
        f"{weight.name}_int{form.bits}", lambda: blocked.codes().reshape(1, -1), (1, count), bases, owner(weight.value)
    )
    codes = unpacker.unpack(edit, planes, bases, form.dtype, count)
    scale, zero = _grid(unpacker, weight, blocked, (-1, 1))
    numbers = _scaled(unpacker, edit, blocked, edit.op("Reshape", codes, unpacker.shape([-1, size])), scale, zero)
    padded = blocked.blocks * size
    if padded != blocked.inner:
        numbers = edit.op("Reshape", numbers, unpacker.shape([-1, padded]))
        numbers = unpacker.columns(edit, numbers, padded, blocked.inner)
    shape = weight.sizes if weight.rows_first else weight.sizes[::-1]
    numbers = edit.op("Reshape", numbers, unpacker.shape(shape))
    weight.value.replace_all_uses_with(numbers if weight.rows_first else edit.op("Transpose", numbers, perm=[1, 0]))


def write_lookups(unpacker: Unpacker, weight: Weight, blocked: Blocked) -> None:
    """Unpack the rows of a table after they are looked up: in memory, too, the table stays packed."""
    form, columns = blocked.format, blocked.blocks * blocked.format.size
    bases = radices(1 << form.bits)
    name, shape = f"{weight.name}_int{form.bits}", (blocked.rows, columns)
    planes = unpacker.store(name, blocked.codes, shape, bases, owner(weight.value))
    grid = _grid(unpacker, weight, blocked, blocked.grid.scale.shape)
    for site in weight.sites:
        edit = Editor(unpacker.model, site.node)
        rows = edit.op("Reshape", site.node.inputs[1], unpacker.shape([-1]))
        picked = [edit.op("Gather", plane, rows, axis=0) for plane in planes]
        codes = unpacker.unpack(edit, picked, bases, form.dtype, columns)
        each = [-1, blocked.blocks, 1]
        scale, zero = (
            value and edit.op("Reshape", edit.op("Gather", value, rows, axis=0), unpacker.shape(each)) for value in grid
        )
        blocks = edit.op("Reshape", codes, unpacker.shape([-1, blocked.blocks, form.size]))
        assert scale is not None
        numbers = _scaled(unpacker, edit, blocked, blocks, scale, zero)
        edit.replace(_in_place(unpacker, edit, numbers, site, blocked))


def _in_place(unpacker: Unpacker, edit: Editor, numbers: ir.Value, site: Site, blocked: Blocked) -> ir.Value:
    """Rows [n, inner] in the shape of a Gather's output: that of the indices, and the row behind it."""
    columns = blocked.blocks * blocked.format.size
    flat = edit.op("Reshape", numbers, unpacker.shape([-1, columns]))
    flat = unpacker.columns(edit, flat, columns, blocked.inner)
    sizes = edit.op("Concat", edit.op("Shape", site.node.inputs[1]), unpacker.shape([blocked.inner]), axis=0)
    return edit.op("Reshape", flat, sizes)


def _grid(
    unpacker: Unpacker, weight: Weight, blocked: Blocked, shape: Sequence[int]
) -> tuple[ir.Value, ir.Value | None]:
    """Scales and zero points as weights of the given shape."""
    scale = _add(unpacker, weight, "scale", ir.Tensor(blocked.grid.scale.reshape(shape)))
    if blocked.grid.zero is None:
        return scale, None
    return scale, _add(unpacker, weight, "zero_point", ir.Tensor(blocked.grid.zero.reshape(shape)))


def _scaled(
    unpacker: Unpacker, edit: Editor, blocked: Blocked, codes: ir.Value, scale: ir.Value, zero: ir.Value | None
) -> ir.Value:
    """(codes - zero) * scale, all of the scale's type."""
    dtype = np.dtype(blocked.format.dtype)
    if zero is None:
        middle = unpacker.constant("middle", np.array(blocked.format.middle, dtype))
    else:
        middle = edit.op("Cast", zero, to=ir.DataType.from_numpy(dtype).value)
    return edit.op("Mul", edit.op("Sub", codes, middle), scale)


def _add(unpacker: Unpacker, weight: Weight, what: str, tensor: ir.TensorProtocol) -> ir.Value:
    return unpacker.model.add_weight(f"{weight.name}_{what}", tensor, owner(weight.value))
