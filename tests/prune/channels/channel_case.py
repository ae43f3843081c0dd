"""A case of a rule test: a small graph, the groups that it must have, and the proof that they can be cut."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from compress_ops.prune.channels import Grouping, find_groups, prepare
from tests.helpers import model_of, noise
from tests.prune.channels.channel_proof import prove

ROUNDING = 2e-6  # sums of at most a few hundred float32 products
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """``weights`` and ``feeds`` are arrays, or shapes of noise; ``groups`` are nodes that make channels, with units."""

    text: str
    weights: dict[str, Shape | np.ndarray]
    feeds: dict[str, Shape | np.ndarray]
    groups: list[tuple[str, int]]
    heads: bool = False
    opset: int = 17
    protected: dict[str, str] = field(default_factory=dict)

    def model(self):
        header = f'<ir_version: 8, opset_import: ["": {self.opset}, "com.microsoft": 1]>\n'
        return model_of(header + self.text, **arrays(self.weights))

    def grouping(self) -> Grouping:
        model = self.model()
        prepare(model)
        return find_groups(model, heads=self.heads)

    def check(self) -> None:
        grouping = self.grouping()
        found = [(group.name, len(group)) for group in grouping.groups if len(group) > 1]
        assert sorted(found) == sorted(self.groups)
        for name, reason in self.protected.items():
            assert reason in grouping.protected.get(name, "not protected")
        for ratio in (0.3, 0.6):
            error, _ = prove(self.model(), arrays(self.feeds, seed=7), ratio, heads=self.heads)
            assert error < ROUNDING


def arrays(given: dict[str, Shape | np.ndarray], seed: int = 0) -> dict[str, np.ndarray]:
    return {
        name: np.asarray(what)
        if isinstance(what, np.ndarray | np.generic)
        else noise(*what, seed=seed + place, scale=0.5)
        for place, (name, what) in enumerate(given.items())
    }


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)
