"""What quantize chooses for an execution provider that is not the CPU: by what it computes fast, not by trials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..providers import Precision, facts_of

Passes = list[dict[str, dict[str, Any]]]
PASSES_OF: Mapping[Precision, Passes] = {
    "float16": [{"to_float16": {}}],
    "int8, QDQ": [{"quantize_static": {}}],
    "int8, symmetric QDQ": [{"quantize_static": {"activation_type": "int8", "portable": False}}],
}


def default_of(provider: str, *, with_data: bool) -> Precision | None:
    """What is chosen for a provider, float16 without data; None for the CPU, where trials decide."""
    fast = facts_of(provider).fast
    return fast if with_data or fast is None else "float16"


def reason_of(provider: str, *, with_data: bool) -> str:
    """The choice in a sentence; empty for the CPU."""
    facts, chosen = facts_of(provider), default_of(provider, with_data=with_data)
    if chosen is None:
        return ""
    lacking = "" if chosen == facts.fast else "; int8 there needs calibration data (--data)"
    return f"{chosen} is chosen for '{provider}': {facts.why}{lacking}"
