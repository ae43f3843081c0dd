"""Make textlm.onnx: a byte-level language model, a decoder-only transformer with a causal mask.

From the source text of Python's own standard library, read from the running interpreter: the top-level modules in
alphabetical order. Every 16th file is held out, and the test windows come from those files alone. Attention is written
out as MatMul, Softmax and MatMul, so that nothing in the exported graph is fused.
"""

from __future__ import annotations

import math
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from common import FOLDER, SEED, check, export_dynamo, fit, report, run, save, start, tidy
from torch import Tensor, nn

CONTEXT, WIDTH, HEADS, LAYERS = 128, 128, 4, 3
HELD_OUT_EVERY = 16
BATCH, STEPS = 32, 2500
CALIBRATION_WINDOWS, TEST_WINDOWS = 64, 96
MASKED = -1e4
"""Score of a position that lies in the future: finite, and within float16."""
AXES = {"tokens": {0: "batch", 1: "seq"}, "logits": {0: "batch", 1: "seq"}}


class Attention(nn.Module):
    """softmax(q k^T / sqrt(d), future masked) v, for each head."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def heads(self, x: Tensor) -> Tensor:
        batch, seq, _ = x.shape
        return x.reshape(batch, seq, HEADS, WIDTH // HEADS).transpose(1, 2)

    def forward(self, x: Tensor, future: Tensor) -> Tensor:
        query, key, value = (self.heads(project(x)) for project in (self.query, self.key, self.value))
        scores = query @ key.transpose(2, 3) / math.sqrt(WIDTH // HEADS)
        mixed = torch.where(future, MASKED, scores).softmax(dim=3) @ value
        return self.out(mixed.transpose(1, 2).reshape(x.shape))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm_attention, self.attention = nn.LayerNorm(WIDTH), Attention()
        self.norm_perceptron = nn.LayerNorm(WIDTH)
        self.perceptron = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: Tensor, future: Tensor) -> Tensor:
        x = x + self.attention(self.norm_attention(x), future)
        return x + self.perceptron(self.norm_perceptron(x))


class TextModel(nn.Module):
    """The logits of the next byte after each of `tokens` [batch, seq], seq <= CONTEXT."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(256, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        for table in (self.token, self.position):
            nn.init.normal_(table.weight, std=0.02)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 256, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        steps = torch.arange(tokens.shape[1], device=tokens.device)
        future = steps[:, None] < steps[None, :]
        x = self.token(tokens) + self.position(steps)
        for block in self.blocks:
            x = block(x, future)
        return self.head(self.norm(x))


def source_files() -> list[Path]:
    """The top-level modules of the standard library, without the generated one that names this machine's folders."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    return [path for path in sorted(folder.glob("*.py")) if not path.name.startswith("_sysconfigdata")]


def load() -> tuple[np.ndarray, np.ndarray]:
    """The bytes of the training files and of the held-out files."""
    files = source_files()
    held_out = files[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY]
    train, test = (
        b"".join(path.read_bytes() for path in part)
        for part in ([path for path in files if path not in held_out], held_out)
    )
    return np.frombuffer(train, np.uint8), np.frombuffer(test, np.uint8)


def windows(text: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The stretches of CONTEXT + 1 bytes that begin at `first`."""
    return text[first[:, None] + np.arange(CONTEXT + 1)].astype(np.int64)


def spread(text: np.ndarray, count: int) -> np.ndarray:
    """`count` windows at even distances over the whole text, so that none overlap."""
    return windows(text, np.linspace(0, len(text) - CONTEXT - 1, count).astype(int))


def unseen(test: np.ndarray, train: np.ndarray) -> np.ndarray:
    """TEST_WINDOWS windows over the test text, none with a half that also stands in the training text.

    Modules do copy one another: wave.py, for one, holds a copy of chunk.py.
    """
    known, half = train.tobytes(), CONTEXT // 2
    candidates = spread(test, len(test) // (CONTEXT + 1))
    rows = [row.astype(np.uint8).tobytes() for row in candidates]
    fresh = candidates[[row[:half] not in known and row[half:] not in known for row in rows]]
    return fresh[np.linspace(0, len(fresh) - 1, TEST_WINDOWS).astype(int)]


def batches(text: np.ndarray) -> Iterator[tuple[Tensor, Tensor]]:
    chance = np.random.default_rng(SEED)
    while True:
        chosen = torch.from_numpy(windows(text, chance.integers(len(text) - CONTEXT, size=BATCH)))
        yield chosen[:, :-1], chosen[:, 1:]


def byte_loss(logits: Tensor, following: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits.flatten(0, 1), following.flatten())


def perplexity(logits: np.ndarray, following: np.ndarray) -> float:
    """exp of the mean negative log-likelihood per byte."""
    return math.exp(byte_loss(torch.from_numpy(logits), torch.from_numpy(following)).item())


def main() -> None:
    train, test = load()
    print(f"{len(train):,} training bytes, {len(test):,} held-out bytes")
    held_out = unseen(test, train)
    tokens, following = held_out[:, :-1], held_out[:, 1:]
    save("textlm-test.npz", tokens=tokens, next=following)
    save("textlm-calibration.npz", tokens=spread(train, CALIBRATION_WINDOWS)[:, :-1])
    start()
    module, path = TextModel(), FOLDER / "textlm.onnx"
    fit(module, batches(train), byte_loss, steps=STEPS, rate=3e-3, decay=0.1)
    export_dynamo(module, {"tokens": torch.from_numpy(tokens[:2, :64])}, "logits", AXES, path)
    tidy(path)
    check(path, module, {"tokens": tokens})
    check(path, module, {"tokens": tokens[:, :17]})
    report(path, perplexity=perplexity(run(path, {"tokens": tokens}), following))


if __name__ == "__main__":
    main()
