"""Gradients of matrix products: Y = A B has dA = dY B^T and dB = A^T dY.

A weight B that is a plain matrix is shared by all leading dimensions of A: they are flattened into rows, so that
each gradient is one Gemm.
"""

from __future__ import annotations

from ...lazy import ir
from ..rule import Result, gradient
from ..step import Step


@gradient("MatMul")
def matmul(step: Step, dy: ir.Value) -> Result:
    a, b = step.inputs
    if step.rank(b) == 2 and step.rank(a) >= 2:
        return _by_matrix(step, dy)
    wide_a, wide_b = step.rank(a) > 1, step.rank(b) > 1
    matrix_a = a if wide_a else step.op("Unsqueeze", a, step.integers([0]))
    matrix_b = b if wide_b else step.op("Unsqueeze", b, step.integers([1]))
    dims = step.dims(step.y)
    batch = dims[: len(dims) - wide_a - wide_b]
    if not (wide_a and wide_b):
        dy = step.op("Unsqueeze", dy, step.integers([axis for axis, wide in ((-2, wide_a), (-1, wide_b)) if not wide]))
    return (
        lambda: _core(step, step.op("MatMul", dy, swap(step, matrix_b)), batch, a, -2),
        lambda: _core(step, step.op("MatMul", swap(step, matrix_a), dy), batch, b, -1),
    )


def _by_matrix(step: Step, dy: ir.Value) -> Result:
    a, b = step.inputs
    rows = _rows(step, dy, b, 1)

    def left() -> ir.Value:
        gradient = step.op("Gemm", rows, b, transB=1)
        return gradient if step.rank(a) == 2 else step.like(gradient, a)

    return left, lambda: step.op("Gemm", _rows(step, a, b, 0), rows, transA=1)


def _rows(step: Step, value: ir.Value, b: ir.Value, axis: int) -> ir.Value:
    """The value as a matrix whose columns are those of B's axis."""
    if step.rank(value) == 2:
        return value
    columns = step.op("Shape", b, start=axis, end=axis + 1)
    return step.op("Reshape", value, step.op("Concat", step.integers([-1]), columns, axis=0))


def _core(step: Step, gradient: ir.Value, batch: tuple[int | str | None, ...], value: ir.Value, axis: int) -> ir.Value:
    """Batch dimensions that the value lacks, or has once, are the engine's to sum."""
    if step.rank(value) == 1:
        gradient = step.op("Squeeze", gradient, step.integers([axis]))
    return step.shaped(gradient, (*batch, *step.dims(value)[-2:]))


def swap(step: Step, value: ir.Value) -> ir.Value:
    """The transposes of a stack of matrices; onnxruntime fuses this into the product."""
    rank = value.shape.rank() if value.shape is not None else 2
    return step.op("Transpose", value, perm=[*range(rank - 2), rank - 1, rank - 2])


@gradient("Gemm")
def gemm(step: Step, dy: ir.Value) -> Result:
    """Y = alpha op(A) op(B) + beta C."""
    a, b = step.inputs[:2]
    alpha, beta = step.attribute("alpha", 1.0), step.attribute("beta", 1.0)
    flip_a, flip_b = step.attribute("transA", 0), step.attribute("transB", 0)

    def left() -> ir.Value:
        if flip_a:
            return step.op("Gemm", b, dy, alpha=alpha, transA=flip_b, transB=1)
        return step.op("Gemm", dy, b, alpha=alpha, transB=1 - flip_b)

    def right() -> ir.Value:
        if flip_b:
            return step.op("Gemm", dy, a, alpha=alpha, transA=1, transB=flip_a)
        return step.op("Gemm", a, dy, alpha=alpha, transA=1 - flip_a)

    return left, right, lambda: step.broadcast(step.scale(dy, beta))
