"""onnxpress quantize: the recipe that most people need, without writing one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compress_ops.pipeline import Job
    from compress_ops.recipe import Step
    from compress_ops.report.report import Report

    from .show import Manner


_TOLD = 0.9  # closeness that --bits, --float16 and --clusters are held to: who asks for few bits takes some loss


def quantize(
    model: options.ModelPath,
    out: options.Out = None,
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
    bits: Annotated[
        int | None, typer.Option("--bits", metavar="N", help="Weights alone, in 2, 3, 4 or 8 bits, in blocks.")
    ] = None,
    float16: Annotated[bool, typer.Option("--float16", help="Compute and store in float16 instead of int8.")] = False,
    clusters: Annotated[
        int | None, typer.Option("--clusters", metavar="N", help="Weights alone, as a codebook of N values.")
    ] = None,
    min_cosine: Annotated[
        float | None,
        typer.Option("--min-cosine", min=0, max=1, help="How close to the float model's outputs to stay. [0.995]"),
    ] = None,
    recipe_out: Annotated[
        Path | None, typer.Option("--recipe-out", metavar="FILE", help="Write the recipe that was chosen.")
    ] = None,
    show_recipe: Annotated[
        bool, typer.Option("--show-recipe", help="Print the recipe that would be chosen, and stop.")
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

    from compress_ops.files.writing import Output
    from compress_ops.pipeline import Job, run
    from compress_ops.search import CLOSE_ENOUGH, raised_first, run_chosen

    from .execute import carry_out, execute, output
    from .flags import data_section, kept, made_up, recipe_from
    from .show import Manner
    from .streams import put

    _refuse_passes(set_ or ())
    sections = {
        "provider": provider,
        "threads": threads,
        "seed": seed,
        **kept(drop_default_inputs=drop_default_inputs, keep_metadata=keep_metadata),
        "data": data_section(data, batch_size, {"path": evaluation, "labels": labels, "metrics": metric}),
        "measure": made_up(dim, shape, value),
    }
    told = _told(bits, float16, clusters)
    _say_what_is_taken(sections, told, data, evaluation, quiet=quiet)
    budget = {"min_closeness": min_cosine or _TOLD} if told and not (no_measure or dry_run) else {}
    passes = ["simplify", *(told or ["quantize_static" if data else "quantize_dynamic"])]
    job = Job(
        recipe_from("quantize", set_ or (), {**sections, "passes": passes, "budget": budget}),
        model=model,
        out=output(out, model, _suffix(bits, float16, clusters), dry_run=dry_run or show_recipe),
        force=force,
        measure=not no_measure,
        check_steps=check_steps,
        allow_code=allow_code,
        others=[Output(recipe_out, "--recipe-out")] if recipe_out is not None else [],
    )
    manner = Manner(as_json, report, quiet, verbose, force)
    job = raised_first(job) if told else job
    least = min_cosine or CLOSE_ENOUGH
    if show_recipe or dry_run:
        planned = job if told else _chosen(job, manner, least)
        if show_recipe:
            put(_recipe_text(sections, planned.recipe.passes))
        else:
            execute(planned, manner)
        return
    keep = partial(_keep_recipe, list(sections), recipe_out, force=force) if recipe_out is not None else None
    action = run if told else partial(run_chosen, least=least)
    carry_out(action, job, manner, allow_unproven=allow_unproven, keep=keep)


def _chosen(job: Job, manner: Manner, least: float) -> Job:
    """The job with the passes that trials find best."""
    from functools import partial

    from compress_ops.pipeline import with_passes
    from compress_ops.search import choose_int8

    from .execute import watched

    best, _ = watched(partial(choose_int8, least=least), job, manner)
    return with_passes(job, best.passes)


def _say_what_is_taken(
    sections: dict[str, Any], told: Sequence[Any], data: str | None, evaluation: str | None, *, quiet: bool
) -> None:
    """On stderr: the choice that a provider makes, and accuracy that is judged on what the ranges were fixed with."""
    from compress_ops.runtime import short_name
    from compress_ops.search import reason_of

    from .faults import say

    scored = sections["data"].get("evaluation", {}).get("path")
    first = short_name(sections["provider"][0]) if sections["provider"] else "cpu"
    notes = [] if told else [reason_of(first, with_data=data is not None)]
    if scored is not None and evaluation is None:
        notes.append("scored on --data, which the model is fitted to; --evaluation DATA is a fairer judge")
    for note in filter(None, () if quiet else notes):
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


def _refuse_passes(overrides: Sequence[str]) -> None:
    from compress_ops.errors import UsageError

    for override in overrides:
        if override.startswith("passes"):
            hint = "write the recipe with --show-recipe, edit it, and run that"
            raise UsageError(f"--set {override}: quantize chooses the passes itself", hint=hint)


def _keep_recipe(sections: list[str], path: Path, report: Report, *, force: bool) -> None:
    """Write the chosen recipe, its paths relative to where it lies."""
    from compress_ops.catalogue import PASSES
    from compress_ops.files.writing import write
    from compress_ops.recipe import step_from

    plain = report.plain(path.parent)["recipe"]
    steps = [step_from(PASSES[name], options) for step in plain["passes"] for name, options in step.items()]
    write(path, _recipe_text({name: plain.get(name) for name in sections}, steps), force=force)


def _recipe_text(sections: dict[str, Any], passes: Sequence[Step]) -> str:
    """A recipe as a person would write it: what is empty, or a default of a pass, is left out."""
    from compress_ops.recipe import dump_recipe

    from .flags import said

    return dump_recipe({"version": 1, **said(sections), "passes": [step.written() for step in passes]})
