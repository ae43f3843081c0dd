"""What a compressed model must reach, and whether it did.

A limit is held against a 95 % interval: it is *met* if the whole interval keeps it, *missed* if the whole interval
breaks it, and *not proven* if the interval lies on both sides. Sizes are exact. Times have 2 % of noise: a speed-up of
s is met by an interval from s / 1.02 on, and missed by one that lies below s. So ``min_speedup: 1`` is missed exactly
where the report says "slower", and met by "no measurable difference" unless the interval reaches further down.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from ..settings import Settings, percent
from .intervals import NOISE, Interval
from .metrics.scores import Drop

Part = Literal["size", "latency", "accuracy", "fidelity"]
_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_FEWEST_BYTES = 1000  # no model is smaller: a bare number below was meant in another unit
_NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Limit:
    """An amount, absolute or as a share of the original's, and how it was written."""

    amount: float
    relative: bool
    text: str


class Budget(Settings):
    """Limits that the result must meet; missed is exit status 1."""

    max_size: str | int | None = Field(None, description="30% of the original, or 12 MB, or bytes.")
    min_speedup: float | None = Field(None, gt=0, description="Time of the original over time of the result.")
    max_drop: str | float | None = Field(None, description="2% relative, or 0.02 absolute, of the first metric.")
    min_closeness: float | None = Field(
        None, gt=0, le=1, description="Closeness of the worst output to the original's; 1 is the same."
    )
    against: str | None = Field(
        None,
        description="What max_drop and min_closeness are about: an ONNX file, such as a teacher; null: the original.",
    )

    @field_validator("max_size", "max_drop", mode="before")
    @classmethod
    def _readable(cls, value: Any, info: ValidationInfo) -> Any:
        if value is not None:
            {"max_size": parse_size, "max_drop": parse_drop}[str(info.field_name)](value)
        return value


@dataclass(frozen=True)
class Verdict:
    """How one limit came out."""

    limit: Literal["max_size", "min_speedup", "max_drop", "min_closeness"]
    wanted: str
    measured: str
    verdict: Literal["met", "missed", "not proven"]


def parse_size(value: str | int) -> Limit:
    """``30%`` of the original, ``12 MB``, ``300 kB``, ``1.5 GiB``, or a number of bytes."""
    text = str(value).strip()
    if share := percent(text):
        return Limit(share, True, text)
    parts = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text)
    unit = _UNITS.get(parts[2].upper() or "B") if parts else None
    if (
        isinstance(value, bool | float)
        or not parts
        or not unit
        or (unit == 1 and "." in parts[1])
        or not float(parts[1])
    ):
        raise ValueError(
            f"'{value}' is no size; write a share of the original (30%), a size (12 MB) or bytes (12000000)"
        )
    if not parts[2] and float(parts[1]) < _FEWEST_BYTES:
        raise ValueError(_too_few(parts[1]))
    return Limit(float(parts[1]) * unit, False, format_bytes(float(parts[1])) if not parts[2] else text)


def _too_few(number: str) -> str:
    meant = f"{number}%" if float(number) <= 100 else f"{number} kB"
    return f"{number} bytes? write {meant} or {number} MB"


def parse_drop(value: str | float) -> Limit:
    """``2%`` of the original's value of the metric, or an absolute difference such as 0.02."""
    text = str(value).strip()
    if (share := percent(text)) is not None:
        return Limit(share, True, text)
    if isinstance(value, bool) or not re.fullmatch(r"\d+(\.\d+)?([eE][-+]?\d+)?", text):
        raise ValueError(f"'{value}' is no drop; write a share of the metric (2%) or a difference (0.02), not below 0")
    return Limit(float(text), False, text)


def format_bytes(size: float) -> str:
    """``1.20 MB``: three digits and a decimal unit."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= 0.9995 * unit:  # which rounds to 1.00
            return (
                f"{size / unit:#.3g}".rstrip(".") + f" {name}" if size < 999.5 * unit else f"{size / unit:.0f} {name}"
            )
    return f"{size:.0f} B"


def needs(budget: Budget) -> frozenset[Part]:
    """What must be measured to judge this budget."""
    parts: dict[Part, object] = {
        "size": budget.max_size,
        "latency": budget.min_speedup,
        "accuracy": budget.max_drop,
        "fidelity": budget.min_closeness,
    }
    return frozenset(part for part, limit in parts.items() if limit is not None)


def judge(
    budget: Budget,
    *,
    original_size: int,
    size: int,
    speedup: Interval | None = None,
    drop: Drop | None = None,
    closeness: tuple[float | None, str] = (None, ""),
) -> list[Verdict]:
    """A verdict on each limit; sizes are counted bytes, ``closeness`` comes with what decided it.

    What was not measured is not proven.
    """
    verdicts = []
    if budget.max_size is not None:
        verdicts.append(_judge_size(parse_size(budget.max_size), original_size, size))
    if budget.min_speedup is not None:
        verdicts.append(judge_speedup(budget.min_speedup, speedup))
    if budget.max_drop is not None:
        verdicts.append(_judge_drop(parse_drop(budget.max_drop), drop))
    if budget.min_closeness is not None:
        verdicts.append(judge_closeness(budget.min_closeness, *closeness))
    return verdicts


def _judge_size(limit: Limit, original: int, size: int) -> Verdict:
    allowed = limit.amount * original if limit.relative else limit.amount
    wanted = f"at most {limit.text}" + (f" of {format_bytes(original)}" if limit.relative else "")
    measured = f"{format_bytes(size)} ({size / original:.1%})"
    return Verdict("max_size", wanted, measured, "met" if size <= allowed else "missed")


def judge_closeness(wanted: float, closeness: float | None, why: str) -> Verdict:
    """How close the worst output must stay, and is; ``why`` says which output, and what of it."""
    if closeness is None:
        return Verdict("min_closeness", f"at least {wanted:g}", _NOT_MEASURED, "not proven")
    measured = f"{math.floor(closeness * 1e5) / 1e5:.5f}, {why}"
    return Verdict("min_closeness", f"at least {wanted:g}", measured, _side(closeness >= wanted, closeness < wanted))


def judge_speedup(wanted: float, interval: Interval | None) -> Verdict:
    """How much faster the result must be, and is."""
    text = f"at least {wanted:g}x"
    if interval is None:
        return Verdict("min_speedup", text, _NOT_MEASURED, "not proven")
    measured = f"{interval.low:.3g}x to {interval.high:.3g}x"
    return Verdict("min_speedup", text, measured, _side(interval.low >= wanted / NOISE, interval.high < wanted))


def _judge_drop(limit: Limit, drop: Drop | None) -> Verdict:
    interval = (drop.relative_interval if limit.relative else drop.interval) if drop else None
    if interval is None:
        return Verdict("max_drop", f"at most {limit.text}", _NOT_MEASURED, "not proven")
    form = "{:.2%} to {:.2%}" if limit.relative else "{:.4g} to {:.4g}"
    verdict = _side(interval.high <= limit.amount, interval.low > limit.amount)
    return Verdict("max_drop", f"at most {limit.text}", form.format(interval.low, interval.high), verdict)


def _side(met: bool, missed: bool) -> Literal["met", "missed", "not proven"]:
    return "met" if met else "missed" if missed else "not proven"
