"""Architectures with random weights at half of their channels, and real models at 30 %: shrink, speed and the proof.

The proof is that of tests/prune/channel_proof.py: a random half of every group is cut, and the outputs equal those of
the original with the same channels zeroed.
"""

from __future__ import annotations

from pathlib import Path

import onnx

from benchmarks.tables import Goal, put
from compress_ops.model import Model, load
from compress_ops.prune import prune_channels
from compress_ops.prune.channels import Grouping, find_groups
from tests.prune.channels.channel_proof import Feeds, parameters, prove, strip_softmax, with_random_weights
from tests.prune.channels.test_channels_models import FEEDS, image

from .tools import context, loaded_from, speed_up, stored

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
GONE = 0.45
ROUNDING = 5e-6  # relative to the largest output: some 100 layers of float32 sums, taken in another order
FASTER = {"resnet50": 3.0, "vgg19": 3.0, "densenet121": 2.0}
REAL = ("ppocr-rec", "ppocr-det", "minilm-classic", "minilm-dynamo", "silero-vad")
SHRINK = 0.25


def architectures() -> list[Goal]:
    """The wheel's light set at ratio 0.5."""
    rows, goals = [], []
    for path in sorted(LIGHT.glob("light_*.onnx")):
        name, made = path.stem.removeprefix("light_"), with_random_weights(load(path))
        feeds = {made.graph.inputs[0].name or "": image(224, 224)}
        prunable, whole = _prunable(find_groups(made)), parameters(made)
        error = _proof(made.copy(), feeds, 0.5)
        small = made.copy()
        prune_channels(small, context(), ratio=0.5)
        gone, faster = whole - parameters(small), speed_up(made, small, feeds)
        rows.append([name, f"{gone / whole:.0%}", f"{gone / prunable:.0%}", f"{faster:.2f}x", f"{error:.1e}"])
        goals += [
            Goal(f"{name}: prunable parameters gone", gone / prunable, GONE),
            Goal(f"{name}: the proof", error, ROUNDING, at_most=True),
        ]
        goals += [Goal(f"{name}: speed-up", faster, FASTER[name])] if name in FASTER else []
    heads = ["architecture", "parameters gone", "of those in prunable weights", "speed-up", "error of the proof"]
    put(heads, rows, "Random weights, ratio 0.5")
    return goals


def real_models(models: Path) -> list[Goal]:
    """Real networks without 30 % of their parameters: what the file loses, and what is declined."""
    rows, goals = [], []
    for name in REAL:
        model = load(models / f"{name}.onnx")
        before, copy = stored(model), loaded_from(models, name)
        change = prune_channels(model, context(), ratio=0.3, by="parameters")
        shrink, error = 1 - stored(model) / before, _proof(load(models / f"{name}.onnx"), FEEDS[name], 0.3)
        faster = speed_up(copy, model, FEEDS[name])
        reasons = "; ".join(dict.fromkeys(declined.reason for declined in change.declined))
        rows.append([name, f"{shrink:.1%}", f"{faster:.2f}x", f"{error:.1e}", f"{len(change.declined)}: {reasons}"])
        goals += [
            Goal(f"{name}: shrink of the file", shrink, SHRINK),
            Goal(f"{name}: the proof", error, ROUNDING, at_most=True),
        ]
    put(
        ["model", "shrink of the file", "speed-up", "error of the proof", "declined"],
        rows,
        "Real models, 30 % of the parameters",
    )
    return goals


def _proof(model: Model, feeds: Feeds, ratio: float) -> float:
    strip_softmax(model)
    return prove(model, feeds, ratio)[0]


def _prunable(grouping: Grouping) -> int:
    """Parameters of the weights of which at least one index may be cut."""
    weights = {member.weight for group in grouping.groups if len(group) > 1 for member in group.members}
    return sum(weight.const_value.size for weight in weights if weight.const_value is not None)
