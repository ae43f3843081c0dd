"""What a scan finds: how far the outputs move when one part of a model alone is cut or quantized.

The noise of a part is sum (a - b)^2 / sum a^2 over all outputs' elements, of the output that it disturbs most; a is
what the model gives as it is, b what it gives with that one part changed. Errors of independent parts add up, so
the share of a part in the sum of all is about its share in the noise of changing all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .closeness.fidelity import Fidelity, OutputFidelity

_HALF = 0.5  # of all noise: what the parts that stand out must carry
_FEW = 0.25  # of all parts: how many may carry it, else the noise is spread evenly


@dataclass(frozen=True)
class Part:
    """A group of channels or a layer; a ``skip`` that matches any of its ``nodes`` leaves it alone.

    ``parameters`` are those that go, or that are stored in fewer bits; ``saved`` counts bytes.
    """

    nodes: list[str]
    what: str
    parameters: int
    saved: int

    @property
    def name(self) -> str:
        return self.nodes[0]


@dataclass(frozen=True)
class Effect:
    """A part and what changing it alone does to the outputs: to the worst of them, each figure by itself.

    ``noise`` is None where outputs took NaN or infinite values that they do not have otherwise; the part then counts
    as the worst there is. Figures are None where no output has them.
    """

    part: Part
    noise: float | None
    cosine: float | None
    sqnr_db: float | None
    top1_agreement: float | None


@dataclass(frozen=True)
class Sensitivity:
    """A scan: the parts, most sensitive first, and those that could not be looked at with the reason.

    ``step`` is the recipe step that changes all parts; its ``skip`` holds those that stand out.
    """

    model: str
    samples: int
    data: str
    step: dict[str, dict[str, Any]]
    effects: list[Effect]
    declined: Mapping[str, str]

    @property
    def skipped(self) -> list[str]:
        """The patterns of the step's ``skip``."""
        return list(next(iter(self.step.values())).get("skip", []))


def effect_of(part: Part, found: Fidelity, model: str) -> Effect:
    """What fidelity says of the model with this part changed."""
    outputs = list(found.models[model].values())
    noises = [_noise(output) for output in outputs]
    return Effect(
        part,
        noise=None if None in noises else max((noise for noise in noises if noise is not None), default=0.0),
        cosine=_least(1.0 if output.identical else output.cosine for output in outputs),
        sqnr_db=_least(output.sqnr_db for output in outputs),
        top1_agreement=_least(output.top1_agreement for output in outputs),
    )


def _noise(output: OutputFidelity) -> float | None:
    """Noise over signal; of integers, the share of elements that differ; None where numbers became NaN or infinite."""
    if output.identical:
        return 0.0
    if output.sqnr_db is not None:
        return float(10 ** (-output.sqnr_db / 10))
    return None if output.not_finite > output.reference_not_finite else 1 - output.equal_share


def _least(figures: Iterable[float | None]) -> float | None:
    return min((figure for figure in figures if figure is not None), default=None)


def most_sensitive_first(effects: Sequence[Effect]) -> list[Effect]:
    return sorted(effects, key=lambda effect: -_weight(effect))


def _weight(effect: Effect) -> float:
    return float("inf") if effect.noise is None else effect.noise


def standing_out(effects: Sequence[Effect]) -> list[Effect]:
    """The fewest parts that carry half of all noise, if they are a quarter of all parts at most; else none stands out.

    A part that turns outputs into NaN or infinite values always does.
    """
    ordered = most_sensitive_first(effects)
    broken = [effect for effect in ordered if effect.noise is None]
    sound = [effect for effect in ordered if effect.noise is not None]
    left, number = _HALF * sum(map(_weight, sound)), 0
    while left > 0:
        left, number = left - _weight(sound[number]), number + 1
    return [*broken, *(sound[:number] if number <= _FEW * len(ordered) else [])]
