"""onnxpress inspect: what a model is made of, and what could be compressed."""

from __future__ import annotations

from typing import Annotated

import typer

from . import options


def inspect(
    model: options.ModelPath,
    dim: options.Dims = None,
    nodes: Annotated[bool, typer.Option("--nodes", help="List every node, so that patterns can be written.")] = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Show what a model is made of and could save.

    Parameters, bytes, FLOPs, operators, precision. Nothing is written: each pass that shrinks a model without data is
    tried, with its defaults, on a copy in memory.
    """
    from compress_ops.measure.inspection import inspect_model
    from compress_ops.measure.inspection_page import inspection_page
    from compress_ops.measure.report import plain
    from compress_ops.pipeline.prospects import prospects

    from .show import put_json, put_page

    found = inspect_model(model, dict(dim or []))
    tried = [] if quiet else prospects(model)
    if as_json:
        put_json({**plain(found), "prospects": plain(tried)})
    else:
        put_page(inspection_page(found, tried, nodes=nodes, verbose=verbose), quiet=quiet)
