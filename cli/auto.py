"""onnxpress auto: say what is needed; the recipe that keeps it is found, and proven."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .splice import Flags

if TYPE_CHECKING:
    from collections.abc import Callable

    from compress_ops.pipeline import Job
    from compress_ops.recipe import Recipe
    from compress_ops.report.report import Report

MaxSize = Annotated[
    str | None, typer.Option("--max-size", metavar="SIZE", help="Largest size: 25% of the model's, or 12 MB.")
]
MinSpeedup = Annotated[
    float | None, typer.Option("--min-speedup", metavar="S", help="How many times faster it must be, at least.")
]
MaxDrop = Annotated[
    str | None,
    typer.Option("--max-drop", metavar="DROP", help="Largest drop of the metric: 1%, or 0.01. [1%, with --labels]"),
]
MinCloseness = Annotated[
    float | None,
    typer.Option("--min-closeness", metavar="C", help="How close the outputs must stay; 1 is the same. [0.99]"),
]
Smallest = Annotated[bool, typer.Option("--smallest", help="As small as the limits allow.")]
Fastest = Annotated[bool, typer.Option("--fastest", help="As fast as the limits allow.")]
Closest = Annotated[bool, typer.Option("--closest", help="As close to the model as the limits allow.")]
DEVICES = "server-avx512, laptop-avx2, arm-phone, browser-wasm, cuda, tensorrt, openvino, mcu"
Device = Annotated[
    str | None, typer.Option("--device", metavar="NAME", help=f"Where it will run: {DEVICES}. [as --provider here]")
]
Purpose = Annotated[
    str | None,
    typer.Option("--for", metavar="WHAT", help="What matters: transfer or memory (size), latency or energy (speed)."),
]
Minutes = Annotated[float | None, typer.Option("--minutes", metavar="M", help="How long to look. [10]")]
Trials = Annotated[
    int | None,
    typer.Option(
        "--trials",
        metavar="N",
        help="How many models to make, in place of --minutes; with --storage or --resume: how many trials, of a few "
        "models each, the search shall have in all.",
    ),
]
Storage = Annotated[
    str | None,
    typer.Option(
        "--storage",
        metavar="FILE|URL",
        help="Keep the search in this SQLite file, or in the database of this URL: --resume goes on with it, and "
        "several processes can work on it.",
    ),
]
Retrain = Annotated[
    bool, typer.Option("--retrain", help="Try pruning with distillation behind it, too; needs --training.")
]
Training = Annotated[
    str | None, typer.Option("--training", metavar="DATA", help="Data that --retrain learns from; no labels needed.")
]
KeepBest = Annotated[bool, typer.Option("--keep-best", help="Write the best so far when interrupted.")]


class Limits(Flags):
    """What the result must keep: a recipe's budget."""

    max_size: MaxSize = None
    min_speedup: MinSpeedup = None
    max_drop: MaxDrop = None
    min_closeness: MinCloseness = None


class Wanted(Flags):
    """What is looked for, and how long: a recipe's section ``auto``."""

    smallest: Smallest = False
    fastest: Fastest = False
    closest: Closest = False
    device: Device = None
    purpose: Purpose = None
    minutes: Minutes = None
    trials: Trials = None
    retrain: Retrain = False
    storage: Storage = None


def auto(
    model: options.ModelPath,
    *,
    asked: options.Asked,
    limits: Limits,
    wanted: Wanted,
    training: Training = None,
    recipe_out: options.RecipeOut = None,
    keep_best: KeepBest = False,
    resume: options.Resume = False,
    doing: options.Doing,
) -> None:
    """Find the recipe that keeps the limits, and prove it.

    Each layer is given the form that suits it: what each would lose is told from --data, what it would save from its
    bytes and from times measured here. The best few models are made and measured, and the choice is made anew by what
    was found, until the limits are proven or the time is up. --recipe-out keeps it as a recipe that needs no search.

    Size, speed and loss can each be a limit; one of them can be the aim: --smallest, --fastest, --closest. Without any
    a balance of all is written, and the report shows what else there is.

    What is lost is always limited: to 1 % of the metric, where --labels give one, and else to a closeness of 0.99
    (where 1 is the same). A limit that is missed or not proven is exit status 1 (the output is written).
    """
    from .chosen import fairer_judge, keeping, others, refuse_passes
    from .flags import data_section, job_of, recipe_from, said, sections_of

    refuse_passes("auto", asked.set_, "keep the recipe with --recipe-out, edit it, and run that")
    read = {**data_section(asked), **said({"training": said({"path": training})})}
    sections = {**sections_of(asked, read, doing), "budget": said(vars(limits))}
    found = {**sections, "passes": "auto", "auto": _auto(wanted, training)}
    loaded = recipe_from("auto", asked.set_, found)
    job = job_of(loaded, model, "small", asked, doing, others=others(recipe_out), resume=resume)
    keep = keeping(recipe_out, sections, doing)
    find(job, doing, keep, keep_best=keep_best, note=fairer_judge(read, asked))


def _auto(wanted: Wanted, training: str | None) -> dict[str, Any]:
    """The section ``auto``; UsageError for flags of which one would be ignored."""
    from compress_ops.errors import UsageError

    from .flags import said

    aims = [aim for aim in ("smallest", "fastest", "closest") if getattr(wanted, aim)]
    if len(aims) > 1:
        hint = "give one; of the others give limits: --max-size, --min-speedup, --max-drop or --min-closeness"
        raise UsageError(f"--{aims[0]} and --{aims[1]} are different aims", hint=hint)
    if None not in (wanted.minutes, wanted.trials):
        raise UsageError("--minutes and --trials both say when to stop", hint="give one of them")
    if training is not None and not wanted.retrain:
        raise UsageError("--training is read by --retrain alone", hint="give both, or neither")
    return said(
        {
            "objective": aims[0] if aims else None,
            "device": wanted.device,
            "purpose": wanted.purpose,
            "minutes": wanted.minutes,
            "trials": wanted.trials,
            "retrain": wanted.retrain or None,
            "storage": wanted.storage,
        }
    )


def find(
    job: Job,
    doing: options.Doing,
    keep: Callable[[Report], None] | None = None,
    *,
    keep_best: bool = False,
    note: str = "",
) -> None:
    """Do a job of ``passes: auto``, and give its report; ``note`` is said before it."""
    from functools import partial

    from compress_ops.errors import UsageError
    from compress_ops.search import run_auto, told_where

    from .execute import carry_out
    from .faults import say

    if not doing.proves:
        given = "--dry-run" if doing.dry_run else "--no-measure"
        hint = "leave it out; --trials 1 makes one model, which is the least that tells something"
        raise UsageError(f"{given}: auto makes models and measures them", hint=hint)
    for told in filter(None, () if doing.quiet else (note, *_of_device(job.recipe))):
        say(told)
    try:
        carry_out(partial(run_auto, keep_best=keep_best), job, doing, keep)
    except KeyboardInterrupt:
        if place := told_where(job):
            say(f"{place} holds the search as far as it came: the same command with --resume goes on")
        raise


def _of_device(recipe: Recipe) -> list[str]:
    """What is known of the device, and whether what is timed here holds there."""
    from compress_ops.devices import TARGETS

    name = recipe.auto.device if recipe.auto is not None else None
    if name is None:
        return []
    known = [f"{name}: {TARGETS[name].why}"]
    if TARGETS[name].measured_here and recipe.provider[0].name == TARGETS[name].provider:
        return known
    return [*known, f"times are those of this machine, which is no {name}: measure speed there"]
