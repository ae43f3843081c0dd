"""Every name and text of a model is UTF-8: protobuf hands what is not back as bytes, which nothing expects."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from functools import cache
from typing import Any, cast


def text_faults(message: Any) -> Iterator[str]:
    """Faults of a protobuf message and of all that it holds."""
    texts, messages = _fields(message.DESCRIPTOR)
    for name, repeated in texts:
        value = getattr(message, name)
        for text in value if repeated else (value,):
            if isinstance(text, bytes):
                yield f"{type(message).__name__}.{name} {text[:40]!r} is not UTF-8 text"
    for name, repeated in messages:
        one = () if repeated or not message.HasField(name) else (getattr(message, name),)
        for inner in getattr(message, name) if repeated else one:
            yield from text_faults(inner)


@cache
def _fields(descriptor: Hashable) -> tuple[list[tuple[str, bool]], list[tuple[str, bool]]]:
    """The fields of a kind of message that hold text, and those that hold messages; each with whether it is a list."""
    fields = cast(Any, descriptor).fields
    texts, messages = (
        [(field.name, field.is_repeated) for field in fields if field.type == wanted]
        for wanted in (fields[0].TYPE_STRING, fields[0].TYPE_MESSAGE)
    )
    return texts, messages
