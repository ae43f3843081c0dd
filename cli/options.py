"""The flags that several commands share: each has one name and one meaning everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from .reports import FORMS
from .splice import Flags

if TYPE_CHECKING:
    from .show import Manner

INPUT, TASK = "Input", "What to do"
GROUPS: dict[str, tuple[str, ...]] = {
    INPUT: ("--dim", "--shape", "--value", "--drop-default-inputs"),
    TASK: (),
    "Data": ("--data", "--training", "--evaluation", "--labels", "--metric", "--batch-size", "--allow-code"),
    "Measuring": ("--provider", "--threads", "--seed", "--batch", "--seconds", "--no-measure", "--allow-unproven"),
    "Output": (
        *("--out", "--force", "--keep-best", "--recipe-out", "--show-recipe", "--dry-run", "--report", "--json"),
        *("--keep-metadata", "--quiet", "--verbose", "--help"),
    ),
}
"""The sections of a command's help; what stands in none of them says what to do."""


class Size(NamedTuple):
    """``name=N`` of --dim."""

    name: str
    size: int


class Shape(NamedTuple):
    """``input=1,3,48,192`` of --shape."""

    name: str
    shape: list[int]


class Value(NamedTuple):
    """``name=V`` of --value."""

    name: str
    value: float


def _size(text: str) -> Size:
    name, equals, number = text.partition("=")
    if not (name and equals and number.isdecimal() and int(number)):
        raise typer.BadParameter(f"'{text}': write name=N with a whole number from 1, such as seq=64")
    return Size(name, int(number))


def _shape(text: str) -> Shape:
    name, equals, sizes = text.rpartition("=")
    parts = [part.strip() for part in sizes.strip("[]").replace("x", ",").split(",")]
    if not (name and equals and all(part.isdecimal() and int(part) for part in parts)):
        raise typer.BadParameter(f"'{text}': write INPUT=N,N,... with whole numbers from 1, such as image=1,3,48,192")
    return Shape(name, [int(part) for part in parts])


def _value(text: str) -> Value:
    name, equals, number = text.partition("=")
    try:
        if name and equals:
            return Value(name, float(number))
    except ValueError:
        pass
    raise typer.BadParameter(f"'{text}': write name=V with a number, such as sr=16000")


def share(text: str | float) -> float:
    """``0.5`` or ``50%`` of --ratio; its default is a number."""
    from compress_ops.settings import as_share

    try:
        return float(as_share(text))
    except ValueError:
        raise typer.BadParameter(f"'{text}': write a share such as 0.5, or 50%") from None


def _report(text: str) -> Path:
    path = Path(text)
    if path.suffix not in FORMS:
        raise typer.BadParameter(f"'{text}': the ending must be one of {', '.join(FORMS)}")
    return path


_ORDER = "In order; repeatable."

ModelPath = Annotated[Path, typer.Argument(metavar="MODEL", help="The ONNX model.")]
Out = Annotated[
    str | None,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE",
        help="The file to write, or a folder. [a new name beside the model]",
    ),
]
Data = Annotated[
    str | None,
    typer.Option("--data", metavar="DATA", help="Data: .npz, .npy, a folder, 'random', or user:module:function."),
]
Evaluation = Annotated[
    str | None, typer.Option("--evaluation", metavar="DATA", help="Held-out data that the models are scored on.")
]
Labels = Annotated[
    str | None, typer.Option("--labels", metavar="NAME", help="The array of the data that holds the labels.")
]
Metrics = Annotated[
    list[str] | None, typer.Option("--metric", metavar="NAME", help="Metric to score, such as top1; repeatable.")
]
BatchSize = Annotated[
    int | None,
    typer.Option("--batch-size", metavar="N", min=1, help="How many samples of the data are fed at once. [16]"),
]
Providers = Annotated[
    list[str] | None,
    typer.Option("--provider", metavar="NAME", help=f"Execution provider: cpu, cuda, tensorrt ... {_ORDER}"),
]
Threads = Annotated[
    int | None, typer.Option("--threads", metavar="N", min=1, help="Threads that onnxruntime may use. [1]")
]
Seed = Annotated[int | None, typer.Option("--seed", metavar="N", min=0, help="Seed of every random number. [0]")]
Dims = Annotated[
    list[Size] | None,
    typer.Option("--dim", metavar="NAME=N", parser=_size, help="Size of a free dimension; repeatable."),
]
Shapes = Annotated[
    list[Shape] | None,
    typer.Option(
        "--shape", metavar="INPUT=N,N", parser=_shape, help="Whole shape of an input with free dimensions; repeatable."
    ),
]
Values = Annotated[
    list[Value] | None,
    typer.Option("--value", metavar="NAME=V", parser=_value, help="Number for a scalar input; repeatable."),
]
Batch = Annotated[int | None, typer.Option("--batch", metavar="N", min=1, help="Samples per timed inference. [1]")]
Seconds = Annotated[
    float | None, typer.Option("--seconds", metavar="S", min=0.001, help="Time limit of the latency measurement. [10]")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print exactly one JSON document.")]
Reports = Annotated[
    list[Path] | None,
    typer.Option("--report", metavar="FILE", parser=_report, help="Write the report: .json, .md or .html; repeatable."),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=V", help="Change one recipe value: passes.0.prune_weights.ratio=0.3"),
]
NoMeasure = Annotated[bool, typer.Option("--no-measure", help="Time and score nothing.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what each step would do; write nothing.")]
Force = Annotated[bool, typer.Option("--force", help="Replace existing outputs: the result, reports, recipes.")]
CheckSteps = Annotated[bool, typer.Option("--check-steps", help="Load the model in onnxruntime after every step.")]
AllowCode = Annotated[bool, typer.Option("--allow-code", help="Let data come from your own function (user:...).")]
AllowUnproven = Annotated[
    bool, typer.Option("--allow-unproven", help="A budget that is neither met nor missed for sure is no failure.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where an interrupted training, or search, left off.")]
DropDefaults = Annotated[
    bool, typer.Option("--drop-default-inputs", help="Make weights of the inputs that have a default.")
]
KeepMetadata = Annotated[
    bool, typer.Option("--keep-metadata", help="Keep the stack traces and local paths that exporters write.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print the headline only; show no progress.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="List all that was touched and declined.")]
Bits = Annotated[
    int | None, typer.Option("--bits", metavar="N", help="Weights alone, in 2, 3, 4 or 8 bits, in blocks.")
]
Heads = Annotated[bool, typer.Option("--heads", help="Cut whole attention heads instead of channels.")]
RecipeOut = Annotated[
    Path | None, typer.Option("--recipe-out", metavar="FILE", help="Write the recipe that was chosen.")
]
ShowRecipe = Annotated[bool, typer.Option("--show-recipe", help="Print the recipe that this stands for, and stop.")]


class Machine(Flags):
    """On what models run, and what they are fed where nothing else says it: all commands that run models."""

    provider: Providers = None
    threads: Threads = None
    seed: Seed = None
    dim: Dims = None
    shape: Shapes = None
    value: Values = None


class Timing(Machine):
    """The same, and how long to time them: compare and bench."""

    batch: Batch = None
    seconds: Seconds = None


class Answer(Flags):
    """Where the answer goes: compare and bench."""

    force: Force = False
    report: Reports = None
    as_json: AsJson = False
    quiet: Quiet = False

    @property
    def manner(self) -> Manner:
        from .show import Manner

        return Manner(self.as_json, self.report, self.quiet, force=self.force)


class Written(Machine):
    """Where the result of a recipe goes, and what else stands in the recipe: run, and all that make one."""

    out: Out = None
    set_: Set = None


class Asked(Written):
    """The data of a recipe, as flags: quantize, prune and distill."""

    data: Data = None
    evaluation: Evaluation = None
    labels: Labels = None
    metric: Metrics = None
    batch_size: BatchSize = None


class Doing(Flags):
    """How a recipe is done, and how its answer is given: run, quantize, prune and distill."""

    drop_default_inputs: DropDefaults = False
    keep_metadata: KeepMetadata = False
    no_measure: NoMeasure = False
    dry_run: DryRun = False
    check_steps: CheckSteps = False
    allow_code: AllowCode = False
    allow_unproven: AllowUnproven = False
    force: Force = False
    report: Reports = None
    as_json: AsJson = False
    quiet: Quiet = False
    verbose: Verbose = False

    @property
    def proves(self) -> bool:
        """Whether the result will be measured, so that there can be limits."""
        return not (self.no_measure or self.dry_run)

    @property
    def manner(self) -> Manner:
        from .show import Manner

        return Manner(self.as_json, self.report, self.quiet, self.verbose, self.force)
