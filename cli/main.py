"""The command ``onnxpress``: the list of its commands, one file each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from .auto import auto
from .bench import bench
from .compare import compare
from .distill import distill
from .guard import Guarded
from .helping import example
from .inspect import inspect
from .passes import passes
from .prune import prune
from .quantize import quantize
from .recipe import recipe
from .run import run
from .splice import spliced

app = typer.Typer(
    name="onnxpress",
    cls=Guarded,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMANDS: dict[Callable[..., None], str] = {
    run: "run recipe.yaml model.onnx -o small.onnx",
    auto: "auto model.onnx --data calibration.npz --max-size 25%",
    quantize: "quantize model.onnx --data calibration.npz",
    prune: "prune model.onnx --ratio 30% --data calibration.npz",
    distill: "distill small.onnx --teacher model.onnx --data training.npz",
    compare: "compare model.onnx small.onnx --data test.npz",
    bench: "bench model.onnx small.onnx --threads 4",
    inspect: "inspect model.onnx --shape image=1,3,48,192",
    passes: "passes quantize_static",
}
"""Each with an example."""

for command, words in COMMANDS.items():
    app.command(**example(words))(spliced(command))
app.add_typer(recipe)


def _version(asked: bool) -> None:
    if asked:
        from compress_ops.measure.environment import tool_version

        typer.echo(f"onnxpress {tool_version()}")
        raise typer.Exit


@app.callback()
def onnxpress(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Compress ONNX models by recipe, and prove the result."""


if __name__ == "__main__":
    app()
