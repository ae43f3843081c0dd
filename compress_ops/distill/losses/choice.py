"""Which losses: named by the user, by a preset, or by what the outputs are.

``soft+hard``  b T^2 KL + (1 - b) CE   (Hinton, Vinyals, Dean 2015)
``kl+l2``      b T^2 KL + (1 - b) MSE of the logits
where nothing is said: KL for probabilities, of yes or no too; KL + MSE for scores, which is right for logits and for
any other numbers; MSE + cosine for embeddings; MSE for numbers. Of several outputs each brings its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from ...errors import PassError
from .kinds import Kind, Nature
from .terms import LOSSES, LossName

Preset = Literal["soft+hard", "kl+l2"]
Weights = dict[LossName, float]

_USUAL: dict[Kind, tuple[LossName, ...]] = {
    Kind.PROBABILITIES: ("kl",),
    Kind.YES_OR_NO: ("kl",),
    Kind.SCORES: ("kl", "mse"),
    Kind.EMBEDDING: ("mse", "cosine"),
    Kind.NUMBERS: ("mse",),
}


def chosen_weights(
    loss: Mapping[LossName, float] | Preset | None, blend: float, natures: Mapping[str, Nature]
) -> Weights:
    """The weight of each loss; those of weight 0 are left out."""
    match loss:
        case None:
            wanted = {name for nature in natures.values() for name in _USUAL[nature.kind]}
            return {name: 1.0 for name in LOSSES if name in wanted}
        case "soft+hard":
            weights: Weights = {"kl": blend, "cross_entropy": 1 - blend}
        case "kl+l2":
            weights = {"kl": blend, "mse": 1 - blend}
        case _:
            weights = dict(loss)
    left = {name: weight for name, weight in weights.items() if weight}
    if not left:
        raise PassError("every loss has weight 0", hint="give one of them a weight above 0")
    return left


def asks_for_classes(loss: Mapping[LossName, float] | Preset | None) -> bool:
    """Whether a loss that is named speaks of classes: single numbers are then logits."""
    return isinstance(loss, str) or any(LOSSES[name].of_classes and share for name, share in (loss or {}).items())
