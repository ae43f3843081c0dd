"""The commented recipe that people start from, made from the code: every section, every pass, every default.

What is commented out is YAML too: taking away its leading ``# `` gives a valid recipe.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from textwrap import shorten
from typing import Any

import yaml
from pydantic.fields import FieldInfo

from ..catalogue import PASSES
from ..data import Images
from ..measure import Budget, Measure
from ..passes import Pass, StepOptions
from ..settings import Settings
from .types import Auto, Data, Recipe

_ACTIVE = ("simplify", "quantize_dynamic")
_COLUMN = 44  # where the descriptions begin
_WIDTH = 140

_HEAD = """\
## A recipe for onnxpress: what to do to an ONNX model, and what the result must reach.
##   onnxpress recipe check recipe.yaml
##   onnxpress run recipe.yaml model.onnx -o small.onnx
## Lines that begin with "# " are options with their defaults, or examples: take the "# " away to use them.
"""

_EXAMPLES: dict[str, Any] = {
    "model": "model.onnx",
    "calibration": "calibration.npz",
    "training": "training.npz",
    "evaluation": {"path": "evaluation.npz", "labels": "label", "metrics": ["top1"]},
    "resize": [224, 224],
    "dims": {"sequence": 64},
    "shapes": {"input": [1, 3, 48, 192]},
    "values": {"sample_rate": 16000},
    "max_size": "30%",
    "min_speedup": 1.5,
    "max_drop": "1%",
    "ratio": 0.5,
}
"""What an option may look like whose default says nothing."""
_GRADUALLY = "gradually: {steps: 4, passes: [{prune_channels: {ratio: 0.5}}, refit]}"


def starter() -> str:
    """The text of the starter."""
    return "\n".join([_HEAD, *_basics(), "", *_sections(), *_steps()]) + "\n"


def _basics() -> Iterator[str]:
    fields = Recipe.model_fields
    written = {"version": 1, "# model": _EXAMPLES["model"], "provider": "cpu", "threads": 1, "seed": 0}
    written |= {"# drop_default_inputs": "false", "# keep_metadata": "false"}
    for name, value in written.items():
        yield _line(f"{name}: {value}", fields[name.removeprefix("# ")].description)


def _sections() -> Iterator[str]:
    sections: dict[str, type[Settings]] = {"data": Data, "measure": Measure, "budget": Budget}
    for name, section in sections.items():
        yield f"## {section.__doc__}"
        yield f"# {name}:"
        yield from _options({n: f for n, f in section.model_fields.items() if n != "images"}, indent=2)
        if section is Data:
            yield _line("#   images:", Images.__doc__)
            yield from _options(Images.model_fields, indent=4)
        yield ""


def _steps() -> Iterator[str]:
    yield f"## {Recipe.model_fields['passes'].description} Each step also takes:"
    yield from (f"##   {name}: {field.description}" for name, field in StepOptions.model_fields.items())
    yield f"## An entry can stand for several steps: {_GRADUALLY}"
    yield "## In the place of the list, passes: auto finds steps that keep the budget. What a section auto: may say:"
    yield from (f"##   {name}: {field.description}" for name, field in Auto.model_fields.items())
    yield "passes:"
    yield from (line for name in PASSES for line in _step(PASSES[name], active=name in _ACTIVE))


def _step(operation: Pass, *, active: bool) -> Iterator[str]:
    yield f"  ## {operation.summary}"
    yield f"{'' if active else '# '}  - {operation.name}:"
    yield from _options(
        {n: f for n, f in operation.options.model_fields.items() if n not in StepOptions.model_fields}, indent=6
    )


def _options(fields: Mapping[str, FieldInfo], *, indent: int) -> Iterator[str]:
    for name, field in fields.items():
        yield _line(f"# {' ' * indent}{name}: {_yaml(_value(name, field))}", field.description)


def _value(name: str, field: FieldInfo) -> Any:
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    return default if default not in (None, {}) else _EXAMPLES.get(name, default)


def _line(text: str, description: str | None) -> str:
    """A line with its description beside it; what does not fit is in the reference (onnxpress passes NAME)."""
    if not description:
        return text
    column = max(_COLUMN, len(text))
    return f"{text:<{column}}  # {shorten(description, max(_WIDTH - column - 4, 30), placeholder=' ...')}"


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False).removesuffix("...\n").strip()
