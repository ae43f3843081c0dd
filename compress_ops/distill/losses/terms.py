"""The losses: what each says about one pair of tensors, the student's s and the teacher's t. All are 0 where s = t.

kl             T^2 sum_c p_c (log p_c - log q_c), p = softmax(t / T), q = softmax(s / T)   (Hinton, Vinyals, Dean
               2015, arXiv:1503.02531; T^2 keeps gradients of one size whatever the temperature)
cross_entropy  -log softmax(s)_y for the label y, or -sum_c y_c log softmax(s)_c; the one that needs no teacher
mse            |s - t|^2 / |t|^2: squares in units of the teacher's, so that outputs of every scale count alike; as
               they are where the teacher gives zeros only (on logits: Ba, Caruana 2014, arXiv:1312.6184)
cosine         1 - <s, t> / (max(|s|, 1e-8) max(|t|, 1e-8)) along the last axis; 0 where t is zero: it has no direction
hidden         mse of inner values, those of the student times a learned matrix where widths differ (Romero et al.
               2015, FitNets, arXiv:1412.6550)
attention      of attention probabilities [batch, heads, from, to] the mse (Jiao et al. 2020, TinyBERT,
               arXiv:1909.10351), of feature maps [batch, channels, ...] the squared distance of a(s) and a(t), with
               a(x) = sum_c x_c^2 scaled to length 1 (Zagoruyko, Komodakis 2017, arXiv:1612.03928)
similarity     |G(s) - G(t)|^2 / batch^2, G = the batch's products x_i x_j, each row scaled to length 1 (Tung, Mori
               2019, arXiv:1907.09682)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ...lazy import ir
from .graph import TINY, LossGraph
from .kinds import Kind, Nature

LossName = Literal["kl", "mse", "cross_entropy", "hidden", "cosine", "attention", "similarity"]


@dataclass(frozen=True)
class Pair:
    """A float32 value of the student and what it should be: the teacher's value, or labels.

    ``rank`` is that of the student's value, at least 2; ``axis``, not negative, holds classes or features. ``mask``
    is 1 at positions that count and 0 at padding, of rank ``mask_rank``, its axes being the first ones of the value.
    """

    student: ir.Value
    target: ir.Value
    rank: int
    axis: int
    temperature: ir.Value
    mask: ir.Value | None = None
    mask_rank: int = 0
    probabilities: bool = False
    labels: Literal["numbers", "shares"] | None = None


def kl(g: LossGraph, pair: Pair) -> ir.Value:
    student = g.op("LogSoftmax", g.div(pair.student, pair.temperature), axis=pair.axis)
    scaled = g.div(pair.target, pair.temperature)
    share = g.op("Softmax", scaled, axis=pair.axis)
    ratio = g.sub(g.op("LogSoftmax", scaled, axis=pair.axis), student)
    distance = g.mul(share, g.where(g.is_above(share, 0), ratio, 0))  # 0 log 0 = 0
    mean = g.mean_over_positions(g.sum(distance, [pair.axis]), _mask(g, pair, pair.rank - 1))
    return g.mul(mean, g.square(pair.temperature))


def cross_entropy(g: LossGraph, pair: Pair) -> ir.Value:
    logarithm = g.op("LogSoftmax", pair.student, axis=pair.axis)
    if pair.labels == "shares":
        known = g.where(g.is_above(pair.target, 0), logarithm, 0)
        lost = g.op("Neg", g.sum(g.mul(pair.target, known), [pair.axis]))
        return g.mean_over_positions(lost, _mask(g, pair, pair.rank - 1))
    zero = g.integers([0])
    counted = g.op("Cast", g.op("GreaterOrEqual", pair.target, zero), to=1)  # below 0: padding
    index = g.op("Unsqueeze", g.op("Max", pair.target, zero), g.integers([pair.axis]))
    picked = g.op("Squeeze", g.op("GatherElements", logarithm, index, axis=pair.axis), g.integers([pair.axis]))
    return g.mean_over_positions(g.op("Neg", picked), counted)


def mse(g: LossGraph, pair: Pair) -> ir.Value:
    error = g.mean(g.square(g.sub(pair.student, pair.target)), [pair.axis])
    energy = g.mean(g.square(pair.target), [pair.axis])
    mask = _mask(g, pair, pair.rank - 1)
    whole = g.mean_over_positions(energy, mask)
    return g.div(g.mean_over_positions(error, mask), g.where(g.is_above(whole, TINY), whole, 1))


def cosine(g: LossGraph, pair: Pair) -> ir.Value:
    product = g.sum(g.mul(pair.student, pair.target), [pair.axis])
    lengths = g.mul(g.length(pair.student, [pair.axis]), g.length(pair.target, [pair.axis]))
    angle = g.sub(g.number(1), g.div(product, lengths))
    points = g.is_above(g.sum(g.square(pair.target), [pair.axis]), 0)
    return g.mean_over_positions(g.where(points, angle, 0), _mask(g, pair, pair.rank - 1))


def attention(g: LossGraph, pair: Pair) -> ir.Value:
    if pair.probabilities:
        return mse(g, pair)
    maps = [_scaled(g, g.sum(g.square(value), [1])) for value in (pair.student, pair.target)]
    return g.mean_of_all(g.sum(g.square(g.sub(*maps)), [1]))


def similarity(g: LossGraph, pair: Pair) -> ir.Value:
    mask = _mask(g, pair, pair.rank)
    values = [g.mul(value, mask) if mask is not None else value for value in (pair.student, pair.target)]
    rows = [g.op("Flatten", value, axis=1) for value in values]
    matrices = [_scaled(g, g.op("MatMul", each, g.op("Transpose", each, perm=[1, 0]))) for each in rows]
    return g.mean_of_all(g.square(g.sub(*matrices)))


Natures = Mapping[str, Nature]


def _classes(natures: Natures) -> Sequence[str]:
    """Outputs of classes, else embeddings."""
    return [output for output in natures if natures[output].classes] or [
        output for output in natures if natures[output].kind is Kind.EMBEDDING
    ]


def _vectors(natures: Natures) -> Sequence[str]:
    """Outputs of more than one number."""
    return [output for output in natures if natures[output].kind not in (Kind.NUMBERS, Kind.YES_OR_NO)]


@dataclass(frozen=True)
class Loss:
    """A loss, and which of a student's outputs it speaks of: none, if of pairs of inner tensors alone.

    ``of_pairs``: of inner tensors too, or alone; ``mapped``: times a learned matrix where widths differ.
    ``of_classes``: single numbers that it is asked for are logits. ``of_labels``: it compares with those.
    """

    term: Callable[[LossGraph, Pair], ir.Value]
    outputs: Callable[[Natures], Sequence[str]] | None = list
    of_pairs: bool = False
    mapped: bool = False
    of_classes: bool = False
    of_labels: bool = False


LOSSES: dict[LossName, Loss] = {
    "kl": Loss(kl, _classes, of_classes=True),
    "cross_entropy": Loss(cross_entropy, lambda natures: [*natures][:1], of_classes=True, of_labels=True),
    "mse": Loss(mse),
    "cosine": Loss(cosine, _vectors),
    "hidden": Loss(mse, None, of_pairs=True, mapped=True),
    "attention": Loss(attention, None, of_pairs=True),
    "similarity": Loss(similarity, of_pairs=True),
}
"""Every loss by name. A new one is one function above, and one entry here."""


def _mask(g: LossGraph, pair: Pair, rank: int) -> ir.Value | None:
    """With axes of length 1 at its end, up to the rank that is wanted."""
    if pair.mask is None or pair.mask_rank >= rank:
        return pair.mask
    return g.op("Unsqueeze", pair.mask, g.integers(range(pair.mask_rank, rank)))


def _scaled(g: LossGraph, value: ir.Value) -> ir.Value:
    """Rows of length 1."""
    rows = g.op("Flatten", value, axis=1)
    return g.div(rows, g.length(rows, [1], keepdims=1))
