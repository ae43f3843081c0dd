"""``adaptive`` beside plain distillation, pair by pair: what each makes of a student, by true labels of unseen samples.

All sides train the same student with the same teacher, data, seed, rate and steps. Teachers: networks of the digits and
of Gaussian clusters that saw few labels and err; and three that saw all of the training data, which leaves little to
correct.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.parser

from benchmarks.tables import Goal, put
from compress_ops.autodiff import trainable
from compress_ops.distill.lesson.evaluation import start_anew
from compress_ops.model import load
from compress_ops.pipeline import Job, run
from compress_ops.recipe import parse_recipe
from compress_ops.runtime import open_session

SAMPLES = Path("sample_models").resolve()
CUT = "simplify, {prune_channels: {ratio: 0.75}}"
SIDES = {
    "plain": "",
    "and cross_entropy": ", loss: {kl: 1, mse: 1, cross_entropy: 1}",
    "labels alone": ", loss: {cross_entropy: 1}",
    "adaptive": ", adaptive: true",
}
SEEDS, EPOCHS, RATE = 3, 10, 0.003
FEW = 160  # labels that the teachers which err were trained with, and 2.5 times as many for the clusters
_PERCEPTRON = """
<ir_version: 10, opset_import: ["": 18]> perceptron (float[n,20] x) => (float[n,6] y)
{ g = Gemm(x, a, b) h = Relu(g) i = Gemm(h, c, d) j = Relu(i) y = Gemm(j, e, f) }
"""
_SHAPES = {"a": (20, 128), "b": (128,), "c": (128, 128), "d": (128,), "e": (128, 6), "f": (6,)}


@dataclass(frozen=True)
class Setting:
    """Arrays of ``train`` and ``test`` go by the names of the inputs, and ``label``."""

    name: str
    teacher: Path
    train: dict[str, np.ndarray]
    test: dict[str, np.ndarray]
    batch: int = 16


def believing(models: Path, folder: Path) -> list[Goal]:
    """Three seeds of each setting; the pairs that count are those of teachers that err on what is taught."""
    every = {"cnn": _digits("digits-cnn"), "mlp": _digits("digits-mlp"), "recommender": _recommender()}
    cnn, mlp = (_few(each, FEW, folder) for each in (every["cnn"], every["mlp"]))
    erring = [cnn, mlp, _few(_clusters(folder), 5 * FEW // 2, folder)]
    won, rows = 0, []
    for setting in [*erring, *every.values()]:
        found = np.array([_sides(setting, seed, folder) for seed in range(SEEDS)])  # [seed, side, score]
        better = (found[:, -1] > found[:, 0]).sum(axis=0)
        won += int(better[0]) if setting in erring else 0
        means = [" / ".join(f"{each:.4f}" for each in found[:, :, score].mean(axis=0)) for score in range(2)]
        teacher = _score(setting.teacher, setting.test)[0]
        rows.append([setting.name, f"{teacher:.4f}", *means, f"{better[0]}, {better[1]}"])
    sides = " / ".join(SIDES)
    heads = ["teacher", "its top-1", f"top-1: {sides}", "log-likelihood", f"adaptive over plain, of {SEEDS}"]
    put(heads, rows, f"adaptive: students of a quarter of the channels, {EPOCHS} epochs at {RATE}")
    return [Goal("adaptive beside plain, teachers that err: pairs won of 9", won, 7)]


def _sides(setting: Setting, seed: int, folder: Path) -> list[tuple[float, float]]:
    np.savez(folder / "train.npz", **setting.train)
    student = folder / "student.onnx"
    _run(setting.teacher, student, CUT, folder)
    return [_taught(setting, student, options, seed, folder) for options in SIDES.values()]


def _taught(setting: Setting, student: Path, more: str, seed: int, folder: Path) -> tuple[float, float]:
    options = f"teacher: {setting.teacher}, epochs: {EPOCHS}, learning_rate: {RATE}, allow_unchanged: true{more}"
    out = folder / "taught.onnx"
    _run(student, out, f"{{distill: {{{options}}}}}", folder, seed, setting.batch)
    return _score(out, setting.test)


def _run(model: Path, out: Path, passes: str, folder: Path, seed: int = 0, batch: int = 16) -> None:
    out.unlink(missing_ok=True)
    data = f"{{training: {{path: train.npz, labels: label}}, batch_size: {batch}}}"
    recipe = parse_recipe(f"version: 1\nseed: {seed}\ndata: {data}\npasses: [{passes}]\n", folder=folder)
    run(Job(recipe, model, out, measure=False))


def _score(model: Path, test: dict[str, np.ndarray]) -> tuple[float, float]:
    """Share of samples whose largest score is the label's, and mean log-likelihood of the label."""
    feeds = {name: array for name, array in test.items() if name != "label"}
    scores = next(iter(open_session(model).run(feeds).values())).astype(np.float64)
    shifted = scores - scores.max(axis=1, keepdims=True)
    likelihood = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return float((scores.argmax(axis=1) == test["label"]).mean()), float(
        np.take_along_axis(likelihood, test["label"][:, None], axis=1).mean()
    )


def _digits(name: str) -> Setting:
    train, test = (dict(np.load(SAMPLES / f"digits-{part}.npz")) for part in ("train", "test"))
    return Setting(f"{name}, all labels", SAMPLES / f"{name}.onnx", train, test)


def _recommender() -> Setting:
    train, test = (dict(np.load(SAMPLES / f"recommender-{part}.npz")) for part in ("train", "test"))
    for part in (train, test):
        part["label"] = part.pop("positive")
    return Setting("recommender, sampled labels", SAMPLES / "recommender.onnx", train, test, batch=64)


def _clusters(folder: Path) -> Setting:
    """6 classes of 3 clusters each in 20 dimensions; the file holds no weights yet."""
    rng = np.random.default_rng(0)
    centres, labels = rng.normal(0, 0.8, (18, 20)), rng.integers(0, 18, 6000)
    x = (centres[labels] + rng.normal(0, 1, (6000, 20))).astype(np.float32)
    parts = [{"x": x[part], "label": labels[part] % 6} for part in (slice(2000), slice(2000, None))]
    model, path = onnx.parser.parse_model(_PERCEPTRON), folder / "clusters.onnx"
    weights = [onnx.numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in _SHAPES.items()]
    model.graph.initializer.extend(weights)
    onnx.save(model, path)
    return Setting("clusters, all labels", path, *parts)


def _few(setting: Setting, labels: int, folder: Path) -> Setting:
    """The same with a teacher that was trained from fresh weights with some of the labels."""
    fresh, out = folder / f"fresh-{setting.teacher.name}", folder / f"few-{setting.teacher.name}"
    model = load(setting.teacher)
    start_anew(model, trainable(model), np.random.default_rng(1))
    model.save(fresh)
    np.savez(folder / "train.npz", **{name: array[:labels] for name, array in setting.train.items()})
    options = f"teacher: {fresh}, epochs: 40, learning_rate: {RATE}, loss: {{cross_entropy: 1}}"
    _run(fresh, out, f"simplify, {{distill: {{{options}}}}}", folder)
    return Setting(setting.name.replace("all", str(labels)), out, setting.train, setting.test)
