"""onnxpress distill: a small model learns from a large one, without writing a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from . import options

StudentPath = Annotated[Path, typer.Argument(metavar="STUDENT", help="The ONNX model that learns.")]


Teacher = Annotated[str | None, typer.Option("--teacher", metavar="FILE", help="The ONNX model that it learns from.")]
Epochs = Annotated[int | None, typer.Option("--epochs", metavar="N", help="How often all data goes by. [5]")]
LearningRate = Annotated[
    float | None, typer.Option("--learning-rate", metavar="R", help="Size of the steps. [found in short trials]")
]
Temperature = Annotated[
    float | None, typer.Option("--temperature", metavar="T", help="What logits are divided by before kl. [2]")
]
Losses = Annotated[
    list[str] | None,
    typer.Option("--loss", metavar="NAME[=W]", help="A loss with its weight, repeatable; or one preset."),
]
Baseline = Annotated[
    bool, typer.Option("--baseline", help="Train without the teacher too, and compare over several seeds.")
]


def distill(
    student: StudentPath,
    teacher: Teacher = None,
    epochs: Epochs = None,
    learning_rate: LearningRate = None,
    temperature: Temperature = None,
    loss: Losses = None,
    baseline: Baseline = False,
    resume: options.Resume = False,
    *,
    asked: options.Asked,
    show_recipe: options.ShowRecipe = False,
    doing: options.Doing,
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
    from compress_ops.recipe import dump_recipe

    from .execute import execute
    from .flags import job_of, limit_of_loss, recipe_from, said, sections_of
    from .streams import put

    chosen = {"teacher": _teacher(teacher), "epochs": epochs, "learning_rate": learning_rate}
    chosen |= {"temperature": temperature, "loss": _loss(loss or []), "baseline": "scratch" if baseline else None}
    read = _data(asked)
    scored = read.get("evaluation", {}).get("metrics")
    sections = {
        **sections_of(asked, read, doing),
        "budget": limit_of_loss(scored, measured=doing.proves, against=teacher),
        "passes": [{"distill": said(chosen)}],
    }
    loaded = recipe_from("distill", asked.set_, sections)
    if show_recipe:
        put(dump_recipe(loaded.document.data))
        return
    execute(job_of(loaded, student, "distilled", asked, doing, resume=resume), doing)


def _teacher(path: str | None) -> str:
    from compress_ops.errors import UsageError

    if path is None:
        raise UsageError(
            "who teaches?",
            hint="give --teacher FILE; in a recipe the model from before the other passes teaches by default",
        )
    return path


def _data(asked: options.Asked) -> dict[str, Any]:
    """The recipe's data section; --labels names the labels of all data, and without a metric top1 scores."""
    from compress_ops.errors import UsageError

    from .flags import said

    if asked.metric and asked.evaluation is None:
        raise UsageError("metrics belong to evaluation data", hint="give --evaluation DATA with them")
    metrics = asked.metric or (["top1"] if asked.labels else [])
    evaluation = {"path": asked.evaluation, "labels": asked.labels, "metrics": metrics}
    training = {"path": asked.data, "labels": asked.labels}
    return said(
        {
            "batch_size": asked.batch_size,
            "training": said(training) if asked.data is not None else {},
            "evaluation": said(evaluation) if asked.evaluation is not None else {},
        }
    )


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
