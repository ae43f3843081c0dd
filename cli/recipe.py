"""onnxpress recipe: begin, check and describe recipes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .helping import example

if TYPE_CHECKING:
    from compress_ops.recipe import LoadedRecipe

recipe = typer.Typer(name="recipe", help="Begin, check and describe recipes.", no_args_is_help=True)


@recipe.command(**example("recipe new model.onnx -o recipe.yaml"))
def new(
    model: Annotated[Path | None, typer.Argument(metavar="MODEL", help="The ONNX model that it is for.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="The file to write.")] = None,
    force: options.Force = False,
) -> None:
    """Write a commented recipe to start from.

    With a model it is short, suits that model, and runs as it is. Without one it lists every section, pass and option.
    It goes to stdout, or to -o FILE.
    """
    from compress_ops.errors import raise_all
    from compress_ops.files.writing import Input, Output, output_faults, write

    from .streams import put

    if out is None:
        put(_new(model, Path()))
        return
    raise_all(output_faults([Output(out)], [Input(model, "the model")] if model is not None else [], force=force))
    write(out, _new(model, out.parent), force=force)


def _new(model: Path | None, folder: Path) -> str:
    from compress_ops.recipe.starter import starter
    from compress_ops.search import suggestion

    return starter() if model is None else suggestion(model, folder)


@recipe.command(**example("recipe check recipe.yaml model.onnx"))
def check(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe (.yaml).")],
    model: Annotated[Path | None, typer.Argument(metavar="MODEL", help="The ONNX model; else the recipe's.")] = None,
    set_: options.Set = None,
    allow_code: options.AllowCode = False,
    as_json: options.AsJson = False,
) -> None:
    """Find every fault of a recipe.

    With a model, also what does not fit it: patterns that match nothing, data, provider.
    """
    from compress_ops.errors import raise_all
    from compress_ops.recipe import read_recipe

    from .show import put_answer
    from .streams import put

    loaded = read_recipe(recipe, set_ or ())
    if model is not None or loaded.recipe.model is not None:
        _check_on_model(loaded, model, allow_code)
    raise_all(loaded.faults)
    steps, auto = len(loaded.recipe.passes), loaded.recipe.auto
    if as_json:
        put_answer({"ok": True, "steps": steps, **({"auto": auto.model_dump()} if auto is not None else {})})
    elif auto is not None:
        put("ok: auto, steps are found when it is run\n")
    else:
        put(f"ok: {steps} {'step' if steps == 1 else 'steps'}\n")


def _check_on_model(loaded: LoadedRecipe, model: Path | None, allow_code: bool) -> None:
    from compress_ops.pipeline import Job
    from compress_ops.pipeline.preflight import prepare

    from .run import model_of

    prepare(Job(loaded, model=model_of(loaded, model), out=None, allow_code=allow_code))


@recipe.command(**example("recipe schema > recipe.schema.json"))
def schema() -> None:
    """Print the JSON Schema of recipes.

    Draft 2020-12, for editors: completion, hover texts, red lines.
    """
    from compress_ops.recipe.schema import recipe_schema

    from .streams import put_json

    put_json(recipe_schema())
