"""Measuring models side by side: size, latency, cost, accuracy, fidelity, and whether a budget is met."""

from __future__ import annotations

from .budget import Budget, Verdict, needs
from .comparison import PARTS, Comparison, compare_models, judge_model
from .feeds import Measure
from .metrics.table import METRIC_NAMES, parse_metric

__all__ = [
    "METRIC_NAMES",
    "PARTS",
    "Budget",
    "Comparison",
    "Measure",
    "Verdict",
    "compare_models",
    "judge_model",
    "needs",
    "parse_metric",
]
