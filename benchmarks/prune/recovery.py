"""What refit brings back: the digits CNN, the sentence encoder and the recommender, on test data that it never saw."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.data import encoder_feeds, more_sentences, tokenized
from benchmarks.tables import Goal, put
from compress_ops.graph import simplify, unfuse_norms
from compress_ops.model import Model, load
from compress_ops.prune import prune_channels, prune_embedding, prune_heads, refit
from compress_ops.runtime import open_session

from .tools import context, speed_up, stored

SAMPLES = Path("sample_models")
SCORE = "activation_weight"
FEATURES = 0.8  # the least share, in steps of a twentieth, that brings the file of the recommender to half
FEED_FORWARD = "*/intermediate/dense/MatMul"
CALIBRATION = 1024  # sentences of the encoder, 20 thousand tokens


def digits() -> list[Goal]:
    """Half of all channels and refit, no labels."""
    path, test = SAMPLES / "digits-cnn.onnx", np.load(SAMPLES / "digits-test.npz")
    model, ctx = load(path), context(path, SAMPLES / "digits-calibration.npz")
    simplify(model, ctx)
    original = model.copy()
    prune_channels(model, ctx, ratio=0.5, score=SCORE)
    cut = _top1(model, test)
    refit(model, ctx)
    before, after = _top1(original, test), _top1(model, test)
    faster = speed_up(original, model, {"image": test["image"][:1]})
    row = ["digits-cnn", f"{before:.1%}", f"{cut:.1%}", f"{after:.1%}", f"{faster:.2f}x"]
    put(["model", "top-1", "cut", "refitted", "speed-up"], [row], "Half of all channels, then refit")
    return [
        Goal("digits-cnn, 50 %: points lost", 100 * (before - after), 0.5, at_most=True),
        Goal("digits-cnn, 50 %: speed-up", faster, 1.8),
    ]


def recommender() -> list[Goal]:
    """Rows that no known user or item needs, and of the perceptron's features as many as bring the file to half."""
    path, test = SAMPLES / "recommender.onnx", np.load(SAMPLES / "recommender-test.npz")
    with tempfile.TemporaryDirectory() as folder:
        ctx = context(path, _known_ids(Path(folder)), batch_size=64)
        model = load(path)
        simplify(model, ctx)
        original, before = model.copy(), stored(load(path))
        rows = prune_embedding(model, ctx)
        sizes = [stored(model) / before]
        prune_channels(model, ctx, ratio=FEATURES, score=SCORE, round_to=1, only=["*_features*"])
        refit(model, ctx)
    before_after = [_ndcg(each, test) for each in (original, model)]
    gains, size = [each.mean() for each in before_after], stored(model) / before
    spread = 196 * np.std(before_after[1] - before_after[0]) / len(test["user"]) ** 0.5 / gains[0]
    told = "; ".join(text.partition(",")[0] for text in list(rows.touched.values())[::2])
    row = [*(f"{gain:.4f}" for gain in gains), f"+- {spread:.1f} %", f"{sizes[0]:.1%}", f"{size:.1%}", told]
    heads = ["ndcg@10", "after", "95 % interval of the change, paired", "file, rows alone", "file", "tables"]
    put(heads, [row], "Recommender: rows and perceptron")
    return [
        Goal("recommender: ndcg@10 lost, %", 100 * (1 - gains[1] / gains[0]), 1, at_most=True),
        Goal("recommender: file, %", 100 * size, 50, at_most=True),
    ]


def encoder(models: Path) -> list[Goal]:
    """A quarter of heads and of feed-forward channels."""
    path = models / "minilm-classic.onnx"
    test = {name: array[128:] for name, array in encoder_feeds().items()}
    with tempfile.TemporaryDirectory() as folder:
        for number, feeds in enumerate(tokenized(more_sentences(CALIBRATION))):
            np.savez(f"{folder}/{number:04}.npz", **feeds)
        ctx = context(path, Path(folder))
        model = load(path)
        simplify(model, ctx)
        original = model.copy()
        prune_heads(model, ctx, ratio=0.25, score=SCORE, scope="global")
        prune_channels(model, ctx, ratio=0.25, score=SCORE, only=[FEED_FORWARD])
        cut = _cosine(original, model, test)
        refit(model, ctx)
        unfuse_norms(model, ctx)
    cosine, shapes = _cosine(original, model, test), ((8, 64), (1, 32))
    faster = [speed_up(original, model, {k: v[:n, :length] for k, v in test.items()}) for n, length in shapes]
    row = [f"{cut:.4f}", f"{cosine:.4f}", *(f"{times:.2f}x" for times in faster)]
    heads = ["cosine, cut", "refitted", *(f"speed-up {n} x {length}" for n, length in shapes)]
    put(heads, [row], f"Sentence encoder: a quarter of heads and feed-forward channels, {CALIBRATION} sentences")
    return [
        Goal("encoder, 25 %: cosine", cosine, 0.95),
        *(Goal(f"encoder, 25 %: speed-up {n} x {k}", t, 1.25) for (n, k), t in zip(shapes, faster, strict=True)),
    ]


def _top1(model: Model, test: dict[str, np.ndarray]) -> float:
    return float((_output(model, image=test["image"]).argmax(axis=1) == test["label"]).mean())


def _ndcg(model: Model, test: dict[str, np.ndarray]) -> np.ndarray:
    """Of each user."""
    scores = _output(model, user=test["user"], items=test["items"])
    rank = (scores >= np.take_along_axis(scores, test["positive"][:, None], axis=1)).sum(axis=1) - 1
    return np.where(rank < 10, 1 / np.log2(rank + 2), 0)


def _output(model: Model, **feeds: np.ndarray) -> np.ndarray:
    with model.exported() as path:
        return next(iter(open_session(path).run(feeds).values()))


def _known_ids(folder: Path) -> Path:
    """Users with items: all of the training data, and who and what the test asks about (not what it answers)."""
    train, test = np.load(SAMPLES / "recommender-train.npz"), np.load(SAMPLES / "recommender-test.npz")
    width = train["items"].shape[1]
    more = test["items"].reshape(-1, width)
    users = np.concatenate([train["user"], test["user"].repeat(len(more) // len(test["user"]))])
    np.savez(folder / "ids.npz", user=users, items=np.concatenate([train["items"], more]))
    return folder / "ids.npz"


def _cosine(original: Model, model: Model, test: dict[str, np.ndarray]) -> float:
    pairs = zip(_embeddings(original, test), _embeddings(model, test), strict=True)
    return float(np.mean([left @ right for left, right in pairs]))


def _embeddings(model: Model, test: dict[str, np.ndarray]) -> np.ndarray:
    found = []
    with model.exported() as path:
        session = open_session(path)
        for start in range(0, len(test["input_ids"]), 16):
            batch = {name: array[start : start + 16] for name, array in test.items()}
            hidden, mask = next(iter(session.run(batch).values())), batch["attention_mask"][..., None]
            pooled = (hidden * mask).sum(1) / mask.sum(1)
            found.append(pooled / np.linalg.norm(pooled, axis=1, keepdims=True))
    return np.concatenate(found)
