"""Commands of `onnxpress auto` as processes of their own, and what their reports say."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SAMPLES = Path("sample_models")
DIGITS = [
    "--data",
    "digits-calibration.npz",
    "--evaluation",
    "digits-test.npz",
    "--labels",
    "label",
    "--metric",
    "top1",
]
TEXT = ["--data", "textlm-calibration.npz", "--evaluation", "textlm-test.npz", "--labels", "next"]
PICKS = ["--data", "recommender-calibration.npz", "--evaluation", "recommender-test.npz", "--labels", "positive"]
SAMPLE_MODELS: dict[str, list[str]] = {
    "digits-cnn": DIGITS,
    "digits-mlp": DIGITS,
    "textlm": [*TEXT, "--metric", "perplexity"],
    "recommender": [*PICKS, "--metric", "hit_rate@10"],
}


@dataclass(frozen=True)
class Found:
    """A report of auto, as JSON, and the exit status."""

    status: int
    report: dict[str, Any]

    @property
    def share(self) -> float:
        return float(self.report["bytes_after"] / self.report["bytes_before"])

    @property
    def speedup(self) -> float:
        return float(self.report["comparison"]["latency"]["models"]["result"]["speedup"])

    @property
    def verdicts(self) -> dict[str, str]:
        return {verdict["limit"]: verdict["verdict"] for verdict in self.report["verdicts"]}

    @property
    def points(self) -> list[dict[str, Any]]:
        return list(self.report["search"]["points"])

    def row(self, name: str) -> list[str]:
        told = ", ".join(f"{verdict['limit']} {verdict['measured']}" for verdict in self.report["verdicts"])
        search = self.report["search"]
        agreement = [_told(search["rank_correlation"], "{:.2f}"), _told(search["within_tenth"], "{:.0%}")]
        cost = f"{self.report['seconds']:.0f} s, {self.report['cpu_seconds']:.0f} CPU s"
        return [name, "met" if not self.status else "**no**", told, f"{self.speedup:.2f}x", *agreement, cost]


def _told(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


HEADS = ["case", "limits", "measured", "speed-up", "rank correlation of loss", "times within 10 %", "cost"]


def auto(model: Path, flags: Sequence[str], out: Path) -> Found:
    """Run the command; the files that flags name lie beside the sample models, or where they say."""
    placed = [str(SAMPLES / flag) if flag.endswith(".npz") and "/" not in flag else flag for flag in flags]
    command = ["onnxpress", "auto", str(model), *placed, "--json", "--force", "-o", str(out)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode not in (0, 1):
        raise SystemExit(f"status {ended.returncode}: {' '.join(command)}\n{ended.stderr}")
    return Found(ended.returncode, json.loads(ended.stdout))
