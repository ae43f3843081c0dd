"""What choosing by `onnxpress quantize --data` costs, in processor seconds over those of onnxruntime's quantize_static.

    python -m benchmarks.quantize_cost FOLDER [--also MODEL] [--only NAME...]

FOLDER as made by benchmarks/models.py; --also is a recogniser of text lines more, such as PP-OCRv6's of rapidocr. Run
from the root of the repository, with onnxpress on the PATH beside this Python.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.data import encoder_feeds, pages, text_lines
from benchmarks.quantize.choosing import choosing
from benchmarks.quantize.scores import Feeds
from benchmarks.tables import put_goals

SMALL, LARGE = 6.0, 3.0
Case = tuple[Callable[[], Feeds], int, int, float]


def _lines() -> Feeds:
    return {"x": text_lines()[0]}


def _pages() -> Feeds:
    return {"x": pages()}


CASES: dict[str, Case] = {
    "ppocr-rec": (_lines, 48, 6, SMALL),
    "ppocr-det": (_pages, 6, 1, SMALL),
    "minilm-classic": (encoder_feeds, 128, 16, LARGE),
}
"""By name of the model: its data, how many samples of it calibrate, how many are fed at once, and what is asked."""


def main() -> None:
    """Print a table for each model, and what was asked beside what was reached."""
    parser = argparse.ArgumentParser(description="What choosing costs.")
    parser.add_argument("models", type=Path)
    parser.add_argument("--also", type=Path, help="one more recogniser of text lines")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), metavar="NAME")
    arguments = parser.parse_args()
    wanted = {arguments.models.resolve() / f"{name}.onnx": CASES[name] for name in arguments.only}
    if arguments.also is not None:
        wanted[arguments.also.resolve()] = CASES["ppocr-rec"]
    goals = []
    for model, (feeds, number, batch, most) in wanted.items():
        with tempfile.TemporaryDirectory() as folder:
            goals += choosing(model, feeds(), number, batch, most, Path(folder), arguments.models)
    put_goals(goals)


if __name__ == "__main__":
    main()
