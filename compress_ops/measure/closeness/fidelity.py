"""How close each model's outputs are to the first model's, without labels; sums only, so that batches stream.

With reference a and candidate b, elements i, and p, q the softmax over the last axis of a and b:
    cosine          mean over samples of a.b / (|a| |b|)
    SQNR            10 log10(sum a^2 / sum (a - b)^2), in dB: the signal to quantization noise ratio
    KL divergence   mean over last-axis rows of sum p log(p/q), in nats (Kullback & Leibler 1951)
    top-1 agreement share of last-axis rows whose largest element is in the same place
Positions that the inputs mark as padding do not count (see padding.py).
Batches of which the models give different numbers of rows (boxes that are kept) count for closeness alone (see
rows_in_common.py).
Equal infinities and a NaN in the same place of both count as no difference; any other NaN or infinity makes the
figures that it enters None, and is counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...arrays import Array
from ...data import Batch
from ...errors import DataError
from ...progress import Progress, silent
from ...runtime import Session
from ..intervals import finite
from ..quality import decibels
from .closeness import Closeness, Gathered
from .padding import kept_positions
from .rows_in_common import in_common, row_axis


@dataclass(frozen=True)
class OutputFidelity:
    """One output of one model against the first model's.

    ``sqnr_db`` is None too where there is no noise; ``identical`` tells. Rows are None for outputs without a last
    axis of at least 2; of outputs that are no floats only ``equal_share`` is given. ``not_finite`` and
    ``reference_not_finite`` count the NaN and infinities of both. ``closeness`` is what limits are held against.
    """

    elements: int
    identical: bool
    equal_share: float
    cosine: float | None
    sqnr_db: float | None
    max_difference: float | None
    kl_divergence: float | None
    top1_agreement: float | None
    not_finite: int
    reference_not_finite: int
    closeness: Closeness | None = None


@dataclass(frozen=True)
class Fidelity:
    """By model (all but the first), then by output, over ``samples`` samples; ``padding``: positions left out."""

    samples: int
    models: dict[str, dict[str, OutputFidelity]]
    padding: int = 0

    def closeness(self, model: str) -> tuple[float | None, str]:
        """How close the worst output of a model is, and what of it decided; None where no output can be compared."""
        known = [(output.closeness, name) for name, output in self.models[model].items() if output.closeness]
        views = [(close.value, close.reason, name) for close, name in known if close.value is not None]
        if not views:
            return None, ""
        value, reason, name = min(views)
        return value, f"{reason} of output '{name}'"


def compare_fidelity(
    sessions: Mapping[str, Session],
    batches: Iterable[Batch],
    *,
    outputs: Mapping[str, str] | None = None,
    made_up: bool = False,
    figures: bool = True,
    progress: Progress = silent,
    total: int | None = None,
) -> Fidelity:
    """Run all models on the same batches, ``total`` of them, and compare their outputs with the first model's.

    ``outputs`` tells which output of the first model belongs to each of the others'; absent, names must be the same.
    Of samples that are ``made_up`` what differs between them says nothing. Without ``figures`` closeness is all that is
    told of floats, in a third of the time.
    """
    reference, *others = sessions
    if outputs is None:
        _check_same_outputs(sessions)
    names = outputs or {}
    fixed = _fixed_axes(sessions[reference])
    sums: dict[str, dict[str, _Sums]] = {model: {} for model in others}
    samples = padding = 0
    for batch in progress(batches, "comparing outputs", total):
        samples += batch.size
        kept = kept_positions(batch.feeds)
        padding += 0 if kept is None else int((~kept).sum())
        expected = sessions[reference].run(sessions[reference].taken(batch.feeds))
        for model in others:
            for output, value in sessions[model].run(batch.feeds).items():
                name = names.get(output, output)
                fresh = _Sums(fixed.get(name, frozenset()), Gathered(made_up), figures)
                so_far = sums[model].setdefault(output, fresh)
                so_far.add(expected[name], value, batch.size, kept, f"output '{output}' of {model}")
    if not samples:
        raise DataError("there are no samples to compare outputs on")
    return Fidelity(
        samples, {model: {name: s.result() for name, s in of.items()} for model, of in sums.items()}, padding
    )


def _check_same_outputs(sessions: Mapping[str, Session]) -> None:
    (reference, first), *others = sessions.items()
    expected = {port.name for port in first.outputs}
    for model, session in others:
        found = {port.name for port in session.outputs}
        if found != expected:
            raise DataError(
                f"{model} has outputs {', '.join(sorted(found))}; {reference} has {', '.join(sorted(expected))}",
                hint="models can be compared if their outputs have the same names",
            )


def _fixed_axes(session: Session) -> dict[str, frozenset[int]]:
    """By output the axes of which the data does not decide the size: it is a number, or that of an input's axis."""
    given = {size for port in session.inputs for size in port.shape if size is not None}
    return {
        port.name: frozenset(axis for axis, size in enumerate(port.shape) if isinstance(size, int) or size in given)
        for port in session.outputs
    }


@dataclass
class _Sums:
    """What is kept of one output while batches go by; ``fixed`` axes have one size in all models."""

    fixed: frozenset[int] = frozenset()
    gathered: Gathered = field(default_factory=Gathered)
    figures: bool = True
    elements: int = 0
    equal: int = 0
    samples: int = 0
    rows: int = 0
    cosine: float = 0.0
    signal: float = 0.0
    noise: float = 0.0
    difference: float = 0.0
    divergence: float = 0.0
    agreeing: int = 0
    not_finite: int = 0
    reference_not_finite: int = 0
    is_float: bool = True
    in_common: list[float] = field(default_factory=list)

    def add(self, reference: Any, candidate: Any, size: int, kept: Array | None, what: str) -> None:
        """Take in one batch of an output; a sequence or map counts as the tensors in it."""
        expected, found = _tensors(reference), _tensors(candidate)
        pairs = [*zip(expected, found, strict=False)]
        axes = [row_axis(a, b) for a, b in pairs]
        unlike = (a.shape != b.shape and (x is None or x in self.fixed) for x, (a, b) in zip(axes, pairs, strict=True))
        if len(expected) != len(found) or any(unlike):
            shapes = " instead of ".join(", ".join(str(list(t.shape)) for t in side) for side in (found, expected))
            raise DataError(f"{what} has shape {shapes}", hint="outputs of different shapes cannot be compared")
        for axis, (a, b) in zip(axes, pairs, strict=True):
            if axis is not None:
                self.is_float = self.is_float and a.dtype.kind == "f"
                self.in_common.append(in_common(a, b, axis))
                continue
            positions = kept if kept is not None and a.shape[: kept.ndim] == kept.shape else None
            self._add_tensor(a, b, size, positions)

    def _add_tensor(self, a: Array, b: Array, size: int, kept: Array | None) -> None:
        self.elements += a.size
        self.is_float = self.is_float and a.dtype.kind == "f" and b.dtype.kind == "f"
        if not self.is_float:
            self.equal += int((a == b).sum())
        elif a.size:
            finite = bool(np.isfinite(a).all() and np.isfinite(b).all())
            a, b = a.astype("float64"), b.astype("float64")
            if kept is not None:
                a[~kept] = b[~kept] = 0
            self.gathered.add(a, b, size, kept, finite=finite)
            if self.figures:
                self._add_figures(a, b, size, kept)

    def _add_figures(self, a: Array, b: Array, size: int, kept: Array | None) -> None:
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        self.equal += int(same.sum())
        self.not_finite += int((~np.isfinite(b)).sum())
        self.reference_not_finite += int((~np.isfinite(a)).sum())
        with np.errstate(invalid="ignore", over="ignore"):
            error = np.where(same, 0, a - b)
            self.signal, self.noise = self.signal + float((a * a).sum()), self.noise + float((error * error).sum())
            self.difference = float(np.maximum(self.difference, abs(error).max()))  # keeps NaN, as max() does not
            self._add_samples(*(x.reshape(size if x.ndim and len(x) == size else 1, -1) for x in (a, b)))
            if kept is not None:
                a, b = a[kept], b[kept]
            if a.ndim and a.shape[-1] >= 2:
                self._add_rows(*(x.reshape(-1, x.shape[-1]) for x in (a, b)))

    def _add_samples(self, a: Array, b: Array) -> None:
        self.samples += len(a)
        self.cosine += float(_cosines(a, b).sum())

    def _add_rows(self, a: Array, b: Array) -> None:
        self.rows += len(a)
        comparable = ~np.isnan(b).any(axis=1)  # argmax takes a NaN for the largest
        self.agreeing += int((comparable & (a.argmax(axis=1) == b.argmax(axis=1))).sum())
        log_p, log_q = _log_softmax(a), _log_softmax(b)
        p = np.exp(log_p)
        self.divergence += float(np.where(p > 0, p * (log_p - log_q), p).sum())

    def result(self) -> OutputFidelity:
        known = self.is_float and self.elements > 0 and self.figures
        return OutputFidelity(
            elements=self.elements,
            identical=self.equal == self.elements and not self.in_common,
            equal_share=self.equal / self.elements if self.elements else 1.0,
            cosine=finite(self.cosine / self.samples) if known else None,
            sqnr_db=finite(decibels(self.signal, self.noise)) if known else None,
            max_difference=finite(self.difference) if known else None,
            kl_divergence=finite(self.divergence / self.rows) if known and self.rows else None,
            top1_agreement=self.agreeing / self.rows if known and self.rows else None,
            not_finite=self.not_finite,
            reference_not_finite=self.reference_not_finite,
            closeness=self._closeness(),
        )

    def _closeness(self) -> Closeness | None:
        """Of outputs that are no floats the share of equal elements is all there is; of lists, what is in common."""
        if self.in_common:
            alike = self.gathered.likeness if self.is_float else [self.equal / self.elements] * bool(self.elements)
            return Closeness(None, None, None, sum([*alike, *self.in_common]) / len([*alike, *self.in_common]))
        if self.is_float:
            return self.gathered.result()
        return Closeness(None, None, None, self.equal / self.elements) if self.elements else None


def _tensors(value: Any) -> list[Array]:
    """The tensors of an output: itself; the items of a sequence; the values of a map; none of an absent optional."""
    if value is None:
        return []
    if isinstance(value, Mapping):
        return [np.array([value[key] for key in sorted(value)])]
    if isinstance(value, list):
        return [tensor for item in value for tensor in _tensors(item)]
    return [np.asarray(value)]


def _cosines(a: Array, b: Array) -> Array:
    """Row by row; two rows of zeros are alike (1), one of zeros and another are not (0)."""
    lengths = np.sqrt((a * a).sum(axis=1)) * np.sqrt((b * b).sum(axis=1))
    both_zero = ~a.any(axis=1) & ~b.any(axis=1)
    cosines = np.divide((a * b).sum(axis=1), lengths, out=np.zeros(len(a)), where=lengths != 0)
    return np.where(both_zero, 1.0, cosines)


def _log_softmax(scores: Array) -> Array:
    shifted = scores - scores.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))
