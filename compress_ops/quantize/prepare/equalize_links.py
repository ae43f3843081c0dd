"""Where one layer alone feeds another through functions with f(s x) = s f(x), so that channels can be scaled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from ...graph.edit import attribute, constant_of
from ...graph.layers import reasons
from ...graph.layers.scaling import output_channels
from ...graph.layers.view import view_of_weight
from ...graph.layers.weights import LINEAR, PRODUCTS, Site, is_dequantized
from ...lazy import ir
from ...model import ONNX_DOMAINS, Model

ELEMENTWISE = ("Relu", "LeakyRelu", "PRelu", "Identity")
POOLS = ("MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool")


@dataclass(frozen=True)
class Link:
    """Two layers, and what is added between (nodes with the index of their constant).

    Each of the ``channels`` that the first gives is ``repeats`` inputs of the second (more than one after Flatten).
    """

    first: ir.Node
    second: ir.Node
    channels: int
    repeats: int
    additions: list[tuple[ir.Node, int]] = field(default_factory=list)


@dataclass
class _Walk:
    """How far one has come behind a layer. ``columns``: channels are on the last axis, else on axis 1."""

    first: ir.Node
    columns: bool
    flattened: bool = False
    additions: list[tuple[ir.Node, int]] = field(default_factory=list)


def find_links(
    model: Model, wanted: Callable[[ir.Node], bool], decline: Callable[[str | None, str], None]
) -> Iterator[Link]:
    """All links between wanted layers; layers after which there is none are declined with the reason."""
    for node in model.nodes():
        if not _is_layer(node) or not wanted(node):
            continue
        found = _problem(node) or _follow(_Walk(node, columns=node.op_type in PRODUCTS), wanted)
        if isinstance(found, Link):
            yield found
        else:
            decline(node.name, f"{node.op_type}: {found}")


def _is_layer(node: ir.Node) -> bool:
    """Whether a node is of the operators that have weights; a MatMul of two activations is none."""
    if node.op_type not in LINEAR or node.domain not in ONNX_DOMAINS:
        return False
    value = node.inputs[1]
    return node.op_type != "MatMul" or value is None or value.producer() is None or is_dequantized(value)


def _problem(node: ir.Node) -> str:
    """Why the numbers of a layer cannot be scaled; empty where they can."""
    site = Site(node, 1, node.inputs[1])
    if is_dequantized(site.value):
        return "its weight is quantized already; equalize in front of the step that quantizes"
    return reasons.why_not(site, _FACTS) or _bias_problem(node)


def _not_empty(site: Site) -> str:
    return "its weight is empty" if site.tensor is not None and site.tensor.size == 0 else ""


_FACTS = (
    reasons.stored,
    reasons.of_type("float32"),
    _not_empty,
    reasons.alone,
    reasons.matrix,
    reasons.untransposed,
)


def _bias_problem(node: ir.Node) -> str:
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    tensor = constant_of(bias)
    if bias is not None and tensor is None:
        return "its bias is computed, not stored"
    columns = tensor.shape.numpy()[-1:] if tensor is not None else ()
    return "" if columns in ((), (1,), (output_channels(node),)) else "its bias does not fit its outputs"


def _follow(walk: _Walk, wanted: Callable[[ir.Node], bool]) -> Link | str:
    node = walk.first
    while True:
        output = node.outputs[0]
        uses = list(output.uses())
        if output.is_graph_output():
            return "its output is an output of the graph"
        if len(uses) != 1:
            return f"{len(uses)} nodes read its output; only one may"
        node, index = uses[0]
        if node.graph is not walk.first.graph or node.domain not in ONNX_DOMAINS:
            return f"{node.op_type} reads its output in a branch or by rules of its own"
        if node.op_type in LINEAR and index == 0:
            return _link(walk, node, wanted)
        problem = _pass_through(walk, node, index)
        if problem:
            return problem


def _pass_through(walk: _Walk, node: ir.Node, index: int) -> str:
    """Go on behind a node that keeps factors of channels; else why it does not."""
    if node.op_type in ELEMENTWISE and index == 0:
        return ""
    if node.op_type in POOLS and not walk.columns:
        return ""
    if node.op_type == "Clip":
        return "" if _is_relu(node) else "Clip follows, and its bounds do not scale with a channel"
    if node.op_type == "Flatten" and not walk.columns and attribute(node, "axis", 1) == 1:
        walk.columns = walk.flattened = True
        return ""
    if node.op_type == "Add" and walk.columns and _is_bias(walk, node, 1 - index):
        walk.additions.append((node, 1 - index))
        return ""
    return f"{node.op_type} follows, through which channels cannot be scaled"


def _is_relu(clip: ir.Node) -> bool:
    """Clip from zero without an upper bound."""
    low, high = ([*clip.inputs, None, None])[1:3]
    tensor = constant_of(low)
    return high is None and not clip.attributes and tensor is not None and not tensor.numpy().any()


def _is_bias(walk: _Walk, node: ir.Node, index: int) -> bool:
    """A stored vector that is added to the columns of a layer directly behind it."""
    tensor = constant_of(node.inputs[index])
    fits = tensor is not None and tuple(tensor.shape.numpy()) == (output_channels(walk.first),)
    return fits and not walk.flattened


def _link(walk: _Walk, second: ir.Node, wanted: Callable[[ir.Node], bool]) -> Link | str:
    name = f"{second.op_type} {second.name}, which follows"
    if not wanted(second):
        return f"{name}, is not selected"
    problem = _problem(second)
    if problem:
        return f"{name}: {problem}"
    groups, _, inputs, _ = view_of_weight(second).shape
    channels, inputs = output_channels(walk.first), groups * inputs
    if (second.op_type in PRODUCTS) != walk.columns or inputs % channels:
        return f"{name}, reads other axes than channels"
    return Link(walk.first, second, channels, inputs // channels, walk.additions)
