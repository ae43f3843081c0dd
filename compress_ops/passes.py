"""What a pass is: a function from a model to a Change, its options in its signature, its promise in its registration.

The keyword-only parameters of the function are the recipe's schema, the command line's help and the reference page.
Where they are more than a handful they are a model instead, put together from mixins, that comes as the one parameter
``options``. The first line of the docstring is the summary. Adding a pass is writing one such function in one file of
its family and naming it in the family's ``PASSES``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import numpy as np
from pydantic import BeforeValidator, Field, create_model

from .arrays import Array
from .data import Dataset
from .errors import PassError
from .lazy import ir
from .measure.feeds import Measure
from .model import Model
from .progress import Progress, silent
from .runtime import CPU, Provider
from .settings import Fraction as Fraction
from .settings import Settings, checked


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Patterns = Annotated[list[str], BeforeValidator(_as_list, json_schema_input_type=str | list[str])]
Only = Annotated[Patterns, Field(description="Glob patterns of node names or operator types: nothing else is touched.")]
Skip = Annotated[Patterns, Field(description="Glob patterns of node names or operator types that stay as they are.")]


class IsFile:
    """Marks an option, by annotation, that names a file, relative to the recipe."""


ALL: list[str] = ["*"]
NONE: list[str] = []


class Selection(Settings):
    """Options of a pass that works on chosen nodes."""

    only: Only = ALL
    skip: Skip = NONE


class Promise(StrEnum):
    """What the pipeline holds a pass to."""

    SHRINKS = "shrinks"  # changing nothing, or a larger model, is a fault
    IMPROVES = "improves"  # changing nothing is a fault; growth is reported
    PREPARES = "prepares"  # may change nothing


class ShareOf(StrEnum):
    """What the ``ratio`` of a pass is a share of when it is run again on its own result."""

    LEFT = "what is left"  # channels are gone
    WHOLE = "the whole"  # zeros are still there, and count


class Gain(StrEnum):
    """What a pass gives to weights beyond bytes, and later steps must leave there (``pipeline.undone``)."""

    ZEROS = "zeros"
    CODEBOOK = "few values"


class Need(StrEnum):
    """What must be there before any work starts."""

    CALIBRATION = "calibration data"
    TRAINING = "training data"
    EVALUATION = "evaluation data"
    SHAPES = "inferred shapes"
    UNQUANTIZED = "the model before quantization"
    ORIGINAL = "the model as it was given"


EARLIER = frozenset({Need.UNQUANTIZED, Need.ORIGINAL})
"""Needs of an earlier model, at most one a pass: the pipeline keeps it, and gives it as ``Context.earlier``."""


@dataclass(frozen=True)
class Declined:
    """A node or weight that a pass left alone, and why."""

    name: str
    reason: str


@dataclass
class Change:
    """What a pass did. ``chosen`` holds options that it settled by measuring; they go into the resolved recipe.

    ``touched`` maps the name of each changed node or weight to what was done; ``notes`` are facts for the report,
    such as ``{"sparsity": "0.50"}``.
    """

    touched: dict[str, str] = field(default_factory=dict)
    declined: list[Declined] = field(default_factory=list)
    chosen: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    def touch(self, name: str | None, what: str) -> None:
        self.touched[name or "?"] = what

    def decline(self, name: str | None, reason: str) -> None:
        self.declined.append(Declined(name or "?", reason))


@dataclass
class Context:
    """What a run gives its passes besides the model. Random numbers come from ``rng`` alone.

    On a dry run nothing will be written, so data-driven passes may look at one batch only (``calibration_batches`` sees
    to that). ``earlier`` is the model from before that the pass needs (``EARLIER``). ``metrics`` are those of the
    evaluation data, the one that counts first. ``measure`` says what is fed where a pass takes times; without it one
    sample of free sizes. ``folder`` is what relative paths in options refer to. Training keeps its state in the file
    ``checkpoint``, where there is one, and with ``resume`` goes on from there, if ``identity``, all that the training
    follows from, is the same.
    """

    rng: np.random.Generator
    calibration: Dataset | None = None
    training: Dataset | None = None
    evaluation: Dataset | None = None
    providers: Sequence[Provider] = CPU
    threads: int = 1
    dry_run: bool = False
    progress: Progress = silent
    earlier: Model | None = None
    metrics: Sequence[str] = ()
    measure: Measure | None = None
    folder: Path = Path()
    checkpoint: Path | None = None
    resume: bool = False
    identity: Mapping[str, Any] = field(default_factory=dict)

    def calibration_batches(self, label: str) -> Iterable[dict[str, Array]]:
        """The calibration feeds, one batch at a time, with progress shown under ``label``."""
        if self.calibration is None:
            raise PassError("calibration data is needed", hint="give --data, or data.calibration in the recipe")
        watched = self.calibration.watched(self.progress, label, limit=1 if self.dry_run else None)
        return (batch.feeds for batch in watched)


PassFunction = Callable[..., Change]


class StepOptions(Settings):
    """Options that every step takes besides those of its pass."""

    allow_unchanged: bool = Field(False, description="Let the step change nothing without it being a fault.")
    allow_larger: bool = Field(False, description="Let the step leave the model larger without it being a fault.")
    allow_undone: bool = Field(
        False, description="Let the step undo zeros or codebooks of an earlier one without it being a fault."
    )


Asks = Callable[[Any], Iterable[Need]]


@dataclass(frozen=True, eq=False)
class Pass:
    """A registered pass; call it like the function it wraps.

    ``asks`` tells what some options need beyond ``needs``. ``share_of`` is set where the option ``ratio`` can be raised
    from step to step; ``gives`` says what later steps must leave in the weights that the pass touched.
    """

    name: str
    function: PassFunction
    promises: Promise
    needs: frozenset[Need]
    asks: Asks | None = None
    share_of: ShareOf | None = None
    gives: Gain | None = None

    def __call__(self, model: Model, ctx: Context, **options: Any) -> Change:
        if self._model is None:
            return self.function(model, ctx, **options)
        return self.function(model, ctx, checked(self._model, options))

    def needs_with(self, options: StepOptions) -> frozenset[Need]:
        """What must be there for these options."""
        return self.needs | frozenset(self.asks(options) if self.asks else ())

    @property
    def doc(self) -> str:
        return inspect.getdoc(self.function) or ""

    @property
    def summary(self) -> str:
        return self.doc.partition("\n")[0]

    @cached_property
    def options(self) -> type[StepOptions]:
        """The pass's options, plus those of every step, as a pydantic model."""
        fields = self._parameters() if self._model is None else _fields(self._model)
        return create_model(self.name, __base__=StepOptions, **fields)

    @cached_property
    def _hints(self) -> dict[str, Any]:
        return get_type_hints(self.function, include_extras=True, localns={"Model": Model, "Context": Context})

    @property
    def _model(self) -> type[Settings] | None:
        """What the function takes as its options, where these are no parameters of their own."""
        hint = self._hints.get("options")
        return hint if isinstance(hint, type) and issubclass(hint, Settings) else None

    def _parameters(self) -> dict[str, Any]:
        return {
            p.name: (self._hints[p.name], ... if p.default is p.empty else p.default)
            for p in inspect.signature(self.function).parameters.values()
            if p.kind is p.KEYWORD_ONLY
        }

    @cached_property
    def files(self) -> tuple[str, ...]:
        """The options that name files."""
        fields = self.options.model_fields.items()
        return tuple(name for name, field in fields if any(isinstance(mark, IsFile) for mark in field.metadata))


def _fields(model: type[Settings]) -> dict[str, Any]:
    """Options by name: those of the model itself, then those of its mixins, in the order in which it names them."""
    names = [name for part in model.__mro__ for name in inspect.get_annotations(part) if name in model.model_fields]
    return {name: (model.model_fields[name].annotation, model.model_fields[name]) for name in names}


def register(
    name: str,
    *,
    promises: Promise,
    needs: Iterable[Need] = (),
    asks: Asks | None = None,
    share_of: ShareOf | None = None,
    gives: Gain | None = None,
) -> Callable[[PassFunction], Pass]:
    """Make a pass of a function ``(model, ctx, *, a, b) -> Change``, or ``(model, ctx, options: AB) -> Change``."""
    return lambda function: Pass(name, function, promises, frozenset(needs), asks, share_of, gives)


def matches(pattern: str, node: ir.Node) -> bool:
    """Whether a glob pattern names a node, by its name or its operator type."""
    return fnmatchcase(node.name or "", pattern) or fnmatchcase(node.op_type, pattern)


def selected(node: ir.Node, only: Iterable[str], skip: Iterable[str]) -> bool:
    """Whether a node is among ``only`` and not among ``skip``."""
    return any(matches(p, node) for p in only) and not any(matches(p, node) for p in skip)


def unmatched(model: Model, patterns: Iterable[str]) -> list[str]:
    """The patterns that match no node of the model: faults in a recipe."""
    nodes = list(model.nodes())
    return [p for p in patterns if not any(matches(p, node) for node in nodes)]
