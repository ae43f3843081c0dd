"""Flags as parts of a recipe: what they give wins over what the recipe says, and its faults name them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from compress_ops.recipe import Flag, LoadedRecipe
    from compress_ops.runtime import Provider

_FLAGS = {
    ("provider",): "--provider",
    ("threads",): "--threads",
    ("seed",): "--seed",
    ("data", "batch_size"): "--batch-size",
    ("data", "calibration"): "--data",
    ("data", "training", "path"): "--data",
    ("data", "training", "labels"): "--labels",
    ("data", "evaluation", "path"): "--evaluation",
    ("data", "evaluation", "labels"): "--labels",
    ("data", "evaluation", "metrics"): "--metric",
    ("measure", "dims"): "--dim",
    ("measure", "shapes"): "--shape",
    ("measure", "values"): "--value",
    ("drop_default_inputs",): "--drop-default-inputs",
    ("keep_metadata",): "--keep-metadata",
}
"""Where in a recipe each flag's value belongs."""


def given(sections: Mapping[str, Any]) -> list[Flag]:
    """The flags that gave the values in some sections of a recipe; None and what is empty was not given."""
    data = sections.get("data") or {}
    is_calibration = data.get("evaluation", {}).get("path") == data.get("calibration")
    names = {**_FLAGS, ("data", "evaluation", "path"): "--data"} if is_calibration else _FLAGS
    return [flag for path, name in names.items() for flag in _flags(name, path, sections)]


def _flags(name: str, path: tuple[str, ...], sections: Any) -> Iterator[Flag]:
    """One flag, or one for each entry of a mapping, beside which the recipe's other entries stay."""
    from compress_ops.recipe import Flag

    value = sections
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, dict):
        yield from (Flag(name, (*path, key), entry) for key, entry in value.items())
    elif value not in (None, []):
        yield Flag(name, path, value)


def recipe_from(command: str, overrides: Sequence[str], sections: Mapping[str, Any]) -> LoadedRecipe:
    """The recipe that a command's flags stand for; what is empty or None is left to its defaults."""
    from compress_ops.recipe import recipe_of

    written = said(sections)
    return recipe_of({"version": 1, **written}, command, overrides, given(written))


def data_section(data: str | None, batch_size: int | None, evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe's data section; labels without a metric are scored by top1, on the data where there is no other."""
    from compress_ops.errors import UsageError

    is_scored = evaluation["labels"] or evaluation["metrics"]
    path = evaluation["path"] or (data if is_scored else None)
    if is_scored and path is None:
        raise UsageError("labels and metrics belong to data", hint="give --data or --evaluation DATA with them")
    metrics = evaluation["metrics"] or (["top1"] if evaluation["labels"] else [])
    scored = said({**evaluation, "path": path, "metrics": metrics})
    return said({"batch_size": batch_size, "calibration": data, "evaluation": scored})


def limit_of_loss(scored: object, *, measured: bool, against: str | None = None) -> dict[str, Any]:
    """What a command may cost unless --set says otherwise: of the metric where there is one, else of closeness.

    ``against`` is the file of the model that it may cost less than, where that is not the original.
    """
    limit = {"max_drop": "5%"} if scored else {"min_closeness": 0.9}
    return said({**limit, "against": against}) if measured else {}


def made_up(dim: Sequence[Any] | None, shape: Sequence[Any] | None, value: Sequence[Any] | None) -> dict[str, Any]:
    """The recipe's measure section: --dim, --shape and --value."""
    return said({"dims": dict(dim or []), "shapes": dict(shape or []), "values": dict(value or [])})


def kept(*, drop_default_inputs: bool, keep_metadata: bool) -> dict[str, Any]:
    """What of the model the recipe keeps otherwise than by default."""
    return said({"drop_default_inputs": drop_default_inputs or None, "keep_metadata": keep_metadata or None})


def said(section: Mapping[str, Any]) -> dict[str, Any]:
    """What was given: not None, and not empty."""
    return {name: value for name, value in section.items() if value not in (None, [], {})}


def providers(names: Sequence[str] | None) -> list[Provider]:
    """The providers of --provider; none is the CPU."""
    from compress_ops.runtime import CPU, Provider

    return [Provider(name) for name in names] if names else list(CPU)


def from_here(data: str) -> str:
    """Paths in a recipe are relative to the recipe, those of a flag to the working folder; not all data is a path."""
    from pathlib import Path

    from compress_ops.data.forms.table import is_path

    return str(Path(data).absolute()) if is_path(data) else data
