"""The same nets as PyTorch modules, with the weights of the graphs."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .nets import HEADS, LAYERS, RESNET_WIDTHS, VOCABULARY, WIDTH, Net


def normalized(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs))


class Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        stride = 1 if inputs == outputs else 2
        self.first, self.second = normalized(inputs, outputs, stride), normalized(outputs, outputs)
        self.shortcut = nn.Identity() if stride == 1 else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.blocks, inputs = normalized(3, 16), nn.Sequential(), 16
        for outputs in RESNET_WIDTHS:
            for _ in range(3):
                self.blocks.append(Residual(inputs, outputs))
                inputs = outputs
        self.head = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(F.relu(self.stem(x))).mean((2, 3)))


class EncoderLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        for part in ("query", "key", "value", "output"):
            setattr(self, part, nn.Linear(WIDTH, WIDTH))
        self.wide, self.narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.attention_norm, self.norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        def heads(part: nn.Module) -> torch.Tensor:
            return part(x).unflatten(-1, (HEADS, -1)).transpose(1, 2)

        mixed = F.scaled_dot_product_attention(heads(self.query), heads(self.key), heads(self.value))
        x = self.attention_norm(self.output(mixed.transpose(1, 2).flatten(2)) + x)
        return self.norm(self.narrow(F.gelu(self.wide(x))) + x)


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.layers = nn.Sequential(*(EncoderLayer() for _ in range(LAYERS)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(self.embedding(x))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def cnn() -> nn.Module:
    convolutions = [
        layer for c in ((1, 32), (32, 64)) for layer in (nn.Conv2d(*c, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2))
    ]
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(64 * 7 * 7, 10))


def tiny() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 10))


MODULES = {"tiny": tiny, "mlp": mlp, "cnn": cnn, "bert": Encoder, "resnet": ResNet}


def module(key: str, net: Net) -> nn.Module:
    """With the graph's weights. Statistics of BatchNormalization are frozen, as in the graph: it is in eval mode."""
    made = MODULES[key]().eval()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            array = torch.from_numpy(net.weights[name].copy())
            parameter.copy_(array.T if flipped(key, name) else array)
    return made


def flipped(key: str, name: str) -> bool:
    """The encoder's graph multiplies by weights [inputs, outputs], PyTorch stores [outputs, inputs]."""
    return key == "bert" and name.endswith("weight") and not ("norm" in name or "embedding" in name)


def loss(key: str, made: nn.Module, feeds: dict[str, torch.Tensor]) -> torch.Tensor:
    output = made(feeds["x"])
    return F.mse_loss(output, feeds["t"]) if key == "bert" else F.cross_entropy(output, feeds["t"])


def gradients(key: str, net: Net, dtype: torch.dtype) -> dict[str, Any]:
    """By name, in the graph's layout, as float64 arrays."""
    made = module(key, net).to(dtype)
    loss(key, made, tensors(net, dtype)).backward()
    found = {name: parameter.grad for name, parameter in made.named_parameters()}
    return {name: (g.T if flipped(key, name) else g).double().numpy() for name, g in found.items() if g is not None}


def tensors(net: Net, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    made = {name: torch.from_numpy(array) for name, array in net.feeds.items()}
    return {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in made.items()}
