"""Write docs/reference.md (every command, pass, option, metric) and docs/house.md from the code; `--check` compares."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path
from typing import Any

import typer
from house import house

from compress_ops.catalogue import PASSES
from compress_ops.cli.main import app
from compress_ops.data import FORMS
from compress_ops.devices import TARGETS
from compress_ops.measure import METRIC_NAMES
from compress_ops.passes import Pass, StepOptions
from compress_ops.recipe import Auto, gradually
from compress_ops.recipe.gradually import NAME as GRADUALLY
from compress_ops.recipe.reference import OptionFacts, model_facts, option_facts

DOCS = Path(__file__).parent
WIDTH = 100


def reference() -> str:
    """The whole page as Markdown."""
    head = ["# Reference", "", "Written from the code by `make docs`; do not edit.", ""]
    return "\n".join([*head, *_passes(), *_recipe(), *_commands()]) + "\n"


def _passes() -> Iterator[str]:
    yield from ("## Passes", "", "| pass | promise | what it does |", "|---|---|---|")
    for operation in PASSES.values():
        yield f"| [{operation.name}](#{operation.name}) | {operation.promises.value} | {operation.summary} |"
    yield from (
        "",
        "A pass that `shrinks` must change something and must not leave the model larger; one that `improves` must",
        "change something; one that `prepares` may change nothing. Every step takes `allow_unchanged: true` and",
        "`allow_larger: true`, which lift that. Patterns (`only`, `skip`) are globs over node names and operator",
        "types.",
        "",
    )
    for operation in PASSES.values():
        yield from _pass(operation)
    yield from (*_gradually(), *_auto())


def _pass(operation: Pass) -> Iterator[str]:
    yield from (f"### {operation.name}", "", operation.doc, "")
    if operation.needs:
        yield from (f"Needs {', '.join(sorted(operation.needs))}.", "")
    yield from ("| option | type | default | meaning |", "|---|---|---|---|")
    for fact in option_facts(operation):
        if fact.name in StepOptions.model_fields:
            continue
        yield _row(fact)
    yield ""


def _row(fact: OptionFacts) -> str:
    cells = (f"`{fact.name}`", fact.kind, f"`{fact.default}`", fact.description)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _gradually() -> Iterator[str]:
    yield from (
        f"### {GRADUALLY}",
        "",
        f"Not a pass, but an entry of `passes`: {cleandoc(gradually.__doc__ or '')}",
        "",
    )
    yield from ("| option | type | default | meaning |", "|---|---|---|---|")
    yield from map(_row, model_facts(gradually.Gradually))
    yield ""


def _auto() -> Iterator[str]:
    yield from ("### auto", "", "`passes: auto` in the place of the list. The section `auto`:", "")
    yield from (f"{Auto.__doc__}", "", "| option | type | default | meaning |", "|---|---|---|---|")
    yield from map(_row, model_facts(Auto))
    yield from ("", "| device | what | provider | forms | why |", "|---|---|---|---|---|")
    for target in TARGETS.values():
        yield f"| `{target.name}` | {target.what} | {target.provider} | {'; '.join(target.forms)} | {target.why} |"
    yield ""


def _recipe() -> Iterator[str]:
    yield from ("## Data and metrics", "", "| data | what |", "|---|---|")
    yield from (f"| `{form.name}` | {form.summary} |" for form in FORMS)
    yield from ("", f"Metrics: {', '.join(f'`{name}`' for name in METRIC_NAMES)}.", "")
    yield from ("The recipe's JSON Schema, for editors: `onnxpress recipe schema`.", "")


def _commands() -> Iterator[str]:
    yield from ("## Commands", "")
    yield from _help(typer.main.get_command(app), "onnxpress", None)


def _help(command: Any, name: str, parent: Any) -> Iterator[str]:
    context = command.context_class(
        command, info_name=name, parent=parent, terminal_width=WIDTH, max_content_width=WIDTH
    )
    yield from (f"### {context.command_path}", "", "```text", context.get_help(), "```", "")
    for inner in sorted(getattr(command, "commands", {})):
        yield from _help(command.commands[inner], inner, context)


PAGES = {"reference.md": reference, "house.md": house}


def main() -> int:
    """Write the pages, or with ``--check`` tell whether they are up to date."""
    old = [DOCS / name for name, write in PAGES.items() if not _is_current(DOCS / name, write())]
    if "--check" not in sys.argv:
        for path in old:
            path.write_text(PAGES[path.name]())
        return 0
    for path in old:
        print(f"docs/{path.name} is out of date; run: make docs", file=sys.stderr)
    return 1 if old else 0


def _is_current(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


if __name__ == "__main__":
    sys.exit(main())
