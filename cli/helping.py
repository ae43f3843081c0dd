"""The help of a command: its options in groups, in the order in which a command line is thought out, and an example."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

from . import options

_GROUP_OF = {flag: group for group, flags in options.GROUPS.items() for flag in flags}


class Helped(TyperCommand):
    """A command whose help has a section for each group of options; the example is its epilog."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {group: [] for group in options.GROUPS}
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is not None:
                sections[_group(parameter)].append(record)
        for group, records in sections.items():
            if records:
                with formatter.section(group):
                    formatter.write_dl(records)


def _group(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return options.INPUT
    return next((_GROUP_OF[flag] for flag in parameter.opts if flag in _GROUP_OF), options.TASK)


def example(words: str) -> dict[str, Any]:
    """What makes a function a command with such help."""
    return {"cls": Helped, "epilog": f"Example: onnxpress {words}"}
