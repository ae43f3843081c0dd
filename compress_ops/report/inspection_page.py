"""An inspection as tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..measure.inspection import Inspection
from . import units
from .page import Page, Table
from .report import StepReport
from .tables import declined_tables, reasons

_COMMONEST = 2


def inspection_page(
    found: Inspection, prospects: Sequence[StepReport | str], *, nodes: bool = False, verbose: bool = False
) -> Page:
    """What the model is, then what each shrinking pass would do to it; ``nodes`` lists every node."""
    reports = [prospect for prospect in prospects if not isinstance(prospect, str)]
    return Page(
        title=found.path.name,
        headline=_headline(found),
        tables=[
            _model_table(found),
            _operators_table(found),
            _precision_table(found),
            _readers_table(found),
            _prospects_table(prospects),
            *(declined_tables(reports, verbose=True) if verbose else []),
            *([_nodes_table(found)] if nodes else []),
        ],
    )


def _headline(found: Inspection) -> str:
    size = f"{units.count(found.parameters)} parameters, {units.size(found.size.counted)}"
    return f"{found.path.name}: {size}, {_flops(found)}, {units.things(len(found.nodes), 'node')}."


def _flops(found: Inspection) -> str:
    if found.uncounted and not found.flops:
        return "FLOPs not known"
    return f"{'at least ' if found.uncounted else ''}{units.large(found.flops)}FLOP per inference"


def _model_table(found: Inspection) -> Table:
    size = found.size
    facts = [
        *(("input", port) for port in found.inputs),
        *(("output", port) for port in found.outputs),
        ("size", f"{units.size(size.file)}, weights {units.size(size.weights)}, with zstd {units.size(size.zstd)}"),
        *(("weights in", str(file)) for file in found.files[1:]),
        ("opset", ", ".join(f"{domain} {version}" for domain, version in found.opsets.items())),
        ("producer", found.producer or "not named"),
    ]
    return Table("Model", ["", ""], facts, list(_flops_notes(found)))


def _flops_notes(found: Inspection) -> Iterator[str]:
    shapes = {name: "x".join(map(str, shape)) for name, shape in found.shapes.items()}
    sizes = ", ".join(f"{name} = {size}" for name, size in {**found.assumed, **shapes}.items())
    at = f" at {sizes}" if sizes else ""
    yield f"FLOPs: 2 x multiply-accumulates of Conv, ConvTranspose, Gemm and MatMul{at}."
    if found.uncounted:
        flags = [f"--dim {name}=N" for name in found.free] + [f"--shape {n}={s}" for n, s in found.unsized.items()]
        told = " ".join(flags) or "no size of an input would tell"
        yield f"Shapes of {units.count(found.uncounted)} such nodes are not known: {told}"


def _operators_table(found: Inspection) -> Table:
    flops: dict[str, int] = {}
    for node in found.nodes:
        flops[node.operator] = flops.get(node.operator, 0) + (node.flops or 0)
    rows = [
        [name, units.count(count), units.of_whole(flops[name], found.flops) if flops[name] else units.UNKNOWN]
        for name, count in found.operators.items()
    ]
    return Table("Operators", ["Operator", "Nodes", "Share of FLOPs"], rows)


def _precision_table(found: Inspection) -> Table:
    total = sum(facts.bytes for facts in found.precision.values())
    rows = [
        [
            name,
            units.count(facts.tensors),
            units.count(facts.parameters),
            units.size(facts.bytes),
            units.of_whole(facts.bytes, total),
        ]
        for name, facts in found.precision.items()
    ]
    return Table("Precision of the weights", ["Type", "Tensors", "Parameters", "Bytes", "Share"], rows)


def _readers_table(found: Inspection) -> Table:
    total = sum(found.readers.values())
    large = {name: count for name, count in found.readers.items() if count >= total / 1000}
    others, rest = len(found.readers) - len(large), total - sum(large.values())
    shown = {**large, f"{others} others": rest} if others else large
    rows = [[name, units.size(count), units.of_whole(count, total)] for name, count in shown.items()]
    return Table("Weights by the operator that reads them", ["Operator", "Bytes", "Share"], rows)


def _prospects_table(prospects: Sequence[StepReport | str]) -> Table:
    rows = [_prospect_row(prospect) for prospect in prospects if not isinstance(prospect, str)]
    columns = ["Pass", "Touches", "Declines", "After", "Share", "Why it declines"]
    notes = [prospect for prospect in prospects if isinstance(prospect, str)]
    return Table("What could be compressed, with each pass's defaults", columns, rows, notes)


def _prospect_row(step: StepReport) -> list[str]:
    common = [f"{reason} ({units.count(times)}x)" for reason, times in reasons(step)[:_COMMONEST]]
    return [
        step.name,
        units.count(len(step.touched)),
        units.count(len(step.declined)),
        units.size(step.bytes_after),
        units.of_whole(step.bytes_after, step.bytes_before),
        "; ".join(common),
    ]


def _nodes_table(found: Inspection) -> Table:
    rows = [
        [
            node.name,
            node.operator,
            units.size(node.weight_bytes),
            "?" if node.flops is None else units.large(node.flops).strip(),
        ]
        for node in found.nodes
    ]
    return Table("Nodes", ["Name", "Operator", "Weights", "FLOPs"], rows)
