"""Print the tables of `make bench-auto`.

    python -m benchmarks.auto FOLDER [PART...]    FOLDER as made by benchmarks/models.py

Run from the root of the repository, with onnxpress on the PATH beside this Python. What `quantize` costs is another
table: benchmarks/quantize_cost.py.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.data import encoder_feeds, pages, text_lines
from benchmarks.tables import Goal, put, put_goals

from .asked import DIGITS, HEADS, SAMPLE_MODELS, SAMPLES, auto
from .chance import beaten, random_points

LIMITS = ["--max-size", "25%", "--max-drop", "1%", "--minutes", "3"]
CLOSE = ["--max-size", "25%", "--min-closeness", "0.99", "--minutes", "3"]
_SEEDS = (0, 1, 2)
_RANDOM = 200


def _data(folder: Path) -> dict[str, list[str]]:
    """Calibration data for the real models; what they lose is told by closeness."""
    np.savez(folder / "lines.npz", x=text_lines()[0][:48])
    np.savez(folder / "pages.npz", x=pages()[:6])
    np.savez(folder / "sentences.npz", **{name: rows[:64] for name, rows in encoder_feeds().items()})
    given = {"ppocr-rec": "lines", "ppocr-det": "pages", "minilm-classic": "sentences"}
    return {model: ["--data", str(folder / f"{data}.npz")] for model, data in given.items()}


def budgets(models: Path, folder: Path) -> list[Goal]:
    """A quarter of the size and 1 % of loss, on each model; sample models with three seeds."""
    rows, goals = [], []
    for name, flags in SAMPLE_MODELS.items():
        found = [auto(SAMPLES / f"{name}.onnx", [*flags, *LIMITS, "--seed", str(s)], folder / "o.onnx") for s in _SEEDS]
        rows += [each.row(f"{name}, seed {seed}") for seed, each in zip(_SEEDS, found, strict=True)]
        same = all(each.verdicts == found[0].verdicts for each in found)
        goals.append(Goal(f"{name}: limits met, of {len(_SEEDS)} seeds", sum(not f.status for f in found), len(_SEEDS)))
        goals.append(Goal(f"{name}: same verdicts", float(same), 1))
    for name, flags in _data(folder).items():
        found = [auto(models / f"{name}.onnx", [*flags, *CLOSE], folder / "o.onnx")]
        rows.append(found[0].row(name))
        goals.append(Goal(f"{name}: limits met", float(not found[0].status), 1))
    put(HEADS, rows, "25 % of the size, 1 % of the metric (closeness 0.99 where there is none), 3 minutes")
    return goals


def agreement(models: Path, folder: Path) -> list[Goal]:
    """How well costs are foretold, on models of other families too, without limits of size."""
    rows, goals = [], []
    light = {f"light-{name}": ["--data", "random"] for name in ("squeezenet", "shufflenet", "inception-v1", "resnet50")}
    places = {**dict.fromkeys(SAMPLE_MODELS, SAMPLES), **dict.fromkeys([*light, *_data(folder)], models)}
    for name, flags in {**SAMPLE_MODELS, **_data(folder), **light}.items():
        found = auto(places[name] / f"{name}.onnx", [*flags[:2], "--minutes", "3"], folder / "o.onnx")
        rows.append(found.row(name))
        search = found.report["search"]
        if search["rank_correlation"] is not None:
            goals.append(Goal(f"{name}: rank correlation of loss", search["rank_correlation"], 0.9))
            goals.append(Goal(f"{name}: times within 10 %", search["within_tenth"] or 0.0, 0.9))
    put(HEADS, rows, "Costs as they were foretold and measured")
    return goals


def fronts(models: Path, folder: Path) -> list[Goal]:
    """No point of a front is beaten by random recipes of the same time."""
    goals = []
    places = {"digits-cnn": SAMPLES, "textlm": SAMPLES, "recommender": SAMPLES, "ppocr-rec": models}
    given = {**SAMPLE_MODELS, **_data(folder)}
    for name, place in places.items():
        model, flags = place / f"{name}.onnx", given[name][:2]
        found = auto(model, [*flags, "--minutes", "3"], folder / "o.onnx")
        data = Path(flags[1]) if "/" in flags[1] else SAMPLES / flags[1]
        random = random_points(model, data, found.report["seconds"], _RANDOM)
        front = [point for point in found.points if point["on_front"] and point["closeness"] and point["speedup"]]
        what = f"{name}: of {len(front)} points of the front beaten by {len(random)} random recipes"
        goals.append(Goal(what, beaten(front, random), 0, at_most=True))
    return goals


def joint(models: Path, folder: Path) -> list[Goal]:
    """Narrower, trained and in few bits at once."""
    flags = [*DIGITS, "--max-drop", "1%", "--fastest", "--retrain", "--training", "digits-train.npz", "--minutes", "5"]
    found = auto(SAMPLES / "digits-cnn.onnx", flags, folder / "o.onnx")
    put(HEADS, [found.row("digits-cnn, joint")], "int8, pruning and distillation, as fast as can be within 1 %")
    return [
        Goal("digits-cnn, joint: speed-up", found.speedup, 4),
        Goal("digits-cnn, joint: times smaller", 1 / found.share, 8),
        Goal("digits-cnn, joint: limits met", float(not found.status), 1),
    ]


PARTS: dict[str, Callable[[Path, Path], list[Goal]]] = {
    "budgets": budgets,
    "agreement": agreement,
    "fronts": fronts,
    "joint": joint,
}


def main() -> None:
    """Print each part's table, and what was asked beside what was reached."""
    parser = argparse.ArgumentParser(description="onnxpress auto against what was asked of it.")
    parser.add_argument("models", type=Path)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART")
    arguments = parser.parse_args()
    goals = []
    for part in arguments.parts or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            goals += PARTS[part](arguments.models, Path(folder))
    put_goals(goals)


if __name__ == "__main__":
    main()
