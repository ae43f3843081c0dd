"""Give quantized layers their float weights back, and take away the codes that then serve nobody.

A layer in QDQ form keeps its node: weight and bias are read from the float model again. One that was rewritten
(MatMulInteger, MatMulNBits, QLinearConv) is written anew from its node in the float model. Pairs of QuantizeLinear and
DequantizeLinear beside it would then only lose: what no integer kernel reads is read as float, and so on from
operator to operator. What an integer kernel made has no float form, and stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ...graph.edit import Editor, constant_of, stand_in
from ...lazy import ir
from ...model import Model
from ...nodes import later
from ...passes import Change, selected
from ..int8.placement import ABSORBED, absorbed_output
from ..int8.qdq import dequantizer
from .counterparts import Counterpart, counterparts, float_layers, made_by

_OPERATORS = ("QLinearConv", "QLinearMatMul", "QGemm")
_REWRITTEN = ("DynamicQuantizeLinear", "MatMulNBits", "MatMul", "Gemm", "Conv")  # these read what the layer read
_BETWEEN = ("Add", "Mul", "Cast", "Reshape", "MatMulInteger", "ConvInteger")  # and these lead from them to its output
_PAIRED = ("Gemm", "MatMul")  # these have integer kernels that write floats
_CODES = "_quantized"  # what the codes of a value are called beside its own name


def quantized_layers(
    model: Model, original: Model, only: list[str], skip: list[str], change: Change
) -> list[Counterpart]:
    """The quantized layers, operators on codes first; those whose place in the model cannot be found are declined.

    What stands for the output of a layer that became an operator on codes are these codes.
    """
    coded = {node.outputs[0].name: node.outputs[0] for node in model.graph if node.op_type in _OPERATORS}
    operators = {
        exact: Counterpart(exact, coded[f"{absorbed_output(exact).name}{_CODES}"], None)
        for exact in float_layers(original)
        if f"{absorbed_output(exact).name}{_CODES}" in coded and selected(exact, only, skip)
    }
    told, names = Change(), {exact.name for exact in operators}
    pairs = [pair for pair in counterparts(model, original, only, skip, told) if pair.exact not in operators]
    change.declined += [declined for declined in told.declined if declined.name not in names]
    found = [*operators.values()]
    for pair in pairs:
        if pair.node is None and _input_of(pair.maker) is None:
            change.decline(pair.name, f"{pair.exact.op_type}: it is written in a form that is not known here")
        else:
            found.append(pair)
    return found


@dataclass
class Restorer:
    """Restores layers of one model; a float weight that several of them share is stored once."""

    model: Model
    weights: dict[str, ir.Value] = field(default_factory=dict)

    def restore(self, layers: Sequence[Counterpart]) -> None:
        """Make these layers of the model float again."""
        for layer in layers:
            if layer.node is not None:
                _settle(self._unwrapped(layer.exact, layer.node))
            elif layer.maker.op_type in _OPERATORS:
                _settle(self._from_operator(layer.exact, layer.maker))
            else:
                _settle(self._written(layer.exact, layer.maker))
        self.model.drop_unused()

    def _unwrapped(self, exact: ir.Node, node: ir.Node) -> ir.Node:
        """A node in QDQ form reads the float weight and bias."""
        node.resize_inputs(len(exact.inputs))
        for index, stored in self._stored(exact):
            node.replace_input_with(index, stored)
        return node

    def _written(self, exact: ir.Node, maker: ir.Node) -> ir.Node:
        """The float node in place of what makes its output now."""
        edit = Editor(self.model, maker)
        made = self._float_node(edit, exact, _input_of(maker))
        edit.replace(made)
        return made_by(made)

    def _from_operator(self, exact: ir.Node, operator: ir.Node) -> ir.Node:
        """DequantizeLinear, the float node with the Relu that the codes stood for, and QuantizeLinear."""
        edit = Editor(self.model, operator)
        made = self._float_node(edit, exact, edit.op("DequantizeLinear", *operator.inputs[:3]))
        absorbed = absorbed_output(exact)
        limiter = absorbed.producer() if absorbed is not exact.outputs[0] else None
        y = made if limiter is None else self._float_node(edit, limiter, made)
        at = 7 if operator.op_type == "QGemm" else 6  # scale and zero point of what it gives
        edit.replace(edit.op("QuantizeLinear", y, *operator.inputs[at : at + 2]))
        return made_by(made)

    def _float_node(self, edit: Editor, exact: ir.Node, x: ir.Value | None) -> ir.Value:
        attributes = {name: held.value for name, held in exact.attributes.items()}
        inputs = [x, *([None] * (len(exact.inputs) - 1))]
        for index, stored in self._stored(exact):
            inputs[index] = stored
        made = edit.op(exact.op_type, *inputs, domain=exact.domain, **attributes)
        made_by(made).name = exact.name
        return made

    def _stored(self, exact: ir.Node) -> Iterator[tuple[int, ir.Value]]:
        """The stored inputs of the float node, as weights of this model."""
        for index, value in enumerate(exact.inputs):
            tensor = constant_of(value)
            if value is not None and tensor is not None:
                name = value.name or ""
                if name not in self.weights:
                    here = self.model.graph.initializers.get(name)
                    shared = later(tensor.numpy, tensor.dtype, tensor.shape.numpy())  # the other keeps its name
                    self.weights[name] = here or self.model.add_weight(name, shared)
                yield index, self.weights[name]


def _input_of(node: ir.Node) -> ir.Value | None:
    """What a rewritten layer reads, found from the node that makes its output; None where the form is not known."""
    if node.op_type in _REWRITTEN:
        return node.inputs[0]
    makers = [value.producer() for value in node.inputs if value is not None] if node.op_type in _BETWEEN else []
    return next((found for made in makers if made is not None and (found := _input_of(made)) is not None), None)


def _settle(node: ir.Node) -> None:
    """Let a node that is float now read and give floats, and the operators that only it kept in integers likewise."""
    changed = [node]
    while changed:
        _read_floats(changed[0])
        changed += _give_floats(changed.pop(0))


def _read_floats(node: ir.Node) -> None:
    """Read past the codes of what no integer kernel made."""
    for index, value in enumerate(node.inputs):
        source = _quantized_from(value)
        if source is not None and not _is_made_by_kernel(source):
            node.replace_input_with(index, source)


def _give_floats(node: ir.Node) -> list[ir.Node]:
    """Let all that read codes of the node's output in vain read floats; these readers, which are float then."""
    output, freed = absorbed_output(node), []
    for quantizer in [user for user in output.consumers() if user.op_type == "QuantizeLinear"]:
        floats = [user.outputs[0] for user in quantizer.outputs[0].consumers() if user.op_type == "DequantizeLinear"]
        needed = any(_is_core(user) for value in floats for user in value.consumers())
        for value in floats:
            users = [(user, index) for user, index in value.uses() if not needed or not _is_integer(user)]
            for user, index in users:
                user.replace_input_with(index, output)
                freed += [user] if user.graph is node.graph else []
            if value.is_graph_output() and not value.uses():
                stand_in(output, value)
    return freed


def _quantized_from(value: ir.Value | None) -> ir.Value | None:
    """What a dequantized value was before it was quantized; None for other values, stored codes among them."""
    source = dequantizer(value)
    codes = source.inputs[0] if source is not None else None
    quantizer = codes.producer() if codes is not None else None
    return quantizer.inputs[0] if quantizer is not None and quantizer.op_type == "QuantizeLinear" else None


def _is_made_by_kernel(value: ir.Value) -> bool:
    """Whether an integer kernel writes the codes of a value, which has no float form then (not so of matrices)."""
    node = value.producer()
    if node is not None and node.op_type in ABSORBED and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node is not None and node.op_type not in _PAIRED and any(map(dequantizer, node.inputs))


def _is_integer(node: ir.Node) -> bool:
    """Whether a reader of dequantized values computes on their codes: it is quantized on both sides."""
    behind = {user.op_type for user in absorbed_output(node).consumers()}
    computed = [value for value in node.inputs if value is not None and constant_of(value) is None]
    return _is_core(node) or (behind == {"QuantizeLinear"} and all(map(dequantizer, computed)))


def _is_core(node: ir.Node) -> bool:
    """Whether a layer computes with stored codes."""
    return any(dequantizer(value) and _quantized_from(value) is None for value in node.inputs[1:2]) or (
        node.op_type in _PAIRED and all(map(dequantizer, node.inputs[:2]))
    )
