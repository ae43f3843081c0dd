"""MatMulNBits and GatherBlockQuantized (com.microsoft): onnxruntime kernels that compute from packed codes.

Both read the same bytes: codes packed along a row, lowest bits first, [rows, blocks * size * bits / 8]. So a table that
is a matrix too (tied embeddings) is stored once; MatMulNBits takes it through a Reshape, which costs nothing. There
is no 3-bit kernel: those codes are stored in 3 bits and widened to 4 when onnxruntime loads the model.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...arrays import Array
from ...graph.edit import MICROSOFT, Editor
from ...graph.packing import Unpacker, editor_for, owner, pack, per_byte, radices, table
from ...lazy import ir
from ...nodes import later
from ..numbers.blocks import Blocked
from .sites import Weight


@dataclass(frozen=True)
class _Codes:
    """Packed codes with scales and perhaps zero points (``grid``), as both kernels read them."""

    packed: ir.Value
    grid: list[ir.Value]
    bits: int
    columns: int
    tied: bool


def write(unpacker: Unpacker, weight: Weight, blocked: Blocked, accuracy_level: int) -> None:
    """Store the weight once; each of its readers becomes the kernel of its kind."""
    codes = _store(unpacker, weight, blocked)
    for site in weight.sites:
        edit = Editor(unpacker.model, site.node)
        if site.role == "table":
            edit.replace(_gather(unpacker, edit, codes, blocked))
        else:
            edit.replace(_product(unpacker, edit, codes, blocked, accuracy_level))


def _store(unpacker: Unpacker, weight: Weight, blocked: Blocked) -> _Codes:
    bits = 4 if blocked.format.bits == 3 else blocked.format.bits
    graph, add = owner(weight.value), unpacker.model.add_weight
    columns = _columns(weight, blocked, bits)
    shape = [blocked.rows, columns * bits // 8]
    if weight.roles == {"matrix"}:
        shape = [blocked.rows, blocked.blocks, blocked.format.size * bits // 8]
    if bits != blocked.format.bits:
        packed = _widened(unpacker, weight, blocked, shape)
    else:
        base = 1 << bits
        codes = later(lambda: pack(blocked.codes()[:, :columns], base).reshape(shape), ir.DataType.UINT8, shape)
        packed = add(f"{weight.name}_int{bits}", codes, graph)
    grid = [add(f"{weight.name}_scale", ir.Tensor(blocked.grid.scale), graph)]
    if blocked.grid.zero is not None:
        grid.append(add(f"{weight.name}_zero_point", ir.Tensor(pack(blocked.grid.zero, 1 << bits)), graph))
    return _Codes(packed, grid, bits, columns, tied="table" in weight.roles)


def _columns(weight: Weight, blocked: Blocked, bits: int) -> int:
    """Codes stored of each row: whole blocks for a matrix, whole bytes for what is only a table."""
    if weight.roles != {"table"} or bits != blocked.format.bits:
        return blocked.blocks * blocked.format.size
    return -(-blocked.inner // per_byte(1 << bits)) * per_byte(1 << bits)


def _widened(unpacker: Unpacker, weight: Weight, blocked: Blocked, shape: list[int]) -> ir.Value:
    """3-bit codes, stored in digits of base 4 and 2, each looked up as halves of bytes that hold 4-bit codes."""
    bases, columns = radices(8), blocked.blocks * blocked.format.size
    graph, edit = owner(weight.value), editor_for(unpacker.model, weight.value)
    planes = unpacker.store(f"{weight.name}_int3", blocked.codes, (blocked.rows, columns), bases, graph)
    tables = [
        unpacker.table(f"halves_base{base}", _halves(base) * factor, "int32")
        for base, factor in zip(bases, (1, 4), strict=True)
    ]
    return edit.op("Cast", unpacker.lookup(edit, planes, tables, shape), to=ir.DataType.UINT8.value)


def _halves(base: int) -> Array:
    """Of every byte of digits, the bytes that hold the digits in 4 bits each: uint8 [256, per_byte / 2]."""
    digits = table(base)
    return digits[:, 0::2] + 16 * digits[:, 1::2]


def _product(unpacker: Unpacker, edit: Editor, codes: _Codes, blocked: Blocked, accuracy_level: int) -> ir.Value:
    node, packed = edit.node, codes.packed
    if codes.tied:
        shape = [blocked.rows, blocked.blocks, blocked.format.size * codes.bits // 8]
        packed = edit.op("Reshape", packed, unpacker.shape(shape))
    product = edit.op(
        "MatMulNBits",
        node.inputs[0],
        packed,
        *codes.grid,
        domain=MICROSOFT,
        K=blocked.inner,
        N=blocked.rows,
        bits=codes.bits,
        block_size=blocked.format.size,
        accuracy_level=accuracy_level,
    )
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    return product if bias is None else edit.op("Add", product, bias)


def _gather(unpacker: Unpacker, edit: Editor, codes: _Codes, blocked: Blocked) -> ir.Value:
    rows = edit.op(
        "GatherBlockQuantized",
        codes.packed,
        edit.node.inputs[1],
        *codes.grid,
        domain=MICROSOFT,
        gather_axis=0,
        quantize_axis=1,
        bits=codes.bits,
        block_size=blocked.format.size,
    )
    return unpacker.columns(edit, rows, codes.columns, blocked.inner)
