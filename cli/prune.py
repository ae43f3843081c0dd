"""onnxpress prune: cut, and mend with what data tells, without writing a recipe."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from . import options


def prune(
    model: options.ModelPath,
    out: options.Out = None,
    ratio: Annotated[
        float,
        typer.Option(
            "--ratio", metavar="R", parser=options.share, help="Share of channels, heads, layers or weights that goes."
        ),
    ] = 0.5,
    heads: Annotated[bool, typer.Option("--heads", help="Cut whole attention heads instead of channels.")] = False,
    layers: Annotated[bool, typer.Option("--layers", help="Leave out whole residual blocks; needs --data.")] = False,
    weights: Annotated[
        bool, typer.Option("--weights", help="Make single weights zero instead, stored as bits: smaller, no faster.")
    ] = False,
    by: Annotated[
        str | None,
        typer.Option("--by", metavar="WHAT", help="What the ratio is of: channels, parameters, flops or latency."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", metavar="N", help="Cut gradually, in N steps, each followed by refit.")
    ] = None,
    data: options.Data = None,
    evaluation: options.Evaluation = None,
    labels: options.Labels = None,
    metric: options.Metrics = None,
    batch_size: options.BatchSize = None,
    provider: options.Providers = None,
    threads: options.Threads = None,
    seed: options.Seed = None,
    dim: options.Dims = None,
    shape: options.Shapes = None,
    value: options.Values = None,
    set_: options.Set = None,
    show_recipe: Annotated[
        bool, typer.Option("--show-recipe", help="Print the recipe that this stands for, and stop.")
    ] = False,
    drop_default_inputs: options.DropDefaults = False,
    keep_metadata: options.KeepMetadata = False,
    no_measure: options.NoMeasure = False,
    dry_run: options.DryRun = False,
    check_steps: options.CheckSteps = False,
    allow_code: options.AllowCode = False,
    allow_unproven: options.AllowUnproven = False,
    force: options.Force = False,
    report: options.Reports = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Make a model smaller and faster by cutting channels.

    With --data it is known what the layers behind get from a channel, and how much error each layer would bear: what
    matters least goes, of each layer as much as suits it, and as much is saved as with equal shares. The layers that
    remain are then solved anew on the data, without labels, to give what those of the original gave (refit): after
    large cuts accuracy needs that. Every option of the passes can be set, such as
    --set passes.1.prune_channels.scope=global; --show-recipe prints the recipe to edit.

    The result must keep 95 % of the metric, where --labels give one, and else stay close to the original (0.9, where 1
    is the same): where that is missed or not proven, the exit status is 1 (the output is written). --set
    budget.min_closeness=0.8, or budget.max_drop=10%, sets another limit.
    """
    from compress_ops.pipeline import Job
    from compress_ops.recipe import dump_recipe
    from compress_ops.search import raised_first, raising

    from .execute import execute, output
    from .flags import data_section, kept, limit_of_loss, made_up, recipe_from
    from .show import Manner
    from .streams import put

    sections = {
        "provider": provider,
        "threads": threads,
        "seed": seed,
        **kept(drop_default_inputs=drop_default_inputs, keep_metadata=keep_metadata),
        "data": data_section(data, batch_size, {"path": evaluation, "labels": labels, "metrics": metric}),
        "measure": made_up(dim, shape, value),
        "budget": limit_of_loss(labels or metric, measured=not (no_measure or dry_run)),
        "passes": _passes({"--heads": heads, "--layers": layers, "--weights": weights}, ratio, by, steps, data),
    }
    loaded = recipe_from("prune", set_ or (), sections)
    if show_recipe:
        passes = [*raising(model), *loaded.document.data["passes"]]
        put(dump_recipe({**loaded.document.data, "passes": passes}))
        return
    job = Job(
        loaded,
        model=model,
        out=output(out, model, "pruned", dry_run=dry_run),
        force=force,
        measure=not no_measure,
        check_steps=check_steps,
        allow_code=allow_code,
    )
    execute(raised_first(job), Manner(as_json, report, quiet, verbose, force), allow_unproven=allow_unproven)


_NAMES = {"--heads": "prune_heads", "--layers": "drop_layers", "--weights": "prune_weights"}
_REFIT = {
    "refit": {"allow_unchanged": True}
}  # of what is left there may be nothing to solve; the cut is good all the same


def _with_data(name: str, by: str | None, data: str | None) -> dict[str, Any]:
    """What data tells better than weights alone: which units matter, and how much of each group may go."""
    if data is None or name not in ("prune_channels", "prune_heads"):
        return {}
    shares = {"scope": "least_error"} if name == "prune_channels" and by != "latency" else {}
    return {"score": "activation_weight", **shares}


def _passes(ways: dict[str, bool], ratio: float, by: str | None, steps: int | None, data: str | None) -> list[Any]:
    from compress_ops.errors import UsageError

    from .flags import said

    chosen = [flag for flag, given in ways.items() if given]
    if len(chosen) > 1:
        raise UsageError(f"{' and '.join(chosen)} are two ways to prune", hint="give one, or write both into a recipe")
    if chosen and by is not None:
        raise UsageError(f"--by is about channels, not {chosen[0]}", hint="leave out one of the two")
    name = _NAMES[chosen[0]] if chosen else "prune_channels"
    cut = {name: {"ratio": ratio, **said({"by": by}), **_with_data(name, by, data)}}
    listed = [cut, *([_REFIT] if data is not None else [])]
    cuts = listed if steps is None else [{"gradually": {"steps": steps, "passes": listed}}]
    return ["simplify", *cuts, "pack_sparse" if name == "prune_weights" else "unfuse_norms"]
