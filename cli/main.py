"""The command ``onnxpress``: the list of its commands, one file each."""

from __future__ import annotations

from typing import Annotated

import typer

from .bench import bench
from .compare import compare
from .distill import distill
from .guard import Guarded
from .inspect import inspect
from .passes import passes
from .prune import prune
from .quantize import quantize
from .recipe import recipe
from .run import run

app = typer.Typer(
    name="onnxpress",
    cls=Guarded,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMANDS = (run, quantize, prune, distill, compare, bench, inspect, passes)

for command in COMMANDS:
    app.command()(command)
app.add_typer(recipe)


def _version(asked: bool) -> None:
    if asked:
        from compress_ops.measure.report import tool_version

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
