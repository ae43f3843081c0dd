"""The table of rules: what each operator does to channels. An operator that is missing here protects its inputs."""

from __future__ import annotations

from collections.abc import Callable

from ....lazy import ir
from ....model import ONNX_DOMAINS
from ..axes import Unclear
from ..trace import Trace
from . import attention, linear, movement, pointwise, ranges
from . import by_index as indexing
from .reshape import flatten, reshape

Rule = Callable[[Trace, "ir.Node"], None]

_SAME = [
    "Abs",
    "Acos",
    "Acosh",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "BitwiseNot",
    "Cast",
    "Ceil",
    "Celu",
    "Clip",
    "Cos",
    "Cosh",
    "Dropout",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "IsInf",
    "IsNaN",
    "LeakyRelu",
    "Log",
    "Mish",
    "Neg",
    "Not",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Swish",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
]
_ELEMENTWISE = [
    "Add",
    "And",
    "BitShift",
    "BitwiseAnd",
    "BitwiseOr",
    "BitwiseXor",
    "Div",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Max",
    "Mean",
    "Min",
    "Mod",
    "Mul",
    "Or",
    "Pow",
    "PRelu",
    "Sub",
    "Sum",
    "Where",
    "Xor",
]
_REDUCE = [
    "ArgMax",
    "ArgMin",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
]

RULES: dict[str, Rule] = {
    **dict.fromkeys(_SAME, pointwise.same),
    **dict.fromkeys(_ELEMENTWISE, pointwise.elementwise),
    **dict.fromkeys(_REDUCE, pointwise.reduce),
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool"), pointwise.pool),
    **dict.fromkeys(("GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"), pointwise.global_pool),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax", "CumSum", "TopK"), pointwise.along_axis),
    **dict.fromkeys(("BatchNormalization", "InstanceNormalization"), pointwise.per_channel),
    **dict.fromkeys(("LpNormalization", "MeanVarianceNormalization"), pointwise.normalization),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), pointwise.layer_normalization),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), pointwise.quantization),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), linear.recurrent),
    "MatMul": linear.matmul,
    **dict.fromkeys(("Loop", "Scan"), movement.loop),
    **dict.fromkeys(("Resize", "Upsample"), movement.resize),
    **dict.fromkeys(("GatherElements", "ScatterElements"), indexing.elements),
    **dict.fromkeys(("GridSample", "MaxRoiPool", "RoiAlign"), indexing.sampled),
    "Attention": attention.attention,
    "Concat": ranges.concat,
    "ConstantOfShape": movement.constant_of_shape,
    "Conv": linear.conv,
    "ConvTranspose": linear.conv_transpose,
    "DepthToSpace": pointwise.depth_to_space,
    "Einsum": linear.einsum,
    "Expand": movement.expand,
    "Flatten": flatten,
    "Gather": ranges.gather,
    "GatherND": indexing.gather_nd,
    "Gemm": linear.gemm,
    "GroupNormalization": pointwise.group_normalization,
    "If": movement.branches,
    "LRN": pointwise.local_response,
    "Pad": ranges.pad,
    "Reshape": reshape,
    "ScatterND": indexing.scatter_nd,
    "Shape": pointwise.shape,
    "Slice": ranges.slice_,
    "SpaceToDepth": pointwise.space_to_depth,
    "ReverseSequence": pointwise.reverse_sequence,
    "Split": ranges.split,
    "Squeeze": movement.squeeze,
    "Tile": movement.tile,
    "Transpose": movement.transpose,
    "Trilu": pointwise.trilu,
    "Unsqueeze": movement.unsqueeze,
}
MICROSOFT_RULES: dict[str, Rule] = {
    **dict.fromkeys(("FastGelu", "Gelu", "QuickGelu", "BiasGelu"), pointwise.elementwise),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), pointwise.quantization),
}
READS_SHAPES: dict[str, tuple[int, ...]] = {
    "Shape": (0,),
    "Reshape": (1,),
    "Expand": (1,),
    "ConstantOfShape": (0,),
    "Resize": (3,),
}
"""Inputs through which an operator takes a target shape that its rule follows element by element."""


def rule_for(node: ir.Node) -> Rule:
    table = RULES if node.domain in ONNX_DOMAINS else MICROSOFT_RULES if node.domain == "com.microsoft" else {}
    return table.get(node.op_type, _unknown)


def _unknown(trace: Trace, node: ir.Node) -> None:
    if not any(value is not None for value in node.inputs):
        return
    raise Unclear("there is no rule for this operator")
