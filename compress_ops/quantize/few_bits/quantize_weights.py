"""quantize_weights: weights become 2, 3, 4 or 8 bits in blocks, activations stay float."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from ...arrays import Array
from ...errors import PassError
from ...files.stored_half import stored_bytes
from ...graph.layer_inputs import in_groups, products
from ...graph.opset import require_opset
from ...graph.packing import Unpacker, pack, packed_bytes, radices, unpack
from ...measure.quality import Quality
from ...model import Model
from ...passes import Change, Context, Promise, Selection, register
from ..numbers.blocks import Blocked, BlockFormat, rounded_codes, signal_to_noise
from ..numbers.rounding import half_quadratic, nearest
from . import kernels
from . import standard_operators as standard
from .gptq import compensated_codes, rows_of
from .sites import OPERATORS, Operator, Weight, find_weights
from .support import Storage, require_storage

Method = Literal["rtn", "hqq", "gptq"]
_OVERHEAD = 700  # bytes that the nodes of one weight take in the file, about
_OPSET = {"MatMulNBits": 11, "qdq": 21, "decoded": 11}
_LEAST = 0.001  # of the model's bytes: the error of a smaller weight (two token types, say) costs more than it saves


class BlocksOptions(Selection):
    """What quantize_weights takes."""

    bits: Annotated[
        Literal[2, 3, 4, 8], Field(description="Bits per weight. 4 is the least that plain rounding bears.")
    ] = 4
    block_size: Annotated[
        Literal[16, 32, 64, 128, 256],
        Field(
            description="Weights that share a scale. 32 is most accurate (an encoder at 4 bits: cosine 0.990, 128: "
            "0.983); 128 takes 0.84 bits less per weight and is the fastest on CPUs (a decoder's MatMul: 0.16 of the "
            "float time, 32: 0.21). With storage qdq at most so many, such that blocks are equal."
        ),
    ] = 32
    symmetric: Annotated[
        bool,
        Field(
            description="No zero points: 1/8 bit less per weight (blocks of 32); an encoder: cosine 0.987, not 0.990."
        ),
    ] = False
    method: Annotated[
        Method | None,
        Field(
            description="rtn, hqq, or gptq (needs calibration data). Absent: gptq with data, hqq without, the "
            "closest that each allows."
        ),
    ] = None
    storage: Annotated[
        Storage,
        Field(
            description="MatMulNBits: kernels that compute from packed codes, the fastest. qdq: blocked "
            "DequantizeLinear, for runtimes without them. decoded: unpacked at load, float speed anywhere."
        ),
    ] = "MatMulNBits"
    accuracy_level: Annotated[
        int,
        Field(
            ge=0,
            le=4,
            description="MatMulNBits: 4 rounds activations to int8 in the kernel (up to twice as fast, about 0.5 % "
            "error of a product), 0 computes in float32.",
        ),
    ] = 4
    clip: Annotated[
        bool | None,
        Field(
            description="Search each block's range for the least squared error (rtn, gptq). Absent: rtn does, gptq "
            "below 4 bits; from 4 bits on clipping cost gptq more than it gave (an encoder, a language model)."
        ),
    ] = None
    damping: Annotated[
        float, Field(gt=0, le=1, description="gptq: share of the mean added to H's diagonal; the paper's own 0.01.")
    ] = 0.01
    activation_order: Annotated[
        bool, Field(description="gptq: round the most active columns first; always at least as good when measured.")
    ] = True
    operators: Annotated[list[Operator], Field(description="Operator types to quantize. All by default, for size.")] = (
        OPERATORS
    )


@register("quantize_weights", promises=Promise.SHRINKS)
def quantize_weights(model: Model, ctx: Context, options: BlocksOptions) -> Change:
    """Store weights in few bits, in blocks with a scale each (weight-only quantization).

    rtn rounds to nearest. hqq (Badri & Shaji 2023) fits scale and zero point to a heavy-tailed error, without data.
    gptq (Frantar et al. 2022, arXiv:2210.17323) lets later weights make up for the errors of earlier ones, given the
    layer's inputs; embeddings (whose H is diagonal), and what data cannot reach (subgraphs, grouped convolutions), are
    rounded by hqq. MatMul and Gemm become MatMulNBits (and Add), embeddings GatherBlockQuantized; tied embeddings stay
    one tensor in every storage. Convolutions and recurrent layers, which have no such kernel, are unpacked at load. 3
    bits are stored as 3 bits and computed in the 4-bit kernel. Weights that another operator needs as they are, that
    are not finite or too small to gain, are declined.
    """
    chosen = options.method or ("gptq" if ctx.calibration is not None else "hqq")
    if chosen == "gptq" and ctx.calibration is None:
        raise PassError("method gptq needs calibration data", hint="give --data, or take method hqq or rtn")
    require_storage(ctx, options.storage, options.bits)
    require_opset(model, _OPSET[options.storage])
    clipped = options.clip if options.clip is not None else chosen == "rtn" or options.bits < 4
    options = options.but(method=chosen, clip=clipped)
    change = Change(chosen={"method": chosen})
    found = find_weights(model, options.operators, options.only, options.skip, change)
    least = int(_LEAST * model.weight_bytes())
    weights = [weight for weight in found if _gains(weight, options, least, change)]
    quality, unpacker = Quality(), Unpacker(model)
    for weight, blocked in [*_quantized(model, ctx, weights, options)]:
        quality.add(weight.name, signal_to_noise(weight.matrix(), blocked))
        _write(unpacker, weight, blocked, options)
        for site in weight.sites:
            change.touch(site.node.name, f"{options.bits} bits in blocks of {blocked.format.size} by {blocked.method}")
    model.drop_unused()
    change.notes["sqnr_db"] = quality.by_name()
    return change


def _form(weight: Weight, options: BlocksOptions) -> BlockFormat:
    """The format for one weight: scales of its own type; standard operators need no whole block of a short row."""
    size: int = options.block_size
    if _in_qdq(weight, options):
        size = standard.equal_blocks(weight.inner, size, by_columns="matrix" in weight.roles)
    elif not _uses_kernels(weight, options):
        size = min(size, weight.inner)
    return BlockFormat(options.bits, size, options.symmetric, weight.tensor.dtype.numpy().name)


def _in_qdq(weight: Weight, options: BlocksOptions) -> bool:
    return options.storage == "qdq" and weight.roles != {"table"}


def _uses_kernels(weight: Weight, options: BlocksOptions) -> bool:
    return options.storage == "MatMulNBits" and not weight.roles & {"kernel", "gates"}


def _gains(weight: Weight, options: BlocksOptions, least: int, change: Change) -> bool:
    """Whether the weight can be stored so, and is smaller then; declines it where not."""
    reason = _why_not(weight, options, least)
    for site in weight.sites if reason else ():
        change.decline(site.node.name, f"{site.node.op_type}: {reason}")
    return not reason


def _why_not(weight: Weight, options: BlocksOptions, least: int) -> str:
    form = _form(weight, options)
    present = stored_bytes(weight.value)
    if present < least:
        return f"its weight of {present} bytes is below 0.1 % of the model's"
    blocks = weight.rows * form.blocks_of(weight.inner)
    scales = blocks * (weight.tensor.dtype.itemsize + (0 if form.symmetric else 1))
    stored = packed_bytes(blocks * form.size, radices(1 << form.bits)) + int(scales) + _OVERHEAD
    if stored >= present:
        equal = "equal " if _in_qdq(weight, options) else ""
        return f"its weight of {present} bytes would take {stored} in {equal}blocks of {form.size}"
    return ""


def _quantized(
    model: Model, ctx: Context, weights: list[Weight], options: BlocksOptions
) -> Iterator[tuple[Weight, Blocked]]:
    """Every weight with its blocks. Hessians are those of the model as it came, whatever is written later."""
    rows = {weight.value: rows_of(model, weight) if options.method == "gptq" else [] for weight in weights}
    for group in in_groups(weights, lambda weight: rows[weight.value]):
        wanted = [one for weight in group for one in rows[weight.value]]
        hessians = products(model, ctx, wanted, "quantize_weights: Hessians")
        for weight in ctx.progress(group, "quantize_weights"):
            found = [hessians[one.key] for one in rows[weight.value]]
            yield weight, _rounded(weight, options, found)


def _rounded(weight: Weight, options: BlocksOptions, hessians: list[Array]) -> Blocked:
    matrix, form = weight.matrix(), _form(weight, options)
    if options.method == "gptq" and (usable := _usable(hessians)) is not None:
        return _compensated(weight, form, options, usable)
    if options.method == "rtn":
        grid, method = nearest(matrix, form, bool(options.clip)), "rtn"
    else:
        grid, method = half_quadratic(matrix, form), _why_hqq(options, hessians)
    return Blocked(form, weight.rows, weight.inner, grid, lambda: rounded_codes(weight.matrix(), form, grid), method)


def _usable(hessians: list[Array]) -> Array | None:
    """The sum over the weight's readers; None where data gave nothing to go by."""
    if not hessians:
        return None
    total: Array = sum(hessians[1:], hessians[0])
    return total if np.isfinite(total).all() and total.any() else None


def _why_hqq(options: BlocksOptions, hessians: list[Array]) -> str:
    if options.method == "hqq":
        return "hqq"
    reason = "its inputs are zero or not finite on the calibration data" if hessians else "no inputs to go by"
    return f"hqq ({reason})"


def _compensated(weight: Weight, form: BlockFormat, options: BlocksOptions, hessian: Array) -> Blocked:
    """GPTQ's codes depend on data, so they are kept, packed."""
    matrix = weight.matrix()
    grid = nearest(matrix, form, bool(options.clip))
    codes = compensated_codes(matrix, hessian, form, grid, options.damping, options.activation_order)
    base, columns = 1 << form.bits, codes.shape[1]
    packed = pack(codes, base)
    return Blocked(form, weight.rows, weight.inner, grid, lambda: unpack(packed, base, columns), "gptq")


def _write(unpacker: Unpacker, weight: Weight, blocked: Blocked, options: BlocksOptions) -> None:
    if _uses_kernels(weight, options):
        kernels.write(unpacker, weight, blocked, options.accuracy_level)
    elif weight.roles == {"table"}:
        standard.write_lookups(unpacker, weight, blocked)
    elif _in_qdq(weight, options):
        standard.write_qdq(unpacker, weight, blocked)
    else:
        standard.write_decoded(unpacker, weight, blocked)
