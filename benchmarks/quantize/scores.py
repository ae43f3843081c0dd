"""How well a model still does its work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx

from compress_ops.runtime import Session

Feeds = dict[str, np.ndarray]
Score = Callable[[Session], Sequence[float]]


def first_output(session: Session, feeds: Feeds, batch: int) -> np.ndarray:
    """The first output over all samples."""
    number = len(next(iter(feeds.values())))
    parts = ({k: v[i : i + batch] for k, v in feeds.items()} for i in range(0, number, batch))
    return np.concatenate([next(iter(session.run(part).values())) for part in parts])


def likeness(reference: Session, feeds: Feeds) -> Score:
    """Mean-pooled embeddings: cosine to the float model's, and whether the nearest neighbour stays the same."""
    expected = _embeddings(reference, feeds)

    def score(session: Session) -> tuple[float, float]:
        found = _embeddings(session, feeds)
        return float((expected * found).sum(1).mean()), float((_nearest(expected) == _nearest(found)).mean())

    return score


def _embeddings(session: Session, feeds: Feeds) -> np.ndarray:
    hidden, mask = first_output(session, feeds, 16), feeds["attention_mask"][..., None]
    pooled = (hidden * mask).sum(1) / mask.sum(1)
    return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)


def _nearest(embeddings: np.ndarray) -> np.ndarray:
    close = embeddings @ embeddings.T
    np.fill_diagonal(close, -1)
    return close.argmax(1)


def characters(model: Path, pictures: np.ndarray, texts: Sequence[str]) -> Score:
    """1 - edit distance / length, with the best path of the CTC output (repeats and blanks dropped)."""
    properties = {entry.key: entry.value for entry in onnx.load(model).metadata_props}
    alphabet = ["", *properties["character"].split("\n"), " "]

    def score(session: Session) -> tuple[float]:
        best = first_output(session, {"x": pictures}, 6).argmax(-1)
        read = ["".join(alphabet[c] for c, last in zip(row, [0, *row], strict=False) if c != last) for row in best]
        return (1 - sum(map(_distance, read, texts)) / sum(map(len, texts)),)

    return score


def _distance(a: Sequence[object], b: Sequence[object]) -> int:
    """Levenshtein's, a row of the table at a time."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
    return row[-1]


def pixels(reference: Session, pages: np.ndarray, threshold: float = 0.3) -> Score:
    """Of the thresholded map: pixels that agree with the float model's; and text in both over text in either."""
    expected = first_output(reference, {"x": pages}, 1) > threshold

    def score(session: Session) -> tuple[float, float]:
        found = first_output(session, {"x": pages}, 1) > threshold
        return float((found == expected).mean()), float((found & expected).sum() / (found | expected).sum())

    return score


def labels(reference: Session, pictures: np.ndarray, truth: np.ndarray) -> Score:
    """Labels that agree with the float model's, and with the truth."""
    expected = first_output(reference, {"x": pictures}, 6).argmax(1)

    def score(session: Session) -> tuple[float, float]:
        found = first_output(session, {"x": pictures}, 6).argmax(1)
        return float((found == expected).mean()), float((found == truth).mean())

    return score
