"""The recipe's sections as pydantic models: what may be written, with defaults and descriptions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, WithJsonSchema, field_validator

from ..data import Images
from ..devices import TARGETS
from ..errors import did_you_mean
from ..measure import Budget, Measure
from ..passes import Pass, StepOptions
from ..runtime import Provider
from ..settings import Settings


class Evaluation(Settings):
    """Held-out data that the result is judged on."""

    path: str = Field(description="Data set, in any form that data takes.")
    labels: str | None = Field(None, description="Name of the array that holds the labels.")
    metrics: list[str] = Field([], description="Metrics by name; the first drives max_drop.")


class Training(Settings):
    """Data that training passes learn from; most need no labels."""

    path: str = Field(description="Data set, in any form that data takes.")
    labels: str | None = Field(None, description="Name of the array that holds the labels; absent: as in evaluation.")


def _with_path(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


class Data(Settings):
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


AUTO = "auto"
"""What stands in the place of the list of passes where they are to be found."""
_Entry = str | dict[str, dict[str, Any] | None]
Objective = Literal["smallest", "fastest", "closest"]
Purpose = Literal["transfer", "memory", "latency", "energy"]
_SERVES: dict[Purpose, Objective] = {
    "transfer": "smallest",
    "memory": "smallest",
    "latency": "fastest",
    "energy": "fastest",
}


def _known_device(name: str) -> str:
    if name not in TARGETS:
        raise ValueError(f"should be one of {', '.join(TARGETS)}{did_you_mean(name, TARGETS)}")
    return name


Device = Annotated[str, AfterValidator(_known_device), WithJsonSchema({"enum": list(TARGETS)})]


class Auto(Settings):
    """What is looked for, and how long, where passes are ``auto``: steps that keep the budget."""

    objective: Objective | None = Field(
        None, description="What to gain most of within the budget; null: as purpose says, else a balance of all."
    )
    device: Device | None = Field(
        None, description="Where the model will run: what is allowed and fast there; null: by trials on provider."
    )
    purpose: Purpose | None = Field(
        None, description="What for: transfer and memory want the smallest, latency and energy the fastest."
    )
    minutes: float = Field(10, gt=0, description="How long to look.")
    trials: int | None = Field(
        None, ge=1, description="How many models to make, in place of minutes: this repeats; with storage, trials."
    )
    retrain: bool = Field(
        False, description="Try pruning with distillation behind it, too: it takes its time, and data.training."
    )
    storage: str | None = Field(
        None, min_length=1, description="SQLite file or database URL of a study that chooses what is cut, and how."
    )

    @field_validator("purpose")
    @classmethod
    def _agrees(cls, purpose: Purpose | None, info: ValidationInfo) -> Purpose | None:
        objective = info.data.get("objective")
        if purpose is not None and objective not in (None, "closest", _SERVES[purpose]):
            raise ValueError(f"{purpose} wants the {_SERVES[purpose]}, and objective is {objective}")
        return purpose

    @property
    def aim(self) -> Objective | None:
        """The objective that is written, or that the purpose means."""
        return self.objective or (_SERVES[self.purpose] if self.purpose is not None else None)


class Recipe(Settings):
    """A whole recipe, checked. ``passes`` is a list: order and repetition are meaning.

    Where ``auto`` is something the list is empty: its steps are yet to be found.
    """

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
    auto: Auto | None = Field(None, description="What to look for where ``passes: auto`` stands in place of the list.")
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
        plain["passes"] = [step.resolved() for step in self.passes] if self.auto is None else AUTO
        return plain
