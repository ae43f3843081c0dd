"""Flags as parts of a recipe: what they give wins over what the recipe says, and its faults name them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from compress_ops.pipeline import Job
    from compress_ops.recipe import Flag, LoadedRecipe
    from compress_ops.runtime import Provider

    from . import options

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
_FLAGS_OF_AUTO = {
    ("data", "training", "path"): "--training",
    ("budget", "max_size"): "--max-size",
    ("budget", "min_speedup"): "--min-speedup",
    ("budget", "max_drop"): "--max-drop",
    ("budget", "min_closeness"): "--min-closeness",
    ("auto", "device"): "--device",
    ("auto", "purpose"): "--for",
    ("auto", "minutes"): "--minutes",
    ("auto", "trials"): "--trials",
    ("auto", "retrain"): "--retrain",
    ("auto", "storage"): "--storage",
}
"""The same, of flags that auto alone has."""


def given(sections: Mapping[str, Any]) -> list[Flag]:
    """The flags that gave the values in some sections of a recipe; None and what is empty was not given."""
    data = sections.get("data") or {}
    is_calibration = data.get("evaluation", {}).get("path") == data.get("calibration")
    names = _FLAGS | (_FLAGS_OF_AUTO if sections.get("passes") == "auto" else {})
    names |= {("data", "evaluation", "path"): "--data"} if is_calibration else {}
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


def recipe_from(command: str, overrides: Sequence[str] | None, sections: Mapping[str, Any]) -> LoadedRecipe:
    """The recipe that a command's flags stand for; what is empty or None is left to its defaults."""
    from compress_ops.recipe import recipe_of

    written = said(sections)
    return recipe_of({"version": 1, **written}, command, overrides or (), given(written))


def sections_of(
    asked: options.Machine, data: Mapping[str, Any] | None = None, doing: options.Doing | None = None
) -> dict[str, Any]:
    """The recipe's sections that flags shared by commands give; what was not given is None or empty."""
    kept = ("drop_default_inputs", "keep_metadata")
    return {
        "provider": asked.provider,
        "threads": asked.threads,
        "seed": asked.seed,
        **{name: True for name in kept if getattr(doing, name, False)},
        "data": data or {},
        "measure": made_up(asked),
    }


def data_section(asked: options.Asked) -> dict[str, Any]:
    """The recipe's data section; labels without a metric are scored by top1, on the data where there is no other."""
    from compress_ops.errors import UsageError

    is_scored = asked.labels or asked.metric
    path = asked.evaluation or (asked.data if is_scored else None)
    if is_scored and path is None:
        raise UsageError("labels and metrics belong to data", hint="give --data or --evaluation DATA with them")
    metrics = asked.metric or (["top1"] if asked.labels else [])
    scored = said({"path": path, "labels": asked.labels, "metrics": metrics})
    return said({"batch_size": asked.batch_size, "calibration": asked.data, "evaluation": scored})


def job_of(
    loaded: LoadedRecipe, model: Path, name: str, asked: options.Written, doing: options.Doing, **more: Any
) -> Job:
    """What is to be done; ``name`` is what the result is called where no name is given for it."""
    from compress_ops.pipeline import Job

    from .execute import output

    return Job(
        loaded,
        model=model,
        out=output(asked.out, model, name, dry_run=doing.dry_run),
        force=doing.force,
        measure=not doing.no_measure,
        check_steps=doing.check_steps,
        allow_code=doing.allow_code,
        **more,
    )


def limit_of_loss(scored: object, *, measured: bool, against: str | None = None) -> dict[str, Any]:
    """What a command may cost unless --set says otherwise: of the metric where there is one, else of closeness.

    ``against`` is the file of the model that it may cost less than, where that is not the original.
    """
    limit = {"max_drop": "5%"} if scored else {"min_closeness": 0.9}
    return said({**limit, "against": against}) if measured else {}


def made_up(asked: options.Machine) -> dict[str, Any]:
    """The recipe's measure section: --dim, --shape and --value."""
    named = {"dims": asked.dim, "shapes": asked.shape, "values": asked.value}
    return said({name: dict(pairs or []) for name, pairs in named.items()})


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
