"""MatMulNBits and GatherBlockQuantized (com.microsoft): onnxruntime kernels that compute from packed codes.

Both read the same bytes: codes packed along a row, lowest bits first, [rows, blocks * size * bits / 8]. So a table that
is a matrix too (tied embeddings) is stored once; MatMulNBits takes it through a Reshape, which costs nothing. There
is no 3-bit kernel: those codes are stored in 3 bits and widened to 4 when onnxruntime loads the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...graph.edit import MICROSOFT, Editor
from ..packing import Unpacker, editor_for, owner, pack, per_byte, radices
from .blocks import Array, Blocked
from .sites import Weight

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True)
class _Codes:
    """Packed codes with scales and zero points, as both kernels read them."""

    packed: ir.Value
    scale: ir.Value
    zero: ir.Value | None
    bits: int
    bytes_per_block: int
    columns: int


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
    import onnx_ir as ir

    bits = 4 if blocked.format.bits == 3 else blocked.format.bits
    base, graph = 1 << bits, owner(weight.value)
    columns = _columns(weight, blocked)
    if blocked.format.bits == 3:
        packed = _widened(unpacker, weight, blocked)
    else:
        stored = unpacker.store(
            f"{weight.name}_int{bits}", lambda: blocked.codes()[:, :columns], (blocked.rows, columns), (base,), graph
        )
        packed = stored[0]
    add = unpacker.model.add_weight
    scale = add(f"{weight.name}_scale", ir.Tensor(blocked.grid.scale), graph)
    zeros = None if blocked.grid.zero is None else ir.Tensor(pack(blocked.grid.zero, base))
    zero = None if zeros is None else add(f"{weight.name}_zero_point", zeros, graph)
    return _Codes(packed, scale, zero, bits, blocked.format.size * bits // 8, columns)


def _columns(weight: Weight, blocked: Blocked) -> int:
    """Codes stored of each row: whole blocks for a matrix, whole bytes for what is only a table."""
    whole_blocks = blocked.blocks * blocked.format.size
    if weight.roles != {"table"} or blocked.format.bits == 3:
        return whole_blocks
    return -(-blocked.inner // per_byte(1 << blocked.format.bits)) * per_byte(1 << blocked.format.bits)


def _widened(unpacker: Unpacker, weight: Weight, blocked: Blocked) -> ir.Value:
    """3-bit codes, stored in digits of base 4 and 2, each looked up as halves of bytes that hold 4-bit codes."""
    import onnx_ir as ir

    bases, columns = radices(8), blocked.blocks * blocked.format.size
    graph, edit = owner(weight.value), editor_for(unpacker.model, weight.value)
    planes = unpacker.store(f"{weight.name}_int3", blocked.codes, (blocked.rows, columns), bases, graph)
    tables = [unpacker.constant(f"halves_base{base}", _halves(base, factor)) for base, factor in zip(bases, (1, 4))]
    widened = unpacker.lookup(edit, planes, tables, [blocked.rows, columns // 2])
    return edit.op("Cast", widened, to=ir.DataType.UINT8.value)


def _halves(base: int, factor: int) -> Array:
    """Of every byte of digits, the bytes that hold the digits in 4 bits each: int32 [256, per_byte / 2]."""
    from ..packing import table

    digits = table(base, "int32", factor)
    return digits[:, 0::2] + 16 * digits[:, 1::2]


def _product(unpacker: Unpacker, edit: Editor, codes: _Codes, blocked: Blocked, accuracy_level: int) -> ir.Value:
    node = edit.node
    shape = [blocked.rows, blocked.blocks, codes.bytes_per_block]
    product = edit.op(
        "MatMulNBits",
        node.inputs[0],
        edit.op("Reshape", codes.packed, unpacker.shape(shape)),
        codes.scale,
        *([codes.zero] if codes.zero is not None else []),
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
        codes.scale,
        *([codes.zero] if codes.zero is not None else []),
        domain=MICROSOFT,
        gather_axis=0,
        quantize_axis=1,
        bits=codes.bits,
        block_size=blocked.format.size,
    )
    return unpacker.columns(edit, rows, codes.columns, blocked.inner)
