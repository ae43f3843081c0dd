"""onnxpress quantize: the recipe that most people need, without writing one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compress_ops.pipeline import Job

_TOLD = 0.9  # closeness that --bits, --float16 and --clusters are held to: who asks for few bits takes some loss


Float16 = Annotated[bool, typer.Option("--float16", help="Compute and store in float16 instead of int8.")]
Clusters = Annotated[
    int | None, typer.Option("--clusters", metavar="N", help="Weights alone, as a codebook of N values.")
]
MinCosine = Annotated[
    float | None,
    typer.Option("--min-cosine", min=0, max=1, help="How close to the float model's outputs to stay. [0.995]"),
]
ShowChoice = Annotated[bool, typer.Option("--show-recipe", help="Print the recipe that would be chosen, and stop.")]


def quantize(
    model: options.ModelPath,
    *,
    asked: options.Asked,
    bits: options.Bits = None,
    float16: Float16 = False,
    clusters: Clusters = None,
    min_cosine: MinCosine = None,
    recipe_out: options.RecipeOut = None,
    show_recipe: ShowChoice = False,
    doing: options.Doing,
) -> None:
    """Make a model int8, by the recipe that suits it best.

    Candidates are tried on the model: with --data static and dynamic quantization, smoothing, clipped outliers, and
    single layers left in float; without it dynamic quantization; always 8-bit weights computed in float. Of those whose
    outputs stay close to the float model's (--min-cosine, judged on the data) the one that gains most in speed and size
    is taken, and proven. --recipe-out keeps it as a recipe. With --provider other than cpu it is what that one computes
    fast: float16 for cuda, symmetric int8 for tensorrt; stderr says why.

    The result must not be slower than noise makes it (0.98x): where that is missed or not proven, the exit status is 1
    (the output is written). --bits, --float16 and --clusters do what they say instead, and promise no speed.
    """
    from functools import partial

    from compress_ops.search import CLOSE_ENOUGH, run_chosen

    from .chosen import keeping, others, refuse_passes
    from .execute import carry_out, execute
    from .flags import data_section, job_of, recipe_from, sections_of

    refuse_passes("quantize", asked.set_, "write the recipe with --show-recipe, edit it, and run that")
    sections = sections_of(asked, data_section(asked), doing)
    told = _told(bits, float16, clusters)
    _say_what_is_taken(sections, told, asked, quiet=doing.quiet)
    budget = {"min_closeness": min_cosine or _TOLD} if told and doing.proves else {}
    loaded = recipe_from("quantize", asked.set_, {**sections, "passes": ["simplify", *told], "budget": budget})
    job = job_of(loaded, model, _suffix(bits, float16, clusters), asked, doing, others=others(recipe_out))
    least = None if told else min_cosine or CLOSE_ENOUGH
    if show_recipe:
        _show_recipe(sections, job, doing, least)
    elif doing.dry_run:
        execute(_planned(job, doing, least), doing)
    else:
        carry_out(partial(run_chosen, least=least), job, doing, keeping(recipe_out, sections, doing))


def _show_recipe(sections: dict[str, Any], job: Job, doing: options.Doing, least: float | None) -> None:
    from dataclasses import replace

    from .chosen import recipe_text
    from .streams import put

    put(recipe_text(sections, _planned(replace(job, out=None), doing, least).recipe.passes))


def _planned(job: Job, doing: options.Doing, least: float | None) -> Job:
    """The job with the passes that trials find best, or as it was told where ``least`` is None."""
    from functools import partial

    from compress_ops.pipeline import with_passes
    from compress_ops.search import choose_int8, raised_first

    from .execute import watched

    if least is None:
        return raised_first(job)
    best, _ = watched(partial(choose_int8, least=least), job, doing.manner)
    return with_passes(job, best.passes)


def _say_what_is_taken(sections: dict[str, Any], told: Sequence[Any], asked: options.Asked, *, quiet: bool) -> None:
    """On stderr: the choice that a provider makes, and accuracy that is judged on what the ranges were fixed with."""
    from compress_ops.runtime import short_name
    from compress_ops.search import reason_of

    from .chosen import fairer_judge
    from .faults import say

    first = short_name(sections["provider"][0]) if sections["provider"] else "cpu"
    choice = "" if told else reason_of(first, with_data=asked.data is not None)
    for note in filter(None, () if quiet else (choice, fairer_judge(sections["data"], asked))):
        say(note)


def _told(bits: int | None, float16: bool, clusters: int | None) -> list[Any]:
    """The pass that the flags ask for; none leaves the choice to trials."""
    from compress_ops.errors import UsageError

    asked = [
        {"quantize_weights": {"bits": bits}} if bits is not None else None,
        "to_float16" if float16 else None,
        {"cluster_weights": {"clusters": clusters}} if clusters is not None else None,
    ]
    passes = [step for step in asked if step is not None]
    if len(passes) > 1:
        raise UsageError(
            "--bits, --float16 and --clusters are different ways", hint="give one of them, or write a recipe"
        )
    return passes


def _suffix(bits: int | None, float16: bool, clusters: int | None) -> str:
    """What a result is called that no name is given for: ``MODEL-int8.onnx``."""
    return "float16" if float16 else f"{clusters}-values" if clusters is not None else f"int{bits or 8}"
