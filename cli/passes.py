"""onnxpress passes: the reference of all passes, made from their code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options

if TYPE_CHECKING:
    from compress_ops.passes import Pass


def passes(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A pass; none lists them all.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """List all passes, or show one with its options."""
    if name is None:
        _show_all(as_json)
    else:
        _show_one(_named(name), as_json)


def _named(name: str) -> Pass:
    from compress_ops.catalogue import PASSES
    from compress_ops.errors import UsageError, did_you_mean

    if name not in PASSES:
        raise UsageError(f"unknown pass '{name}'{did_you_mean(name, PASSES)}", hint=f"passes: {', '.join(PASSES)}")
    return PASSES[name]


def _show_all(as_json: bool) -> None:
    from compress_ops.catalogue import PASSES
    from compress_ops.report.page import Page, Table

    from .show import put_answer, put_page

    if as_json:
        put_answer({"passes": [_plain(operation) for operation in PASSES.values()]})
        return
    rows = [[operation.name, operation.promises.value, operation.summary] for operation in PASSES.values()]
    notes = [
        "shrinks: changing nothing, or making the model larger, is a fault. improves: changing nothing is a fault.",
        "One pass with its options: onnxpress passes NAME",
    ]
    put_page(Page("Passes", f"{len(rows)} passes.", [Table("Passes", ["Pass", "Promise", "Summary"], rows, notes)]))


def _show_one(operation: Pass, as_json: bool) -> None:
    from compress_ops.recipe.reference import option_facts
    from compress_ops.report.page import Page, Table

    from .show import put_answer, put_page

    if as_json:
        put_answer(_plain(operation))
        return
    needs = ", ".join(sorted(operation.needs)) or "nothing"
    facts = [("promises", operation.promises.value), ("needs", needs)]
    rows = [[option.name, option.kind, option.default, option.description] for option in option_facts(operation)]
    about = operation.doc.partition("\n\n")[2]
    tables = [
        Table("", ["", ""], facts),
        *([Table("About", notes=about.replace("\n", " ").split("  "))] if about else []),
        Table("Options", ["Option", "Type", "Default", "Description"], rows),
    ]
    put_page(Page(operation.name, f"{operation.name}: {operation.summary}", tables))


def _plain(operation: Pass) -> dict[str, Any]:
    from dataclasses import asdict

    from compress_ops.recipe.reference import option_facts

    return {
        "name": operation.name,
        "promises": operation.promises.value,
        "needs": sorted(operation.needs),
        "doc": operation.doc,
        "options": [asdict(option) for option in option_facts(operation)],
    }
