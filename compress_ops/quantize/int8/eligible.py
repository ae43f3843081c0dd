"""Whether an operator's weight can be stored as integers; the reasons are what the report lists."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ...files.stored_half import stored_bytes
from ...graph.layers import reasons as facts
from ...graph.layers.weights import ON_CODES, RECURRENT, Site, sites_of, weight_indices
from ...lazy import ir
from ...model import Model
from ...nodes import attribute, constant_of
from ...passes import Change, selected

_SAVED = 600  # bytes that the extra nodes of one quantized operator take in the file, at most


def decline_quantized(model: Model, operators: Iterable[str], only: list[str], skip: list[str], change: Change) -> None:
    """Tell which nodes that were of such types are quantized already; what is float goes on without them."""
    wanted = set(operators)
    for node in model.nodes():
        if ON_CODES.get(node.op_type, set()) & wanted and selected(node, only, skip):
            change.decline(node.name, f"{node.op_type}: it is quantized already")


def reasons(nodes: Iterable[ir.Node]) -> dict[ir.Node, str]:
    """For each node why it stays as it is, empty where it can be quantized.

    A weight that something else reads as float would have to be stored twice, which is no gain.
    """
    found = {node: why_not(node) for node in nodes}
    able = {node for node, reason in found.items() if not reason}
    return {node: reason or _stays_float(node, able) for node, reason in found.items()}


def _stays_float(node: ir.Node, able: set[ir.Node]) -> str:
    for weight in (each.value for each in sites_of(node) if each.value is not None):
        others = [user.name for user, index in weight.uses() if user not in able or index not in weight_indices(user)]
        if others or weight.is_graph_output():
            return f"{node.op_type}: its weight stays float for {others[0] if others else 'an output of the model'}"
    return ""


def why_not(node: ir.Node) -> str:
    """Why the node's weights cannot become int8 or would not gain from it; empty when they can."""
    sites = sites_of(node)
    each = (facts.why_not(site, (facts.stored, facts.of_type("float32"), _gains)) for site in sites)
    reason = next(filter(None, each), "") or facts.why_not(sites[0], (facts.fed, _special, _finite))
    return f"{node.op_type}: {reason}" if reason else ""


def why_not_left(node: ir.Node) -> str:
    """The same for a MatMul whose stored matrix is the left operand, once it stands on the right (``left.py``)."""
    site, right = Site(node, 0, node.inputs[0]), node.inputs[1]
    shape = right.shape if right is not None else None
    reason = facts.no_vector(site)
    if not reason and shape is None:
        reason = "its weight stands on the left of what has an unknown number of dimensions"
    elif not reason and shape is not None and len(shape) < 2:
        reason = "what it multiplies is a vector"
    reason = reason or facts.why_not(site, (facts.of_type("float32"), _gains, facts.finite))
    return f"MatMul: {reason}" if reason else ""


def _gains(site: Site) -> str:
    assert site.value is not None and site.tensor is not None
    present = stored_bytes(site.value)
    return f"its weight of {present} bytes is too small to gain" if present - site.tensor.size < _SAVED else ""


def _finite(site: Site) -> str:
    node = site.node
    held = [constant_of(value) for value in (*(each.value for each in sites_of(node)), *node.inputs[2:4])]
    fits = all(facts.is_finite(tensor.numpy()) for tensor in held if tensor is not None)
    return "" if fits else "its weight or bias has NaN or infinite values"


def _special(site: Site) -> str:
    return _SPECIAL[site.node.op_type](site) if site.node.op_type in _SPECIAL else ""


def _gemm(site: Site) -> str:
    bias = site.node.inputs[2] if len(site.node.inputs) > 2 else None
    odd = bias is not None and (bias.shape is None or len(bias.shape) > 1)
    return facts.plain(site) or ("its bias is no vector" if odd else "")


def _gather(site: Site) -> str:
    rows = attribute(site.node, "axis", 0) == 0 and not facts.of_axes(2)(site)
    return "" if rows else "not a table of rows"


def _recurrent(site: Site) -> str:
    return "layout 1 is not run by onnxruntime" if attribute(site.node, "layout", 0) else ""


_SPECIAL: dict[str, Callable[[Site], str]] = {
    "MatMul": facts.no_vector,
    "Gemm": _gemm,
    "Gather": _gather,
    **dict.fromkeys(RECURRENT, _recurrent),
}
