"""Whether an operator's weight can be stored as integers; the reasons are what the report lists."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from ...files.stored_half import stored_bytes
from ...graph.layers import reasons as facts
from ...graph.layers.reasons import INSIDE
from ...graph.layers.weights import ON_CODES, RECURRENT, Site, sites_of, weight_indices
from ...lazy import ir
from ...model import Model
from ...nodes import ONNX_DOMAINS, attribute, constant_of
from ...passes import Change, selected

_SAVED = 600  # bytes that the extra nodes of one quantized operator take in the file, at most


def chosen(model: Model, operators: Iterable[str], only: list[str], skip: list[str]) -> list[ir.Node]:
    """The selected nodes of such operators of ONNX's own, those in branches too."""
    wanted = {*operators}
    nodes = (node for node in model.nodes() if node.op_type in wanted and node.domain in ONNX_DOMAINS)
    return [node for node in nodes if selected(node, only, skip)]


def decline_quantized(model: Model, operators: Iterable[str], only: list[str], skip: list[str], change: Change) -> None:
    """Tell which nodes that were of such types are quantized already; what is float goes on without them."""
    wanted = set(operators)
    for node in model.nodes():
        if ON_CODES.get(node.op_type, set()) & wanted and selected(node, only, skip):
            change.decline(node.name, f"{node.op_type}: it is quantized already")


def able(model: Model, nodes: Collection[ir.Node], change: Change) -> list[ir.Node]:
    """Those of the main graph that can be quantized; the others are declined."""
    inside = {node: INSIDE for node in nodes if node.graph is not model.graph}
    found = {**reasons(node for node in nodes if node not in inside), **inside}
    for node, reason in found.items():
        if reason:
            change.decline(node.name, reason)
    return [node for node, reason in found.items() if not reason]


def reasons(nodes: Iterable[ir.Node]) -> dict[ir.Node, str]:
    """For each node why it stays as it is, empty where it can be quantized.

    A weight that something else reads as float would have to be stored twice, which is no gain.
    """
    found = {node: why_not(node) for node in nodes}
    able = {node for node, reason in found.items() if not reason}
    return {node: reason or _stays_float(node, able) for node, reason in found.items()}


def _stays_float(node: ir.Node, able: set[ir.Node]) -> str:
    def becomes_integer(user: ir.Node, index: int) -> bool:
        return user in able and index in weight_indices(user)

    weights = (site.value for site in sites_of(node) if site.value is not None)
    reader = next(filter(None, (float_reader(weight, becomes_integer) for weight in weights)), "")
    return f"{node.op_type}: its weight stays float for {reader}" if reader else ""


def float_reader(weight: ir.Value, becomes_integer: Callable[[ir.Node, int], bool]) -> str:
    """Who needs a weight as it is, so that it would have to be stored twice; empty where nobody does."""
    others = [str(user.name) for user, index in weight.uses() if not becomes_integer(user, index)]
    return others[0] if others else "an output of the model" if weight.is_graph_output() else ""


def why_not(node: ir.Node) -> str:
    """Why the node's weights cannot become int8 or would not gain from it; empty when they can."""
    sites = sites_of(node)
    each = (facts.why_not(site, (facts.stored, facts.of_type("float32"), _gains)) for site in sites)
    further = (facts.fed, *_SPECIAL.get(node.op_type, ()), _finite)
    reason = next(filter(None, each), "") or facts.why_not(sites[0], further)
    return f"{node.op_type}: {reason}" if reason else ""


def why_not_left(node: ir.Node) -> str:
    """The same for a MatMul whose stored matrix is the left operand, once it stands on the right (``left.py``)."""
    minded = (facts.no_vector, _right, facts.of_type("float32"), _gains, facts.finite)
    reason = facts.why_not(Site(node, 0, node.inputs[0]), minded)
    return f"MatMul: {reason}" if reason else ""


def _right(site: Site) -> str:
    right = site.node.inputs[1]
    if right is None or right.shape is None:
        return "its weight stands on the left of what has an unknown number of dimensions"
    return "what it multiplies is a vector" if len(right.shape) < 2 else ""


def _gains(site: Site) -> str:
    assert site.value is not None and site.tensor is not None
    present = stored_bytes(site.value)
    return f"its weight of {present} bytes is too small to gain" if present - site.tensor.size < _SAVED else ""


def _finite(site: Site) -> str:
    node = site.node
    held = [constant_of(value) for value in (*(each.value for each in sites_of(node)), *node.inputs[2:4])]
    fits = all(facts.is_finite(tensor.numpy()) for tensor in held if tensor is not None)
    return "" if fits else "its weight or bias has NaN or infinite values"


def _vector_bias(site: Site) -> str:
    bias = site.node.inputs[2] if len(site.node.inputs) > 2 else None
    odd = bias is not None and (bias.shape is None or len(bias.shape) > 1)
    return "its bias is no vector" if odd else ""


def _table(site: Site) -> str:
    rows = attribute(site.node, "axis", 0) == 0 and not facts.of_axes(2)(site)
    return "" if rows else "not a table of rows"


def _sequence_first(site: Site) -> str:
    return "layout 1 is not run by onnxruntime" if attribute(site.node, "layout", 0) else ""


_SPECIAL: dict[str, tuple[facts.Fact, ...]] = {
    "MatMul": (facts.no_vector,),
    "Gemm": (facts.plain, _vector_bias),
    "Gather": (_table,),
    **dict.fromkeys(RECURRENT, (_sequence_first,)),
}
