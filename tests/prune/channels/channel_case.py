"""A case of a rule test: a small graph, the groups that it must have, and the proof that they can be cut.

And the cases that other tests of channels look at too: attention, branches and a loop.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from compress_ops.prune.channels import Grouping, find_groups, prepare
from tests.graphs import PROJECTED, SPLIT, attended, joined, turned
from tests.helpers import model_of, noise
from tests.prune.channels.channel_proof import ints, prove

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


PROJECTIONS = {"wq": (6, 12), "wk": (6, 12), "wv": (6, 12), "wo": (12, 5)}
TOKENS = {"x": (2, 5, 6)}
SEPARATE = Case(
    f"""agraph (float[N,S,6] x) => (float[N,S,5] y) {{
        {PROJECTED} {SPLIT} {turned()}  {attended(scale="root")} {joined()} }}""",
    {**PROJECTIONS, "split": ints(0, 0, 3, 4), "join": ints(0, 0, 12), "root": np.float32(2)},
    TOKENS,
    [("MatMul_q", 4), ("MatMul_v", 4)],
)

DENSE = {"w1": (6, 8), "w2": (8, 3)}
BRANCHES = """agraph (float[N,6] x, bool c) => (float[N,3] y) {
    h = Gemm(x, w1)
    m = If(c) <
        then_branch = yes () => (float[N,8] a) { a = Relu(h) },
        else_branch = no () => (float[N,8] b) { t = Gemm(h, w3)  b = Gemm(t, w4) }
    >
    y = Gemm(m, w2)
}"""
LOOP = """agraph (float[N,6] x) => (float[N,3] y) {
    h = Gemm(x, w1)
    m = Loop(four, go, h) <
        body = step (int64 i, bool go_in, float[N,8] s) => (bool go_out, float[N,8] t) {
            go_out = Identity(go_in)
            a = Gemm(s, w3)
            r = Relu(a)
            t = Gemm(r, w4)
        }
    >
    y = Gemm(m, w2)
}"""
INNER = {**DENSE, "w3": (8, 5), "w4": (5, 8)}
