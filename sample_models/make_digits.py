"""Make digits-cnn.onnx and digits-mlp.onnx: handwritten digits, classified from 8x8 images.

From the UCI "Optical Recognition of Handwritten Digits" images that scikit-learn ships: 1,797 of them, split 70/30.
The convolutional net is a small ResNet whose BatchNormalization is left un-folded; the other is a plain perceptron.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from common import FOLDER, SEED, check, export_classic, export_dynamo, fit, report, run, save, start, tidy
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

BATCH = 64
STEPS = 600
CALIBRATION_SAMPLES = 128
AXES = {"image": {0: "batch"}, "logits": {0: "batch"}}


def conv_norm(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    )


class Residual(nn.Module):
    """relu(body(x) + shortcut(x)); the shortcut is a 1x1 convolution where the number of channels changes."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_norm(inputs, outputs, 3), nn.ReLU(), conv_norm(outputs, outputs, 3))
        self.shortcut = nn.Identity() if inputs == outputs else conv_norm(inputs, outputs, 1)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.body(x) + self.shortcut(x))


def convolutional() -> nn.Sequential:
    return nn.Sequential(
        *(conv_norm(1, 48, 3), nn.ReLU()),
        *(Residual(48, 48), nn.MaxPool2d(2), Residual(48, 96)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, 10)),
    )


def perceptron() -> nn.Sequential:
    layers = (nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10))
    return nn.Sequential(nn.Flatten(), *layers)


def load() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training images, test images, training labels, test labels; the grey levels 0..16 are scaled to [0, 1]."""
    digits = load_digits()
    images = (digits.images[:, None] / 16).astype(np.float32)
    labels = digits.target.astype(np.int64)
    return train_test_split(images, labels, test_size=0.3, stratify=labels, random_state=SEED)


def batches(images: np.ndarray, labels: np.ndarray) -> Iterator[tuple[Tensor, Tensor]]:
    chance = torch.Generator().manual_seed(SEED)
    while True:
        for chosen in torch.randperm(len(images), generator=chance).split(BATCH):
            yield torch.from_numpy(images)[chosen], torch.from_numpy(labels)[chosen]


def main() -> None:
    train, test, train_labels, test_labels = load()
    save("digits-train.npz", image=train, label=train_labels)
    save("digits-test.npz", image=test, label=test_labels)
    save("digits-calibration.npz", image=train[:CALIBRATION_SAMPLES])
    for name, build, export in (
        ("digits-cnn.onnx", convolutional, export_classic),
        ("digits-mlp.onnx", perceptron, export_dynamo),
    ):
        start()
        module, path = build(), FOLDER / name
        fit(module, batches(train, train_labels), nn.functional.cross_entropy, steps=STEPS, rate=3e-3)
        export(module, {"image": torch.from_numpy(train[:2])}, "logits", AXES, path)
        tidy(path)
        check(path, module, {"image": test})
        report(path, top1=np.mean(run(path, {"image": test}).argmax(1) == test_labels))


if __name__ == "__main__":
    main()
