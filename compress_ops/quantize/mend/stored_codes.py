"""Where a quantized layer stores its 8-bit weight, in QDQ form and in dynamic form: codes, scale, and their readers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...arrays import Array
from ...graph.edit import attribute, constant_of
from ...graph.layers.weights import Site
from ...lazy import ir
from ..int8.qdq import dequantizer
from .counterparts import Counterpart

_INTEGER = ("MatMulInteger", "ConvInteger")
_DEQUANTIZING = ("Add", "Mul", "Cast")  # from an integer product back to floats


@dataclass(frozen=True)
class StoredCodes:
    """8-bit codes of a weight. ``rows_first``: stored as [rows, inner...], else as [inner, rows]; rows are outputs.

    ``zero`` are the zero points, one or one for each row; ``readers`` the nodes that read the codes or their floats.
    """

    value: ir.Value
    tensor: ir.TensorProtocol
    scale: ir.TensorProtocol
    zero: ir.TensorProtocol | None
    rows_first: bool
    readers: tuple[ir.Node, ...]

    @property
    def first(self) -> Array:
        """uint8 [rows, 1]: zero points as they would be if codes began at 0; 128 for int8."""
        zero = np.zeros(1, np.int16) if self.zero is None else self.zero.numpy().astype(np.int16)
        shift = 128 if self.tensor.dtype.name == "INT8" else 0
        return np.broadcast_to((zero + shift).astype(np.uint8).reshape(-1, 1), (self._rows, 1))

    @property
    def least(self) -> Array:
        """The lowest code less the zero point, int16 [rows, 1]; int8 does not use -128."""
        return (1 if self.tensor.dtype.name == "INT8" else 0) - self.first.astype("int16")

    @property
    def most(self) -> Array:
        """The highest code less the zero point."""
        return 255 - self.first.astype("int16")

    def matrix(self) -> Array:
        """int16 [rows, inner]: codes less zero points."""
        codes = self.tensor.numpy()
        turned = codes.reshape(codes.shape[0], -1) if self.rows_first else codes.T
        return turned.astype("int16") - self._zero()

    def scales(self) -> Array:
        """float32 [rows, 1]."""
        return np.broadcast_to(self.scale.numpy().astype(np.float32).reshape(-1, 1), (self._rows, 1))

    def write(self, matrix: Array) -> None:
        """Store other codes, given as ``matrix`` gives them, in the place of these."""
        codes = (matrix + self._zero()).astype(self.tensor.dtype.numpy())
        stored = (codes if self.rows_first else codes.T).reshape(self.tensor.shape.numpy())
        self.value.const_value = ir.Tensor(np.ascontiguousarray(stored), name=self.value.name)

    @property
    def _rows(self) -> int:
        return int(self.tensor.shape.numpy()[0 if self.rows_first else -1])

    def _zero(self) -> Array:
        """int16, to be added to codes [rows, inner]."""
        return np.zeros((1, 1), np.int16) if self.zero is None else self.zero.numpy().astype("int16").reshape(-1, 1)


def stored_codes(pair: Counterpart) -> StoredCodes | str:
    """The codes of a layer's weight, or why there are none."""
    if pair.exact.op_type == "ConvTranspose" or attribute(pair.exact, "group", 1) != 1:
        return "its outputs do not all read all of its inputs"
    if pair.exact.op_type == "MatMul" and len(pair.weight.shape) != 2:
        return "its weight is no matrix"
    found = _dequantized(pair) if pair.node is not None else _integer(pair)
    if found is None:
        return "its weight is not stored in 8 bits with one scale, or one for each output"
    if found.tensor.size != pair.weight.size or found.scale.size not in (1, pair.channels):
        return "its codes are of another shape than its weight"
    return found


def _dequantized(pair: Counterpart) -> StoredCodes | None:
    """Codes -> DequantizeLinear -> layer."""
    assert pair.node is not None
    value = pair.node.inputs[1]
    source = dequantizer(value)
    if value is None or source is None or "block_size" in source.attributes:
        return None
    rows_first = Site(pair.exact, 1, value).rows_first
    codes = source.inputs[0]
    others = [user for user, _ in codes.uses() if user is not source] if codes is not None else []
    readers = [*(user for user, _ in value.uses()), *others]
    zero = source.inputs[2] if len(source.inputs) > 2 else None
    return _of(codes, constant_of(source.inputs[1]), zero, rows_first, readers)


def _integer(pair: Counterpart) -> StoredCodes | None:
    """Codes -> MatMulInteger or ConvInteger -> Cast -> Mul (by input scale times weight scale) -> perhaps Add."""
    node, scale = pair.output.producer(), None
    while node is not None and node.op_type in _DEQUANTIZING:
        before = [value.producer() for value in node.inputs if value is not None]
        scale = scale or _factor(node)
        node = next((made for made in before if made is not None and made.op_type in (*_DEQUANTIZING, *_INTEGER)), None)
    if node is None or node.op_type not in _INTEGER or node.inputs[1] is None:
        return None
    readers = [user for user, _ in node.inputs[1].uses()]
    zero = node.inputs[3] if len(node.inputs) > 3 else None
    return _of(node.inputs[1], scale, zero, node.op_type == "ConvInteger", readers)


def _factor(node: ir.Node) -> ir.TensorProtocol | None:
    """The stored factor of a product whose other factor is computed from stored and computed ones: s_X * s_W."""
    for value in node.inputs if node.op_type == "Mul" else ():
        made = value.producer() if value is not None else None
        if made is not None and made.op_type == "Mul":
            return next((found for found in map(constant_of, made.inputs) if found is not None), None)
    return None


def _of(
    value: ir.Value | None,
    scale: ir.TensorProtocol | None,
    zero: ir.Value | None,
    rows_first: bool,
    readers: list[ir.Node],
) -> StoredCodes | None:
    tensor = constant_of(value)
    if value is None or tensor is None or scale is None or tensor.dtype not in (ir.DataType.INT8, ir.DataType.UINT8):
        return None
    if zero is not None and constant_of(zero) is None:
        return None
    return StoredCodes(value, tensor, scale, constant_of(zero), rows_first, tuple(readers))
