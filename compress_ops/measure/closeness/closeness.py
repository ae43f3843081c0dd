"""How close a model stays to the one that it was made from, as one number: 1 is the same, and less is further away.

With reference a and candidate b of one output, i the samples:
    likeness   1 - |a_i - b_i|^2 / (2 |a_i|^2): the cosine of the two where they are equally long, and less where not
    mean       the mean likeness
    worst      the likeness that 95 % of the samples reach
    moving     1 - sum |a_i - b_i|^2 / (2 sum |a_i - m|^2), m being the mean of a over all samples: what all samples
               have in common (background, the grid of coordinates, an offset) does not hide what they differ in
    kept       what the output says: labels of distributions and of classes, areas and scores above one half, whole
               numbers, rows of lists; 1 less how much the reference prefers its own answer to the candidate's
    closeness  min(mean, 1 - (1 - worst) / 2, 1 - (1 - moving) / 4, 1 - (1 - kept) / 4)
Of made-up samples, which are all of one kind, the wide outputs have no view of what moves.
The worst samples may lose twice as much as all samples on average, what moves and answers four times as much. One view
that is far off is enough. Outputs of one number a sample have no direction: there the mean is that of what moves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ...arrays import Array
from .scores_beside import ScoresBeside, crossing, within_one

_WORST = 0.05  # the share of samples that may be further away than the worst that counts
_FEWEST = 8  # samples that show what moves
_LEAST_MOVING = 0.01  # of the energy of a wide output counts as moving, however alike the samples are
_LEAST_OF_PROBABILITY = 0.01  # the same of an output between 0 and 1 of one number a sample, as its variance
_MAP = 64  # elements of a sample from which numbers between 0 and 1 are a map of areas, or scores of boxes
_SLACK = {"mean": 1, "worst": 2, "moving": 4, "kept": 4}
_WORDS = {
    "mean": "its mean likeness",
    "worst": "its worst samples",
    "moving": "what differs between samples",
    "kept": "its labels, areas or numbers",
}


@dataclass(frozen=True)
class Closeness:
    """The views of one output (None: not to be had), see the top of this file."""

    mean: float | None
    worst: float | None
    moving: float | None
    kept: float | None

    @property
    def value(self) -> float | None:
        """The closeness; None where no view is to be had."""
        return min((loss for loss, _ in self._views()), default=None)

    @property
    def reason(self) -> str:
        """Which view decided, in words."""
        return min(self._views(), default=(0.0, ""))[1]

    def _views(self) -> Iterator[tuple[float, str]]:
        for name, slack in _SLACK.items():
            view = getattr(self, name)
            if view is not None:
                yield 1 - (1 - view) / slack, _WORDS[name]


@dataclass
class Gathered:
    """What is kept of one output while batches go by; ``alike``: samples are of one kind, such as noise."""

    alike: bool = False
    likeness: list[float] = field(default_factory=list)
    answers: list[float] = field(default_factory=list)
    total: Array | None = None
    energy: float = 0.0
    noise: float = 0.0
    bounded: bool = True
    ragged: bool = False
    beside: ScoresBeside = field(default_factory=ScoresBeside)

    def add(self, a: Array, b: Array, size: int, kept: Array | None = None, *, finite: bool = False) -> None:
        """Take in one batch: float64 arrays of one shape, of ``size`` samples on axis 0, or else of one.

        ``kept`` is False on leading axes where positions are padding; there both arrays hold zeros. ``finite``: all
        numbers of both are known to be.
        """
        rows = len(a) if a.ndim and len(a) == size else 1
        flat, other = a.reshape(rows, -1), b.reshape(rows, -1)
        with np.errstate(all="ignore"):
            error, known = flat - other, flat
            if not finite:
                error = np.where((flat == other) | (np.isnan(flat) & np.isnan(other)), 0.0, error)
                known = np.where(np.isfinite(flat), flat, 0.0)
            signal, noise = (np.einsum("ij,ij->i", x, x) for x in (known, error))
        self.likeness += _likeness(signal, noise).tolist()
        self.energy, self.noise = self.energy + float(signal.sum()), self.noise + float(noise.sum())
        self.bounded = self.bounded and within_one(flat)
        self._add_total(known)
        self.answers += _answers(a, b, rows, kept).tolist()
        if kept is None and a.size >= _MAP * rows:
            self.beside.add(a, b)

    def _add_total(self, rows: Array) -> None:
        total = rows.sum(axis=0)
        if self.total is not None and self.total.shape != total.shape:
            self.ragged = True
        else:
            self.total = total if self.total is None else self.total + total

    def result(self) -> Closeness | None:
        """The views; None where there was no sample."""
        if not self.likeness or self.total is None:
            return None
        kept = float(np.mean(self.answers)) if self.answers else self.beside.kept()
        if self.total.size == 1 and not self.ragged and len(self.likeness) > 1:
            return Closeness(self._moving(), None, None, kept)
        ordered = sorted(self.likeness)
        worst = ordered[math.floor(_WORST * len(ordered))]
        return Closeness(float(np.mean(ordered)), worst, self._moving(), kept)

    def _moving(self) -> float | None:
        count = len(self.likeness)
        if self.total is None or self.ragged or ((self.alike or count < _FEWEST) and self.total.size > 1):
            return None
        common = float(np.square(self.total).sum()) / count
        single = self.total.size == 1
        least = (_LEAST_OF_PROBABILITY * count * self.bounded) if single else _LEAST_MOVING * self.energy
        return float(_likeness(np.array(max(self.energy - common, least)), np.array(self.noise)))


def _likeness(signal: Array, noise: Array) -> Array:
    """1 - noise / (2 signal), at least 0; 1 without noise, 0 where it is not finite."""
    with np.errstate(all="ignore"):
        found = np.where(noise == 0, 1.0, 1 - noise / (2 * signal))
    return np.array(np.clip(np.nan_to_num(found, nan=0.0, posinf=0.0, neginf=0.0), 0.0, 1.0))


def _answers(a: Array, b: Array, samples: int, kept: Array | None) -> Array:
    """By sample or by label, how far the answers of ``a`` are those of ``b``; empty where the output gives none."""
    if a.ndim >= 2 and a.shape[-1] >= 2:
        rows, others = (x[kept] if kept is not None else x.reshape(-1, x.shape[-1]) for x in (a, b))
        if rows.ndim == 2 and _are_distributions(rows):
            return _by_label(rows, others)
        if a.ndim == 2 and kept is None:
            return np.asarray(1 - _regret(rows, others))
    if kept is None and a.size >= _MAP * samples and within_one(a):
        return _areas(*(x.reshape(samples, -1) for x in (a, b)))
    return np.zeros(0)


def _are_distributions(rows: Array) -> bool:
    return bool(rows.size and rows.min() >= 0 and np.allclose(rows.sum(axis=1), 1, atol=1e-3))


def _by_label(a: Array, b: Array) -> Array:
    """1 less the probability that ``a`` gives to its own label beyond that of ``b``'s.

    Where one label (blank, background) has more than half of the rows, the others count on their own.
    """
    mine = a.argmax(axis=1)
    counts = np.bincount(mine)
    kept = 1 - _preferred(a, b)
    rare = mine != counts.argmax()
    return np.asarray(kept[rare] if counts.max() > len(a) / 2 and rare.any() else kept)


def _preferred(a: Array, b: Array) -> Array:
    """How much higher ``a`` scores its own first choice than that of ``b``; all there is where ``b`` is not finite."""
    known = np.isfinite(b).all(axis=1)
    theirs = (b if known.all() else np.nan_to_num(b)).argmax(axis=1)
    lost = a.max(axis=1) - np.take_along_axis(a, theirs[:, None], axis=1)[:, 0]
    return lost if known.all() else np.array(np.where(known, lost, a.max(axis=1) - a.min(axis=1)))


def _regret(a: Array, b: Array) -> Array:
    """The same as a share of what the first choice stands above the average score."""
    with np.errstate(all="ignore"):
        above = a.max(axis=1) - a.mean(axis=1)
        found = np.where(above > 0, _preferred(a, b) / above, 0.0)
    return np.array(np.clip(np.nan_to_num(found), 0.0, 1.0))


def _areas(a: Array, b: Array) -> Array:
    """1 less what crosses one half, as a share of all that is above it in either; without such an area nothing."""
    lost, whole = (part.sum(axis=1) for part in crossing(a, b))
    return np.array(1 - lost[whole > 0] / whole[whole > 0])
