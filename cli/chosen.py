"""What commands share that find passes themselves: none is told them, and the recipe that was found can be kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from compress_ops.files.writing import Output
    from compress_ops.recipe import Step
    from compress_ops.report.report import Report

    from . import options


def refuse_passes(command: str, overrides: Sequence[str] | None, hint: str) -> None:
    """A fault where --set tells passes."""
    from compress_ops.errors import UsageError

    for override in overrides or ():
        if override.startswith("passes"):
            raise UsageError(f"--set {override}: {command} chooses the passes itself", hint=hint)


def fairer_judge(data: dict[str, Any], asked: options.Asked) -> str:
    """What is to be said where accuracy is judged on the data that the model is fitted to; else nothing."""
    is_scored = data.get("evaluation", {}).get("path") is not None
    if not is_scored or asked.evaluation is not None:
        return ""
    return "scored on --data, which the model is fitted to; --evaluation DATA is a fairer judge"


def others(recipe_out: Path | None) -> list[Output]:
    """The recipe, as something that is written besides the model."""
    from compress_ops.files.writing import Output

    return [Output(recipe_out, "--recipe-out")] if recipe_out is not None else []


def keeping(path: Path | None, sections: Iterable[str], doing: options.Doing) -> Callable[[Report], None] | None:
    """What writes the chosen recipe, with these sections beside its passes, its paths relative to where it lies."""
    if path is None:
        return None

    def keep(report: Report) -> None:
        from compress_ops.catalogue import PASSES
        from compress_ops.files.writing import write
        from compress_ops.recipe import step_from

        plain = report.plain(path.parent)["recipe"]
        steps = [step_from(PASSES[name], options) for step in plain["passes"] for name, options in step.items()]
        write(path, recipe_text({name: plain.get(name) for name in sections}, steps), force=doing.force)

    return keep


def recipe_text(sections: dict[str, Any], passes: Sequence[Step]) -> str:
    """A recipe as a person would write it: what is empty, or a default of a pass, is left out."""
    from compress_ops.recipe import dump_recipe

    from .flags import said

    return dump_recipe({"version": 1, **said(sections), "passes": [step.written() for step in passes]})
