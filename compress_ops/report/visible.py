"""Text that others chose (names of nodes and files, keys of recipes), made safe to be shown.

A terminal obeys control characters, an override of the writing direction shows a name as another one, and GitHub runs
lines that begin with ``::`` as commands. Every door by which text leaves applies this, nobody else has to.
"""

from __future__ import annotations

import re

_COMMAND = re.compile(r"(?m)^(\s*):(?=:)")
_OLD_COMMAND = re.compile(r"##(?=\[)")


def visible(text: str, *, keep: str = "") -> str:
    """Characters that are not printed as such, line breaks included, become escapes such as ``\\n`` and ``\\u202e``.

    ``keep`` holds those that stay.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in keep else _escape(one) for one in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


def without_commands(text: str) -> str:
    """Lines that a log of GitHub Actions would take for its own commands (``::error::``, ``##[error]``) are not."""
    return _OLD_COMMAND.sub(r"#\\#", _COMMAND.sub(r"\1\\:", text))
