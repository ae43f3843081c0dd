"""What a user should know of inputs with a default: as weights they would be compressed, as inputs they are not.

Some exporters list every weight as an input (PyTorch's ``keep_initializers_as_inputs``), and whoever runs the model may
then feed another. That is kept until it is given up by ``--drop-default-inputs``.
"""

from __future__ import annotations

from ..model import Model
from ..report import units

_HOW = "--drop-default-inputs (drop_default_inputs: true in a recipe) makes weights of them"


def defaults_note(model: Model) -> str:
    """How much lies in defaults; empty where no input has one."""
    count = len(model.defaults)
    held = f"{units.things(count, 'input')} with a default, {units.size(model.default_bytes())}"
    return f"Not compressed, since callers may feed something else: {held}; {_HOW}." if count else ""


def dropped_note(count: int) -> str:
    """How many inputs with a default became weights; empty where none did."""
    return (
        f"{units.things(count, 'input')} with a default became weights; callers feed them no longer." if count else ""
    )
