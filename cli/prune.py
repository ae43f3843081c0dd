"""onnxpress prune: cut, and mend with what data tells, without writing a recipe."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from . import options

Ratio = Annotated[
    float,
    typer.Option(
        "--ratio", metavar="R", parser=options.share, help="Share of channels, heads, layers or weights that goes."
    ),
]
Layers = Annotated[bool, typer.Option("--layers", help="Leave out whole residual blocks; needs --data.")]
Weights = Annotated[
    bool, typer.Option("--weights", help="Make single weights zero instead, stored as bits: smaller, no faster.")
]
By = Annotated[
    str | None,
    typer.Option("--by", metavar="WHAT", help="What the ratio is of: channels, parameters, flops or latency."),
]
Steps = Annotated[
    int | None, typer.Option("--steps", metavar="N", help="Cut gradually, in N steps, each followed by refit.")
]


def prune(
    model: options.ModelPath,
    ratio: Ratio = 0.5,
    heads: options.Heads = False,
    layers: Layers = False,
    weights: Weights = False,
    by: By = None,
    steps: Steps = None,
    *,
    asked: options.Asked,
    show_recipe: options.ShowRecipe = False,
    doing: options.Doing,
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
    from compress_ops.recipe import dump_recipe
    from compress_ops.search import raised_first, raising

    from .execute import execute
    from .flags import data_section, job_of, limit_of_loss, recipe_from, sections_of
    from .streams import put

    sections = {
        **sections_of(asked, data_section(asked), doing),
        "budget": limit_of_loss(asked.labels or asked.metric, measured=doing.proves),
        "passes": _passes({"--heads": heads, "--layers": layers, "--weights": weights}, ratio, by, steps, asked.data),
    }
    loaded = recipe_from("prune", asked.set_, sections)
    if show_recipe:
        passes = [*raising(model), *loaded.document.data["passes"]]
        put(dump_recipe({**loaded.document.data, "passes": passes}))
        return
    job = job_of(loaded, model, "pruned", asked, doing)
    execute(raised_first(job), doing)


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
