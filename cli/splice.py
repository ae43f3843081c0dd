"""Flags that several commands share come to each as one object, though Typer sees them one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_type_hints


class Flags:
    """A set of flags: its annotated attributes, whose values are the defaults."""

    def __init__(self, **given: Any) -> None:
        self.__dict__.update(given)


def spliced(command: Callable[..., None]) -> Callable[..., None]:
    """The command as Typer shall read it: in the place of a parameter that is a set of flags, those flags."""
    from inspect import Parameter, Signature, signature

    hints, parameters = get_type_hints(command, include_extras=True), signature(command).parameters
    sets = {name: get_type_hints(hints[name], include_extras=True) for name in parameters if _is_set(hints[name])}

    def call(**given: Any) -> None:
        shared = {name: hints[name](**{flag: given.pop(flag) for flag in flags}) for name, flags in sets.items()}
        command(**given, **shared)

    def flags_of(name: str, default: Any) -> dict[str, tuple[Any, Any]]:
        if name not in sets:
            return {name: (hints[name], default)}
        return {flag: (hint, getattr(hints[name], flag)) for flag, hint in sets[name].items()}

    flags = {flag: told for name, p in parameters.items() for flag, told in flags_of(name, p.default).items()}
    call.__name__, call.__doc__, call.__module__ = command.__name__, command.__doc__, command.__module__
    call.__annotations__ = {flag: hint for flag, (hint, _) in flags.items()}
    call.__signature__ = Signature(  # type: ignore[attr-defined]
        [
            Parameter(flag, Parameter.KEYWORD_ONLY, default=value, annotation=hint)
            for flag, (hint, value) in flags.items()
        ]
    )
    return call


def _is_set(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Flags)
