"""onnxpress inspect: what a model is made of, what could be compressed, and which parts bear it least."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from . import options

if TYPE_CHECKING:
    from pathlib import Path

    from compress_ops.recipe import LoadedRecipe

Kind = Literal["prune", "quantize"]


def inspect(
    model: options.ModelPath,
    sensitivity: Annotated[
        Kind | None,
        typer.Option("--sensitivity", help="Cut each group, or quantize each layer, alone: how far do outputs move?"),
    ] = None,
    data: options.Data = None,
    labels: options.Labels = None,
    ratio: Annotated[
        float | None,
        typer.Option("--ratio", metavar="R", parser=options.share, help="Share of each group that is cut. [0.5]"),
    ] = None,
    heads: Annotated[bool, typer.Option("--heads", help="Cut whole attention heads instead of channels.")] = False,
    bits: Annotated[
        int | None, typer.Option("--bits", metavar="N", help="Weights alone, in 2, 3, 4 or 8 bits, in blocks.")
    ] = None,
    batch_size: options.BatchSize = None,
    provider: options.Providers = None,
    threads: options.Threads = None,
    seed: options.Seed = None,
    dim: options.Dims = None,
    shape: options.Shapes = None,
    value: options.Values = None,
    allow_code: options.AllowCode = False,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Scan anew, and keep nothing of it for the next time.")
    ] = False,
    nodes: Annotated[bool, typer.Option("--nodes", help="List every node, so that patterns can be written.")] = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Show what a model is made of and could save.

    Parameters, bytes, FLOPs, operators, precision. Nothing is written: each pass that shrinks a model without data is
    tried, with its defaults, on a copy in memory. With --sensitivity and --data, instead, parts of the model are
    changed one at a time, and the table says what each does to the outputs; results are kept in the user's cache.
    """
    from .flags import made_up
    from .show import Manner

    manner = Manner(as_json, None, quiet, verbose)
    changes = {"--ratio": ratio, "--heads": heads or None, "--bits": bits}
    if sensitivity is None:
        running = {"--data": data, "--labels": labels, "--provider": provider, "--threads": threads, "--value": value}
        _refuse(changes | running, "belongs to a scan", "give --sensitivity prune or quantize with it")
        _show_model(model, made_up(dim, shape, None), manner, nodes=nodes)
        return
    foreign = {name: changes[name] for name in (["--bits"] if sensitivity == "prune" else ["--ratio", "--heads"])}
    _refuse(foreign, f"does not go with --sensitivity {sensitivity}", "leave out one of the two")
    step = _step(sensitivity, ratio=0.5 if ratio is None else ratio, heads=heads, bits=bits)
    sections = {
        "provider": provider,
        "threads": threads,
        "seed": seed,
        "measure": made_up(dim, shape, value),
    }
    loaded = _recipe(sections, data, labels, batch_size, step)
    _show_scan(model, loaded, manner, allow_code=allow_code, cache=None if no_cache else _cache_folder())


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


def _recipe(
    sections: dict[str, Any], data: str | None, labels: str | None, batch_size: int | None, step: dict[str, Any]
) -> LoadedRecipe:
    """The step as a recipe; labels are named only so that they are not taken for an input."""
    from compress_ops.errors import UsageError

    from .flags import data_section, recipe_from

    if data is None:
        raise UsageError("a sensitivity scan needs data", hint="give --data DATA")
    labelled = {"path": data if labels else None, "labels": labels, "metrics": None}
    written = {**sections, "data": data_section(data, batch_size, labelled)}
    return recipe_from("inspect", (), {**written, "passes": ["simplify", step]})


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


def _cache_folder() -> Path:
    """Where the user's programs keep what can be made again (XDG Base Directory Specification)."""
    import os
    from pathlib import Path

    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "onnxpress"
