"""onnxpress inspect: what a model is made of, what could be compressed, and which parts bear it least."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from . import options

if TYPE_CHECKING:
    from pathlib import Path

    from compress_ops.recipe import LoadedRecipe

Kind = Literal["prune", "quantize"]
Sensitivity = Annotated[
    Kind | None,
    typer.Option("--sensitivity", help="Cut each group, or quantize each layer, alone: how far do outputs move?"),
]
Ratio = Annotated[
    float | None,
    typer.Option("--ratio", metavar="R", parser=options.share, help="Share of each group that is cut. [0.5]"),
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Scan anew, and keep nothing of it for the next time.")]
Nodes = Annotated[bool, typer.Option("--nodes", help="List every node, so that patterns can be written.")]


def inspect(
    model: options.ModelPath,
    sensitivity: Sensitivity = None,
    data: options.Data = None,
    labels: options.Labels = None,
    ratio: Ratio = None,
    heads: options.Heads = False,
    bits: options.Bits = None,
    batch_size: options.BatchSize = None,
    *,
    machine: options.Machine,
    allow_code: options.AllowCode = False,
    no_cache: NoCache = False,
    nodes: Nodes = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Show what a model is made of and could save.

    Parameters, bytes, FLOPs, operators, precision. Nothing is written: each pass that shrinks a model without data is
    tried, with its defaults, on a copy in memory. With --sensitivity and --data, instead, parts of the model are
    changed one at a time, and the table says what each does to the outputs; results are kept in the user's cache.
    """
    from compress_ops.files.cache import cache_folder

    from .flags import data_section, made_up, recipe_from, sections_of
    from .show import Manner

    manner = Manner(as_json, None, quiet, verbose)
    changes = {"--ratio": ratio, "--heads": heads or None, "--bits": bits}
    if sensitivity is None:
        running = {"--data": data, "--labels": labels, "--provider": machine.provider, "--threads": machine.threads}
        _refuse(changes | running | {"--value": machine.value}, "belongs to a scan", _SCAN)
        _show_model(model, made_up(machine), manner, nodes=nodes)
        return
    foreign = {name: changes[name] for name in (["--bits"] if sensitivity == "prune" else ["--ratio", "--heads"])}
    _refuse(foreign, f"does not go with --sensitivity {sensitivity}", "leave out one of the two")
    passes = ["simplify", _step(sensitivity, ratio=0.5 if ratio is None else ratio, heads=heads, bits=bits)]
    # labels are named only so that they are not taken for an input
    read = data_section(options.Asked(data=_given(data), labels=labels, batch_size=batch_size))
    loaded = recipe_from("inspect", (), {**sections_of(machine, read), "passes": passes})
    _show_scan(model, loaded, manner, allow_code=allow_code, cache=None if no_cache else cache_folder())


_SCAN = "give --sensitivity prune or quantize with it"


def _refuse(flags: dict[str, Any], why: str, hint: str) -> None:
    from compress_ops.errors import UsageError

    given = [name for name, setting in flags.items() if setting not in (None, [])]
    if given:
        raise UsageError(f"{given[0]} {why}", hint=hint)


def _step(kind: Kind, *, ratio: float, heads: bool, bits: int | None) -> dict[str, Any]:
    """The step of a recipe whose parts are tried one at a time."""
    if kind == "prune":
        return {"prune_heads" if heads else "prune_channels": {"ratio": ratio}}
    return {"quantize_weights": {"bits": bits}} if bits is not None else {"quantize_static": {}}


def _given(data: str | None) -> str:
    from compress_ops.errors import UsageError

    if data is None:
        raise UsageError("a sensitivity scan needs data", hint="give --data DATA")
    return data


def _show_model(model: Path, free: dict[str, Any], manner: Any, *, nodes: bool) -> None:
    from compress_ops.measure.inspection import inspect_model
    from compress_ops.report.inspection_page import inspection_page
    from compress_ops.report.report import plain
    from compress_ops.search.prospects import prospects

    from .show import put_answer, put_page

    found = inspect_model(model, **free)
    tried = [] if manner.quiet else prospects(model)
    if manner.as_json:
        put_answer({**plain(found), "prospects": plain(tried)})
    else:
        put_page(inspection_page(found, tried, nodes=nodes, verbose=manner.verbose), quiet=manner.quiet)


def _show_scan(model: Path, loaded: LoadedRecipe, manner: Any, *, allow_code: bool, cache: Path | None) -> None:
    from compress_ops.pipeline import Job
    from compress_ops.pipeline.scan import scan
    from compress_ops.report.report import plain
    from compress_ops.report.sensitivity_page import sensitivity_page

    from .execute import watched
    from .show import end_undelivered, give

    job = Job(loaded, model, out=None, allow_code=allow_code)
    found = watched(lambda watched_job: scan(watched_job, cache), job, manner)
    page = sensitivity_page(found, verbose=manner.verbose)
    end_undelivered(give(page, lambda beside: plain(found), manner))
