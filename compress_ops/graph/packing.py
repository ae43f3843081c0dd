"""Small codes packed into bytes, and the few standard operators that unpack them.

Codes 0..levels-1 are written in digits, each digit of base b, and n = floor(log_b 256) digits share a byte,
    byte = d_0 + d_1 b + ... + d_{n-1} b^(n-1).
For b = 2^k that is bit packing, lowest bits first. Levels that waste a byte are split over two or three bases: 3-bit
codes are a base-4 digit and a base-2 digit, each packed with its own kind; ternary codes go 5 to a byte (1.6 bits).

A byte is unpacked by one lookup: row ``byte`` of a table of 256 rows holds its digits, times their weight. So
    codes = sum over bases of Gather(table, Cast(bytes)),
operators that ONNX has had since opset 1. onnxruntime folds them when it loads the model (constants only are read):
the model then runs as if the decoded tensor had been stored. A trial with 16.8 million 4-bit codes: loaded in 0.18 s,
where the float weight took 0.12 s, BitShift and Mod 0.34 s, and a UINT4 tensor with Cast 0.19 s (opset 21).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np

from ..arrays import Array
from ..lazy import ir
from ..model import Model
from .edit import Constants, Editor

_BYTE = 256


def radices(levels: int) -> tuple[int, ...]:
    """Bases of the digits that a code of so many levels is stored in; few bytes first, then few bases."""
    if levels <= 6:
        return (max(levels, 2),)
    for limit, bases in ((8, (4, 2)), (16, (16,)), (32, (16, 2)), (64, (16, 4)), (128, (16, 4, 2))):
        if levels <= limit:
            return bases
    return (_BYTE,)


def per_byte(base: int) -> int:
    """How many digits of a base share a byte."""
    count = 1
    while base ** (count + 1) <= _BYTE:
        count += 1
    return count


def stride(bases: Sequence[int]) -> int:
    """Rows of codes are padded to a multiple of this, so that every base fills whole bytes."""
    return math.lcm(*map(per_byte, bases))


def packed_bytes(count: int, bases: Sequence[int]) -> int:
    """Bytes that a row of ``count`` codes takes."""
    padded = -(-count // stride(bases)) * stride(bases)
    return sum(padded // per_byte(base) for base in bases)


def pack(codes: Array, base: int) -> Array:
    """uint8 bytes [..., ceil(n / per_byte)] of the codes [..., n]; what is missing at the end is zero."""
    count = per_byte(base)
    if count == 1:
        return codes.astype(np.uint8)
    missing = -codes.shape[-1] % count
    if missing:
        codes = np.pad(codes, [(0, 0)] * (codes.ndim - 1) + [(0, missing)])
    digits = codes.reshape(*codes.shape[:-1], -1, count)
    packed = digits[..., 0].astype(np.uint8)
    for i in range(1, count):  # at most 7 times
        packed += (digits[..., i] * base**i).astype(np.uint8)
    return packed


def unpack(packed: Array, base: int, count: int) -> Array:
    """uint8 codes [..., count] of what ``pack`` gave."""
    digits = table(base)[packed]
    return digits.reshape(*packed.shape[:-1], -1)[..., :count]


def table(base: int) -> Array:
    """The digits of every byte value: uint8 [256, per_byte]."""
    count = per_byte(base)
    return (np.arange(_BYTE)[:, None] // base ** np.arange(count) % base).astype(np.uint8)


def digit(codes: Array, bases: Sequence[int], position: int) -> Array:
    """The digits at one position of mixed-radix codes: c // (b_0 ... b_{p-1}) mod b_p."""
    below = math.prod(bases[:position])
    return codes if len(bases) == 1 else codes // below % bases[position]


@dataclass
class Unpacker:
    """Stores packed codes in a model and writes the lookups that unpack them; tables are shared by the whole model."""

    model: Model
    casts: dict[tuple[ir.Value, str], ir.Value] = field(default_factory=dict)

    @cached_property
    def constant(self) -> Constants:
        """Stores a weight of the main graph once, however often it is asked for."""
        return Constants(self.model)

    def store(
        self, name: str, codes: Callable[[], Array], shape: tuple[int, int], bases: Sequence[int], graph: ir.Graph
    ) -> list[ir.Value]:
        """One uint8 weight [rows, bytes] a base, made when the model is saved; rows are padded to the stride."""
        rows, columns = shape
        padded = -(-columns // stride(bases)) * stride(bases)
        tensors = [
            ir.LazyTensor(
                partial(_packed, codes, padded, bases, position),
                dtype=ir.DataType.UINT8,
                shape=ir.Shape((rows, padded // per_byte(base))),
            )
            for position, base in enumerate(bases)
        ]
        return [self.model.add_weight(name, tensor, graph) for tensor in tensors]

    def unpack(
        self,
        edit: Editor,
        planes: Sequence[ir.Value],
        bases: Sequence[int],
        dtype: str,
        columns: int,
        factor: int = 1,
    ) -> ir.Value:
        """Codes [rows, columns] of the given dtype, times ``factor``, from planes that ``store`` made."""
        tables = [
            self.table(f"digits_base{base}", table(base) * (factor * math.prod(bases[:position])), dtype)
            for position, base in enumerate(bases)
        ]
        padded = -(-columns // stride(bases)) * stride(bases)
        return self.columns(edit, self.lookup(edit, planes, tables, [-1, padded]), padded, columns)

    def lookup(
        self, edit: Editor, planes: Sequence[ir.Value], tables: Sequence[ir.Value], shape: Sequence[int]
    ) -> ir.Value:
        """The sum over planes of table[bytes], in the given shape."""
        total: ir.Value | None = None
        for plane, rows in zip(planes, tables, strict=True):
            bytes_ = edit.op("Cast", plane, to=ir.DataType.INT32.value)
            digits = edit.op("Reshape", edit.op("Gather", rows, bytes_, axis=0), self.shape(shape))
            total = digits if total is None else edit.op("Add", total, digits)
        assert total is not None
        return total

    def columns(self, edit: Editor, value: ir.Value, present: int, wanted: int) -> ir.Value:
        """The first ``wanted`` of the ``present`` entries along the last axis."""
        if present == wanted:
            return value
        return edit.op("Slice", value, self.shape([0]), self.shape([wanted]), self.shape([-1]))

    def table(self, name: str, rows: Array, dtype: str) -> ir.Value:
        """A uint8 table, cast to another type at the beginning of the main graph: in the file it stays small."""
        stored = self.constant(name, rows)
        key = (stored, dtype)
        if key not in self.casts:
            beginning = Editor(self.model, self.model.graph[0])
            kind = ir.DataType.from_numpy(np.dtype(dtype)).value
            self.casts[key] = beginning.op("Cast", stored, to=kind)
        return self.casts[key]

    def shape(self, sizes: Sequence[int]) -> ir.Value:
        """Whole numbers that operators take: a shape, a bound, an axis."""
        return self.constant("sizes", np.array(sizes, np.int64))


def _packed(codes: Callable[[], Array], padded: int, bases: Sequence[int], position: int) -> ir.TensorProtocol:
    whole = codes()
    if whole.shape[1] < padded:
        whole = np.pad(whole, ((0, 0), (0, padded - whole.shape[1])))
    return ir.Tensor(pack(digit(whole, bases, position), bases[position]))


def editor_for(model: Model, value: ir.Value) -> Editor:
    """An editor in front of a weight's first reader in the graph that owns it (or at that graph's beginning)."""
    graph = owner(value)
    users = {node for node, _ in value.uses()}
    return Editor(model, next((node for node in graph if node in users), graph[0]))


def owner(value: ir.Value) -> ir.Graph:
    """The graph whose initializer a weight is."""
    assert isinstance(value.graph, ir.Graph)
    return value.graph
