"""Where Q/DQ pairs go, so that onnxruntime's CPU kernels really run in integers: the policy, operator by operator.

- **Core**: Conv, Gemm, MatMul with a stored weight carry the work. A Conv has an integer kernel only where its output
  is quantized too; Gemm and MatMul write float32 themselves.
- **Glue** between core operators stays in integers where all that it reads is quantized and something core reads on.
  Arithmetic (Add, Mul, Concat, average pools) has ranges of its own; moving (MaxPool, reshapes) keeps its input's.
  The residual Add of a transformer reads what Gemm, MatMul or a normalization wrote in float32, so it stays float32.
- **Absorbed**: Relu and Clip after such an operator; only what they give is quantized.
- **Sensitive**: Softmax, Sigmoid and LeakyRelu have integer kernels, but 256 levels of a probability or gate, evenly
  spaced, lose its small values. What they give is quantized only where a core operator reads it, unless ``only``
  names the operator type: ``only: ["*", Sigmoid]``.
- **Float**: LayerNormalization, Gelu, Erf and all others have no integer kernel on the CPU.

First and last layers are core like others: with one scale per channel they lose no more than those between. Where
they do (the report's worst tensors, ``onnxpress quantize``'s trials), ``skip`` names them. Both patterns apply to core,
glue and sensitive operators alike.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from ...graph.edit import constant_of
from ...lazy import ir
from ...model import ONNX_DOMAINS, Model

CORE = ("Conv", "Gemm", "MatMul")
CODED_OUTPUTS = ("Conv",)
ARITHMETIC = frozenset({"Add", "Mul", "Concat", "AveragePool", "GlobalAveragePool"})
MOVING = frozenset({"MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze"})
ABSORBED = frozenset({"Relu", "Clip"})
SENSITIVE = frozenset({"Softmax", "Sigmoid", "LeakyRelu"})
_GLUE = ARITHMETIC | MOVING | SENSITIVE


@dataclass
class Placement:
    """``core``: nodes to quantize. ``calibrated``: values with a range of their own. ``inherited``: values that take
    the range of another. ``settled``: values all of whose readers read codes, since an integer kernel makes them.
    """

    core: list[ir.Node] = field(default_factory=list)
    glue: list[ir.Node] = field(default_factory=list)
    calibrated: list[ir.Value] = field(default_factory=list)
    inherited: dict[ir.Value, ir.Value] = field(default_factory=dict)
    settled: set[ir.Value] = field(default_factory=set)

    @property
    def quantized(self) -> set[ir.Value]:
        return {*self.calibrated, *self.inherited}

    def calibrate(self, value: ir.Value) -> None:
        if value not in self.quantized:
            self.calibrated.append(value)


def place(
    model: Model,
    core: list[ir.Node],
    glue_allowed: Callable[[ir.Node], bool],
    coded_outputs: Collection[str] = CODED_OUTPUTS,
) -> Placement:
    """Decide which values of the main graph are quantized, given the core nodes.

    The outputs of core nodes of the types ``coded_outputs`` are quantized too.
    """
    placement = Placement(core)
    wanted = set(core)
    for node in model.graph:
        if node in wanted:
            _place_core(placement, node, coded_outputs)
        elif _is_glue(node) and glue_allowed(node) and _leads_to_core(node, wanted):
            _place_glue(placement, node)
    return placement


def _place_core(placement: Placement, node: ir.Node, coded_outputs: Collection[str]) -> None:
    assert node.inputs[0] is not None
    placement.calibrate(node.inputs[0])
    if node.op_type in coded_outputs:
        output = absorbed_output(node)
        placement.calibrate(output)
        placement.settled.add(output)


def _place_glue(placement: Placement, node: ir.Node) -> None:
    data = _data_inputs(node)
    if not all(value in placement.quantized for value in data):
        return
    placement.glue.append(node)
    if node.op_type in MOVING:
        output = node.outputs[0]
        placement.inherited[output] = placement.inherited.get(data[0], data[0])
    else:
        output = absorbed_output(node)
        placement.calibrate(output)
    placement.settled.add(output)


def absorbed_output(node: ir.Node) -> ir.Value:
    """The node's output, or that of the Relu or Clip which is the only one to read it."""
    output = node.outputs[0]
    users = list(output.consumers())
    alone = len(users) == 1 and users[0].graph is node.graph and not output.is_graph_output()
    return users[0].outputs[0] if alone and users[0].op_type in ABSORBED else output


def _is_glue(node: ir.Node) -> bool:
    return (
        node.domain in ONNX_DOMAINS
        and node.op_type in _GLUE
        and all(constant_of(value) is None for value in _data_inputs(node))
    )


def _data_inputs(node: ir.Node) -> list[ir.Value]:
    """What an operator computes with; the others of its inputs are shapes and axes."""
    several = node.op_type in ("Add", "Mul", "Concat")
    return [value for value in (node.inputs if several else node.inputs[:1]) if value is not None]


def _leads_to_core(node: ir.Node, core: set[ir.Node], depth: int = 16) -> bool:
    """Whether a core node reads the output, directly or through glue and absorbed operators."""
    for user, index in node.outputs[0].uses():
        if user in core:
            if index == 0:
                return True
        elif depth and user.op_type in ABSORBED | _GLUE and _leads_to_core(user, core, depth - 1):
            return True
    return False
