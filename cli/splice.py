"""Flags that several commands share come to each as one object, though Typer sees them one by one."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from inspect import Parameter, Signature, signature
from typing import Any, get_type_hints


class Flags:
    """A set of flags: its annotated attributes, whose values are the defaults."""

    def __init__(self, **given: Any) -> None:
        self.__dict__.update(given)


@cache
def _flags(of: type[Flags]) -> list[Parameter]:
    hints = get_type_hints(of, include_extras=True)
    return [_parameter(name, hint, getattr(of, name)) for name, hint in hints.items()]


def _parameter(name: str, hint: Any, default: Any) -> Parameter:
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=hint)


def spliced(command: Callable[..., None]) -> Callable[..., None]:
    """The command as Typer shall read it: in the place of a parameter that is a set of flags, those flags."""
    hints, parameters = get_type_hints(command, include_extras=True), signature(command).parameters
    sets = {name: _flags(hints[name]) for name in parameters if _is_set(hints[name])}

    def call(**given: Any) -> None:
        for name, flags in sets.items():
            given[name] = hints[name](**{flag.name: given.pop(flag.name) for flag in flags})
        command(**given)

    listed = [sets.get(name) or [_parameter(name, hints[name], p.default)] for name, p in parameters.items()]
    flags = [flag for several in listed for flag in several]
    call.__name__, call.__doc__ = command.__name__, command.__doc__
    call.__annotations__ = {flag.name: flag.annotation for flag in flags}
    call.__signature__ = Signature(flags)  # type: ignore[attr-defined]
    return call


def _is_set(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Flags)
