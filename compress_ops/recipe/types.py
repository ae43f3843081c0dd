"""The recipe's sections as pydantic models: what may be written, with defaults and descriptions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt, field_validator

from ..measure.budget import parse_drop, parse_size
from ..passes import Pass, StepOptions
from ..runtime import Provider


class Section(BaseModel):
    """A part of a recipe: unknown keys and wrong types are faults, nothing is coerced."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)


class Evaluation(Section):
    """Held-out data that the result is judged on."""

    path: str = Field(description="Data set, in any form that data takes.")
    labels: str | None = Field(None, description="Name of the array that holds the labels.")
    metrics: list[str] = Field([], description="Metrics by name; the first drives max_drop.")


class Images(Section):
    """How an image file becomes an input tensor: (pixel * scale - mean) / std."""

    resize: tuple[PositiveInt, PositiveInt] | None = Field(
        None, description="[height, width]; absent: the image's own size."
    )
    layout: Literal["NCHW", "NHWC"] = Field("NCHW", description="Axis order of the input.")
    channels: Literal["rgb", "bgr", "grey"] = Field("rgb", description="Channel order of the input.")
    scale: float = Field(1 / 255, description="Factor on the pixel values 0..255.")
    mean: list[float] = Field([0.0], description="Per channel, after scaling.")
    std: list[Annotated[float, Field(gt=0)]] = Field([1.0], description="Per channel, after scaling.")

    @field_validator("resize", mode="before")
    @classmethod
    def _pair(cls, value: Any) -> Any:
        if value is not None and not (isinstance(value, list | tuple) and len(value) == 2):
            raise ValueError("should be [height, width]")
        return tuple(value) if value is not None else None


class Training(Section):
    """Data that training passes learn from; most need no labels."""

    path: str = Field(description="Data set, in any form that data takes.")
    labels: str | None = Field(None, description="Name of the array that holds the labels; absent: as in evaluation.")


def _with_path(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


class Data(Section):
    """Calibration, training and evaluation data; paths are relative to the recipe."""

    batch_size: int = Field(16, ge=1, description="How stacked samples are fed; 1 where the model fixes batch 1.")
    calibration: str | None = Field(None, description="Inputs that calibrating passes look at.")
    training: Annotated[Training | None, BeforeValidator(_with_path, json_schema_input_type=str | Training | None)] = (
        Field(None, description="Inputs that training passes use; calibration serves if absent.")
    )
    evaluation: Annotated[
        Evaluation | None, BeforeValidator(_with_path, json_schema_input_type=str | Evaluation | None)
    ] = None
    images: Images | None = None


class Measure(Section):
    """The feed for timing, and how long to time."""

    batch: int = Field(1, ge=1, description="Samples per timed run.")
    dims: dict[str, PositiveInt] = Field({}, description="Sizes of dynamic dimensions by symbolic name.")
    shapes: dict[str, list[PositiveInt]] = Field({}, description="Whole shapes of inputs, by name of the input.")
    values: dict[str, float] = Field({}, description="Values of scalar inputs by name.")
    seconds: float = Field(10.0, gt=0, description="Time limit of the latency measurement.")


class Budget(Section):
    """Limits that the result must meet; missed is exit status 1."""

    max_size: str | int | None = Field(None, description="30% of the original, or 12 MB, or bytes.")
    min_speedup: float | None = Field(None, gt=0, description="Time of the original over time of the result.")
    max_drop: str | float | None = Field(None, description="2% relative, or 0.02 absolute, of the first metric.")
    min_closeness: float | None = Field(
        None, gt=0, le=1, description="Closeness of the worst output to the original's; 1 is the same."
    )
    against: str | None = Field(
        None,
        description="What max_drop and min_closeness are about: an ONNX file, such as a teacher; null: the original.",
    )

    @field_validator("max_size", mode="before")
    @classmethod
    def _size(cls, value: Any) -> Any:
        if value is not None:
            parse_size(value)
        return value

    @field_validator("max_drop", mode="before")
    @classmethod
    def _drop(cls, value: Any) -> Any:
        if value is not None:
            parse_drop(value)
        return value


@dataclass(frozen=True)
class Step:
    """One entry of ``passes``: the pass and its checked options, and where in the document it is written."""

    operation: Pass
    options: StepOptions
    path: tuple[str | int, ...] = ()

    def arguments(self) -> dict[str, Any]:
        """The options that go to the pass's function."""
        return {
            name: getattr(self.options, name)
            for name in type(self.options).model_fields
            if name not in StepOptions.model_fields
        }

    def written(self) -> str | dict[str, Any]:
        """The step as a person would write it: its bare name, or its name with the options that are not defaults."""
        options = self.options.model_dump(mode="json", exclude_defaults=True)
        return {self.operation.name: options} if options else self.operation.name

    def resolved(self) -> dict[str, Any]:
        """The step as a recipe would write it, every default filled in."""
        return {self.operation.name: self.options.model_dump(mode="json")}


def _providers(value: Any) -> Any:
    """``cpu`` is short for ``[cpu]``."""
    return value if isinstance(value, list) else [value]


def _provider(entry: Any) -> Provider:
    if isinstance(entry, Provider):
        return entry
    if isinstance(entry, str):
        return Provider(entry)
    if isinstance(entry, dict) and len(entry) == 1:
        ((name, options),) = entry.items()
        if isinstance(options, dict | None):
            return Provider(name, options or {})
    raise ValueError("write a provider as a name such as cuda, or as {cuda: {device_id: 0}}")


_Entry = str | dict[str, dict[str, Any] | None]


class Recipe(Section):
    """A whole recipe, checked. ``passes`` is a list: order and repetition are meaning."""

    version: Literal[1] = Field(description="Version of the recipe format.")
    model: str | None = Field(None, description="The ONNX file; MODEL on the command line wins.")
    provider: Annotated[
        list[Annotated[Provider, BeforeValidator(_provider)]],
        BeforeValidator(_providers, json_schema_input_type=_Entry | list[_Entry]),
    ] = Field(default=[Provider("cpu")], min_length=1, description="Execution providers, in order.")
    threads: int = Field(1, ge=1, le=1024, description="Threads that onnxruntime may use within an operator.")
    seed: int = Field(0, ge=0, description="Seed of every random number.")
    data: Data = Data()
    measure: Measure = Measure()
    drop_default_inputs: bool = Field(
        False, description="Make weights of the inputs that have a default; callers can feed them no longer."
    )
    keep_metadata: bool = Field(
        False, description="Keep what exporters leave behind (stack traces, local paths) where steps shrink the model."
    )
    passes: list[Step] = Field(description="Steps, applied in order.")
    budget: Budget = Budget()

    @field_validator("version", mode="before")
    @classmethod
    def _whole(cls, value: Any) -> Any:
        if type(value) is not int:  # True == 1 == 1.0
            raise ValueError("should be 1")
        return value

    def resolved(self) -> dict[str, Any]:
        """The recipe as plain data with every default filled in."""
        plain = self.model_dump(mode="json", exclude={"passes", "provider"}, exclude_none=True)
        plain["provider"] = [{p.name: dict(p.options)} if p.options else p.name for p in self.provider]
        plain["passes"] = [step.resolved() for step in self.passes]
        return plain
