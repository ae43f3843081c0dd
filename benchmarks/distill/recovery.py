"""What training without labels brings back, judged on test data that neither passes nor training saw."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.data import encoder_feeds, more_sentences, text_lines, tokenized
from benchmarks.quantize.scores import characters, likeness
from benchmarks.tables import Goal, put
from compress_ops.measure.latency import compare_latency
from compress_ops.pipeline import Job, run
from compress_ops.recipe import parse_recipe
from compress_ops.report.report import Report
from compress_ops.runtime import open_session

SAMPLES = Path("sample_models").resolve()
DIGITS = "[simplify, {prune_channels: {ratio: 0.75, score: activation_weight}}, refit, {distill: {epochs: 2}}]"
LABELLED = "{path: digits-train.npz, labels: label}"  # training looks at no labels here
LINES = """
  - upgrade_opset: {to: 17}
  - simplify
  - prune_channels: {ratio: 0.3, score: activation_weight}
  - refit
  - distill: {epochs: 4, temperature: 1, warmup: 0.1}
"""
HALF = """
  - simplify
  - shrink_student: {depth: 0.5}
  - distill: {epochs: 4, learning_rate: 0.002, warmup: 0.05}
  - unfuse_norms
"""
TEST_LINES, TRAINING_LINES, TRAINING_SENTENCES = 592, 528, 12_000


def digits(models: Path, folder: Path) -> list[Goal]:
    """Three quarters of the channels cut."""
    test, model, out = np.load(SAMPLES / "digits-test.npz"), SAMPLES / "digits-cnn.onnx", folder / "digits.onnx"
    report = _run(model, out, SAMPLES, "digits-calibration.npz", LABELLED, DIGITS)

    def top1(path: Path) -> float:
        scores = next(iter(open_session(path).run({"image": test["image"]}).values()))
        return float((scores.argmax(axis=1) == test["label"]).mean())

    before, after, cpu = top1(model), top1(out), sum(step.cpu_seconds for step in report.steps)
    put(["top-1", "after", "CPU s"], [[f"{before:.2%}", f"{after:.2%}", f"{cpu:.1f}"]], "digits-cnn, 75 % of channels")
    return [
        Goal("digits-cnn, 75 %: points lost", 100 * (before - after), 1, at_most=True),
        Goal("digits-cnn, 75 %: CPU seconds", cpu, 5, at_most=True),
    ]


def recogniser(models: Path, folder: Path) -> list[Goal]:
    """30 % of the channels of a text recogniser, with drawn lines and what the whole one reads in them."""
    pictures, texts = text_lines(TEST_LINES + TRAINING_LINES)
    np.savez(folder / "lines.npz", x=pictures[TEST_LINES:])
    np.savez(folder / "few.npz", x=pictures[TEST_LINES : TEST_LINES + 128])
    model, out = models / "ppocr-rec.onnx", folder / "rec.onnx"
    report = _run(model, out, folder, "few.npz", "lines.npz", LINES, batch=8)
    score = characters(model, pictures[:TEST_LINES], texts[:TEST_LINES])
    before, after = (score(open_session(path))[0] for path in (model, out))
    faster = _speed_up(model, out, {"x": pictures[:6]})
    cells = [f"{before:.4f}", f"{after:.4f}", f"{faster:.2f}x", f"{report.cpu_seconds:.0f}"]
    put(["characters", "after", "speed-up", "CPU s"], [cells], f"PP-OCRv4 recogniser, 30 %, {TRAINING_LINES} lines")
    return [Goal("recogniser, 30 %: character accuracy over float", after - before, -0.02)]


def encoder(models: Path, folder: Path) -> list[Goal]:
    """Half of the layers of a sentence encoder, taught by the whole one."""
    sentences = folder / "sentences"
    sentences.mkdir()
    for number, feeds in enumerate(tokenized(more_sentences(TRAINING_SENTENCES), batch=32)):
        np.savez(sentences / f"{number:04}.npz", **feeds)
    model, out = models / "minilm-classic.onnx", folder / "half.onnx"
    report = _run(model, out, folder, "", "sentences", HALF)
    test = {name: array[128:] for name, array in encoder_feeds().items()}
    cosine, nearest = likeness(open_session(model), test)(open_session(out))
    faster = _speed_up(model, out, {name: array[:8] for name, array in test.items()})
    cells = [f"{cosine:.4f}", f"{nearest:.3f}", f"{faster:.2f}x", f"{report.cpu_seconds:.0f}"]
    heads = ["cosine", "top-1 retrieval", "speed-up 8 x 64", "CPU s"]
    put(heads, [cells], f"Sentence encoder, 3 of 6 layers, {TRAINING_SENTENCES} sentences")
    return [Goal("encoder, half: cosine", cosine, 0.93), Goal("encoder, half: speed-up", faster, 1.8)]


def _run(model: Path, out: Path, folder: Path, calibration: str, training: str, passes: str, batch: int = 16) -> Report:
    data = {"calibration": calibration, "training": training, "batch_size": batch}
    told = ", ".join(f"{key}: {value}" for key, value in data.items() if value)
    recipe = parse_recipe(f"version: 1\ndata: {{{told}}}\npasses: {passes}\n", folder=folder)
    return run(Job(recipe, model, out, measure=False))


def _speed_up(before: Path, after: Path, feeds: dict[str, np.ndarray]) -> float:
    sessions = {"before": open_session(before), "after": open_session(after)}
    return 1 / compare_latency(sessions, feeds, seconds=10).models["after"].ratio
