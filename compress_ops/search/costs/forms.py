"""The forms that a layer can take, each written by one pass: a new form is one entry here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ...devices import Target
from ...quantize.int8.placement import ARITHMETIC, MOVING

_BARE = {"float16"}  # not worth it where no device says so: on CPUs 8 bits are smaller, and no slower


@dataclass(frozen=True, eq=False)
class Form:
    """``operation`` with ``options`` writes it; operators of the types ``along``, between such layers, go with them."""

    name: str
    operation: str
    options: Mapping[str, Any] = field(default_factory=dict)
    along: frozenset[str] = frozenset()

    def step(self, only: list[str]) -> dict[str, dict[str, Any]]:
        """The step of a recipe that gives this form to the nodes that patterns name."""
        return {self.operation: {**self.options, "only": only}}


FLOAT = "float"

FORMS = (
    Form("low rank, energy 0.99", "low_rank", {"energy": 0.99}),
    Form("low rank, energy 0.95", "low_rank", {"energy": 0.95}),
    Form("int8 static", "quantize_static", {"allow_larger": True}, ARITHMETIC | MOVING),  # scales may outweigh a weight
    Form("int8 dynamic", "quantize_dynamic"),
    Form("8-bit weights", "quantize_weights", {"bits": 8, "storage": "decoded", "method": "hqq"}),
    Form("8-bit weights, packed kernel", "quantize_weights", {"bits": 8, "method": "hqq"}),
    Form("4-bit weights", "quantize_weights", {"bits": 4, "storage": "decoded", "method": "hqq"}),
    Form("4-bit weights, packed kernel", "quantize_weights", {"bits": 4, "method": "hqq"}),
    Form("2-bit weights", "quantize_weights", {"bits": 2, "storage": "decoded", "method": "hqq"}),
    Form("codebook of 64", "cluster_weights", {"clusters": 64}),
    Form("codebook of 16", "cluster_weights", {"clusters": 16}),
    Form("float16", "to_float16"),
)
"""In the order in which their steps stand in a recipe."""


def forms_for(target: Target | None) -> list[Form]:
    """The forms that are worth it on a device, with what steps must carry there; without one what any CPU runs."""
    if target is None:
        return [form for form in FORMS if form.name not in _BARE]
    allowed = [form for form in FORMS if form.name in target.forms]
    return [replace(form, options={**form.options, **target.options.get(form.operation, {})}) for form in allowed]
