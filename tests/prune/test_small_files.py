"""A file of a few kilobytes costs little memory and time, whatever sizes it declares, and the rest of it is cut."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.helpers import ROOT, noise, proto_of
from tests.prune.channels.channel_case import ints

HUGE = 2**29
MEGABYTES, SECONDS = 600, 10  # of the process, libraries included; of one command, on a busy machine
GRAPH = """agraph (float[N,8] x, float[4,{huge}] wide) => (float[N,4] y, int64 z) {{
    a = MatMul(x, w1)  b = Relu(a)  y = MatMul(b, w2)  c = MatMul(x, w3)  {lines}  z = Size(t) }}"""
WEIGHTS = {"w1": noise(8, 16), "w2": noise(16, 4, seed=1), "w3": noise(8, 16, seed=2)}


def doubled(first: str, count: int, axis: int) -> str:
    names = [first, *(f"d{i}" for i in range(count - 1)), "t"]
    pairs = pairwise(names)
    return "\n".join(f"{made} = Concat<axis={axis}>({read}, {read})" for read, made in pairs)


CASES = {
    "no numbers in a huge shape": ("t = Relu(e)", {"e": np.zeros((0, HUGE), np.float32)}),
    "sum of empty weights": ("e1 = Transpose(e)  t = Add(e1, e)", {"e": np.zeros((0, HUGE), np.float32)}),
    "expanded": ("u = Unsqueeze(c, k)  t = Expand(u, s)", {"k": ints(2), "s": ints(1, 16, HUGE)}),
    "expanded, flat": ("u = Unsqueeze(c, k)  v = Expand(u, s)  t = Flatten(v)", {"k": ints(2), "s": ints(1, 16, HUGE)}),
    "expanded constant": ("v = Expand(k, s)  t = Relu(v)", {"k": noise(1), "s": ints(HUGE)}),
    "tiled": ("t = Tile(c, s)", {"s": ints(1, HUGE)}),
    "tiled constant": ("v = Tile(k, s)  t = Relu(v)", {"k": noise(1), "s": ints(HUGE)}),
    "padded": ("t = Pad(c, s)", {"s": ints(0, 0, 0, HUGE)}),
    "padded constant": ("v = Pad(k, s)  t = Relu(v)", {"k": noise(1), "s": ints(0, HUGE)}),
    "one of many": ("t = OneHot(i, d, v)", {"i": ints(1), "d": np.array(HUGE), "v": noise(2)}),
    "counted": (
        "r = Range(zero, d, one)  f = Cast<to=1>(r)  t = Mul(f, f)",
        {"zero": np.array(0), "d": np.array(HUGE), "one": np.array(1)},
    ),
    "generated": ("v = ConstantOfShape(s)  t = Relu(v)", {"s": ints(HUGE)}),
    "generated whole numbers": ("v = ConstantOfShape<value = int64[1] {3}>(s)  t = Cast<to=1>(v)", {"s": ints(HUGE)}),
    "generated target": ("s = ConstantOfShape<value = int64[1] {1}>(k)  t = Reshape(c, s)", {"k": ints(HUGE)}),
    "generated weight": ("v = ConstantOfShape(s)  t = MatMul(c, v)", {"s": ints(16, HUGE)}),
    "generated weights": (
        "\n".join(f"v{i} = ConstantOfShape(s)  c{i} = MatMul(c, v{i})" for i in range(9)) + "\nt = Sum(c0, c1, c2, c8)",
        {"s": ints(16, 2**20)},
    ),
    "doubled": (doubled("c", 30, 1), {}),
    "doubled constant": (doubled("k", 30, 0), {"k": noise(4)}),
    "doubled shape": ("s = Shape(c)\n" + doubled("s", 30, 0), {}),
    "squared": ("\n".join(["q0 = Mul(k, k)", *(f"q{i + 1} = Mul(q{i}, q{i})" for i in range(60)), "t = Mul(q60, k)"]),
                {"k": ints(3)}),
    "declared": ("v = Relu(wide)  t = MatMul(v, e)", {"e": np.zeros((HUGE, 0), np.float32)}),
    "depth to many": (f"t = SpaceToDepth<blocksize={HUGE}>(p)", {"p": noise(1, 2, 4, 4)}),
    "wide and long": ("\n".join(["q0 = Tile(c, s)", *(f"q{i + 1} = Relu(q{i})" for i in range(1500)),
                                "t = Relu(q1500)"]),
                      {"s": ints(1, 2**14)}),
}  # fmt: skip
PROGRAM = """
import json, re, resource, sys, time
from pathlib import Path
import numpy as np
import compress_ops.model
from compress_ops.errors import OnnxpressError
from compress_ops.graph.clean.simplify import simplify
from compress_ops.measure.inspection import inspect_model
from compress_ops.model import load
from compress_ops.passes import Context
from compress_ops.prune.prune_channels import prune_channels
from compress_ops.prune.prune_heads import prune_heads

def peak():
    # of this program: ru_maxrss would count in that of the process which started it
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024

def look(path):
    inspection = inspect_model(path)
    assert inspection.flops >= 0
    model, ctx = load(path), Context(np.random.default_rng(0))
    simplify(model, ctx)
    prune_heads(model.copy(), ctx)
    return sorted(prune_channels(model, ctx).touched)

compress_ops.model.generated_faults = lambda *_: ()  # the gate would refuse most of these: what is behind it is tried
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
for path in sorted(Path(sys.argv[1]).glob("*.onnx")):
    start = time.process_time()
    try:
        found = look(path)
    except OnnxpressError as error:
        found = str(error)
    print(json.dumps([path.stem, found, peak(), time.process_time() - start]), flush=True)
"""


pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc to read the peak from")


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> dict[str, tuple[list[str] | str, int, float]]:
    """What became of each model, the most memory in megabytes so far, and its seconds; all in one process."""
    folder = tmp_path_factory.mktemp("small")
    for name, (lines, weights) in CASES.items():
        proto = proto_of(GRAPH.format(lines=lines, huge=HUGE), **WEIGHTS, **weights)
        assert proto.ByteSize() < 200_000
        onnx.save(proto, folder / f"{name}.onnx")
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(folder)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    return {name: (found, *rest) for name, found, *rest in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("name", CASES)
def test_small_files_cost_little(outcomes, name: str) -> None:
    found, megabytes, seconds = outcomes[name]
    assert megabytes < MEGABYTES and seconds < SECONDS
    if name == "wide and long":
        assert "more channels than a model of its size" in found
    else:
        assert {"w1", "w2"} <= set(found)
