"""onnxpress distill: a small model learns from a large one, without writing a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from . import options

StudentPath = Annotated[Path, typer.Argument(metavar="STUDENT", help="The ONNX model that learns.")]


def distill(
    student: StudentPath,
    teacher: Annotated[
        str | None, typer.Option("--teacher", metavar="FILE", help="The ONNX model that it learns from.")
    ] = None,
    out: options.Out = None,
    data: options.Data = None,
    epochs: Annotated[int | None, typer.Option("--epochs", metavar="N", help="How often all data goes by. [5]")] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", metavar="R", help="Size of the steps. [found in short trials]")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", metavar="T", help="What logits are divided by before kl. [2]")
    ] = None,
    loss: Annotated[
        list[str] | None,
        typer.Option("--loss", metavar="NAME[=W]", help="A loss with its weight, repeatable; or one preset."),
    ] = None,
    baseline: Annotated[
        bool, typer.Option("--baseline", help="Train without the teacher too, and compare over several seeds.")
    ] = False,
    resume: options.Resume = False,
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
    """Train a model to give what a teacher gives.

    No labels are needed: the teacher answers for the data, and a part of it that is held out judges. The losses suit
    what the outputs hold, unless --loss names others: kl, mse, cosine, cross_entropy, hidden, attention, similarity,
    or a preset, soft+hard or kl+l2. cross_entropy and soft+hard read --labels. --set passes.0.distill.train=... trains
    some weights only; --show-recipe prints the recipe to edit, in which distill can follow pruning.

    The result must keep 95 % of the teacher's metric, where --evaluation gives one, and else come close to the teacher
    (0.9, where 1 is the same): where that is missed or not proven, the exit status is 1 (the output is written). --set
    budget.min_closeness=0.8, or budget.max_drop=10%, sets another limit.
    """
    from compress_ops.pipeline import Job
    from compress_ops.recipe import dump_recipe

    from .execute import execute, output
    from .flags import kept, limit_of_loss, made_up, recipe_from, said
    from .show import Manner
    from .streams import put

    chosen = {"teacher": _teacher(teacher), "epochs": epochs, "learning_rate": learning_rate}
    chosen |= {"temperature": temperature, "loss": _loss(loss or []), "baseline": "scratch" if baseline else None}
    read = _data(data, batch_size, said({"path": evaluation, "labels": labels, "metrics": metric}))
    sections = {
        "provider": provider,
        "threads": threads,
        "seed": seed,
        **kept(drop_default_inputs=drop_default_inputs, keep_metadata=keep_metadata),
        "data": read,
        "measure": made_up(dim, shape, value),
        "budget": limit_of_loss(
            read.get("evaluation", {}).get("metrics"), measured=not (no_measure or dry_run), against=teacher
        ),
        "passes": [{"distill": said(chosen)}],
    }
    loaded = recipe_from("distill", set_ or (), sections)
    if show_recipe:
        put(dump_recipe(loaded.document.data))
        return
    job = Job(
        loaded,
        model=student,
        out=output(out, student, "distilled", dry_run=dry_run),
        force=force,
        measure=not no_measure,
        check_steps=check_steps,
        allow_code=allow_code,
        resume=resume,
    )
    execute(job, Manner(as_json, report, quiet, verbose, force), allow_unproven=allow_unproven)


def _teacher(path: str | None) -> str:
    from compress_ops.errors import UsageError

    if path is None:
        raise UsageError(
            "who teaches?",
            hint="give --teacher FILE; in a recipe the model from before the other passes teaches by default",
        )
    return path


def _data(data: str | None, batch_size: int | None, evaluation: dict[str, Any]) -> dict[str, Any]:
    """The recipe's data section; --labels names the labels of all data, and without a metric top1 scores."""
    from compress_ops.errors import UsageError

    from .flags import said

    if "path" not in evaluation and "metrics" in evaluation:
        raise UsageError("metrics belong to evaluation data", hint="give --evaluation DATA with them")
    if "labels" in evaluation:
        evaluation = {"metrics": ["top1"], **evaluation}
    training = said({"path": data, "labels": evaluation.get("labels")}) if data is not None else {}
    scored = evaluation if "path" in evaluation else {}
    return said({"batch_size": batch_size, "training": training, "evaluation": scored})


def _loss(words: list[str]) -> Any:
    """``kl=1 cross_entropy=0.5`` as weights; a single word with a plus is a preset."""
    from compress_ops.errors import UsageError

    if len(words) == 1 and "+" in words[0]:
        return words[0]
    weights = {}
    for word in words:
        name, _, number = word.partition("=")
        try:
            weights[name] = float(number or 1)
        except ValueError:
            raise UsageError(f"--loss {word}: write NAME or NAME=WEIGHT, such as kl=0.5") from None
    return weights
