"""How far a model's answers are the float model's: 1 where every one is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.quantize.scores import _distance as edits

Outputs = list[np.ndarray]
Judge = Callable[[Sequence[Outputs], Sequence[Outputs]], float]


def labels(index: int = 0, axis: int = -1) -> Judge:
    """The share of equal labels: the largest number along an axis."""

    def judge(expected: Sequence[Outputs], found: Sequence[Outputs]) -> float:
        same = [e[index].argmax(axis) == f[index].argmax(axis) for e, f in zip(expected, found, strict=True)]
        return float(np.concatenate([s.ravel() for s in same]).mean())

    return judge


def areas(threshold: float, index: int = 0) -> Judge:
    """What both hold above a threshold, twice, over what each holds (F1 of cells)."""

    def judge(expected: Sequence[Outputs], found: Sequence[Outputs]) -> float:
        pairs = [(e[index] > threshold, f[index] > threshold) for e, f in zip(expected, found, strict=True)]
        both, each = sum((e & f).sum() for e, f in pairs), sum(e.sum() + f.sum() for e, f in pairs)
        return float(2 * both / max(each, 1))

    return judge


def sequences(read: Callable[[Outputs], list[list[int]]]) -> Judge:
    """1 - edit distance over length of what is read from the outputs."""

    def judge(expected: Sequence[Outputs], found: Sequence[Outputs]) -> float:
        pairs = [pair for e, f in zip(expected, found, strict=True) for pair in zip(read(e), read(f), strict=True)]
        return 1 - sum(edits(f, e) for e, f in pairs) / max(sum(len(e) for e, _ in pairs), 1)

    return judge


def best_path(outputs: Outputs, blank: int, time: int = 1) -> list[list[int]]:
    """CTC's: the best sign of each step, repeats and blanks dropped; ``time`` is the axis of the steps."""
    rows = np.moveaxis(outputs[0], time, 1).argmax(-1)
    return [[int(c) for c, last in zip(row, [blank, *row], strict=False) if c not in (last, blank)] for row in rows]


Boxes = Callable[[Outputs], tuple[np.ndarray, np.ndarray, np.ndarray]]
"""Corners [n, 4], scores [n] and classes [n] of one picture."""


def boxes(read: Boxes, least: float = 0.25) -> Judge:
    """Average precision, the float model's boxes above ``least`` being the truth: same class, and half in common."""

    def judge(expected: Sequence[Outputs], found: Sequence[Outputs]) -> float:
        wanted = [_suppressed(*read(outputs), least) for outputs in expected]
        seen = [_suppressed(*read(outputs), least / 5) for outputs in found]
        hits = [pair for w, s in zip(wanted, seen, strict=True) for pair in _hits(w, s)]
        return _average_precision(hits, sum(len(w[0]) for w in wanted))

    return judge


def _suppressed(corners: np.ndarray, scores: np.ndarray, classes: np.ndarray, least: float) -> tuple[np.ndarray, ...]:
    order = [place for place in np.argsort(-scores) if scores[place] > least]
    kept: list[int] = []
    for place in order:
        others = [k for k in kept if classes[k] == classes[place]]
        if not others or overlap(corners[place][None], corners[others]).max() < 0.45:
            kept.append(place)
    return corners[kept], scores[kept], classes[kept]


def _hits(wanted: tuple[np.ndarray, ...], seen: tuple[np.ndarray, ...]) -> list[tuple[float, bool]]:
    """Score of each box seen, the surest first, and whether it is one of those wanted that no other took."""
    free, hits = list(range(len(wanted[0]))), []
    for corners, score, kind in zip(*seen, strict=True):
        fitting = [f for f in free if wanted[2][f] == kind]
        shares = overlap(corners[None], wanted[0][fitting])[0] if fitting else np.zeros(1)
        if shares.max() >= 0.5:
            free.remove(fitting[int(shares.argmax())])
        hits.append((float(score), bool(shares.max() >= 0.5)))
    return hits


def _average_precision(hits: list[tuple[float, bool]], wanted: int) -> float:
    """The mean, over all that is wanted, of the best precision at a recall as high or higher."""
    found = np.array([hit for _, hit in sorted(hits, reverse=True)], float)
    precision = np.cumsum(found) / np.arange(1, len(found) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float((best * found).sum() / max(wanted, 1))


def overlap(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Intersection over union, [n, m]."""
    low, high = np.maximum(one[:, None, :2], other[None, :, :2]), np.minimum(one[:, None, 2:], other[None, :, 2:])
    common = np.prod(np.clip(high - low, 0, None), -1)
    sizes = [np.prod(c[:, 2:] - c[:, :2], -1) for c in (one, other)]
    return common / np.maximum(sizes[0][:, None] + sizes[1][None] - common, 1e-9)


def centred(outputs: Outputs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """YOLOv8's layout: [1, 4 + classes, n], centres and sizes."""
    rows = outputs[0][0].T
    corners = np.concatenate([rows[:, :2] - rows[:, 2:4] / 2, rows[:, :2] + rows[:, 2:4] / 2], 1)
    return corners, rows[:, 4:].max(1), rows[:, 4:].argmax(1)


def gridded(outputs: Outputs, side: int = 416) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """YOLOX's layout: [1, n, 5 + classes], centres from their cell, logarithms of sizes, in strides of 8, 16, 32."""
    rows, strides = outputs[0][0], [np.full((side // s) ** 2, s) for s in (8, 16, 32)]
    cells = [np.stack(np.meshgrid(np.arange(side // s), np.arange(side // s)), -1).reshape(-1, 2) for s in (8, 16, 32)]
    stride, cell = np.concatenate(strides)[:, None], np.concatenate(cells)
    centres, sizes = (rows[:, :2] + cell) * stride, np.exp(rows[:, 2:4]) * stride
    corners = np.concatenate([centres - sizes / 2, centres + sizes / 2], 1)
    return corners, rows[:, 4] * rows[:, 5:].max(1), rows[:, 5:].argmax(1)


def cells(outputs: Outputs, heads: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """PicoDet's class scores: every cell is a box of its own, so that the cells themselves are compared."""
    scores = np.concatenate([output[0] for output in outputs[:heads]])
    place = np.arange(len(scores), dtype=float)[:, None]
    return np.concatenate([place, place, place + 1, place + 1], 1), scores.max(1), scores.argmax(1)
