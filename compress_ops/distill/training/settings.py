"""How to train: all numbers of a training in one place, checked where they are made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, Literal, get_args

from ...errors import PassError, raise_all

OptimizerName = Literal["sgd", "adam", "adamw"]
ScheduleName = Literal["constant", "cosine", "step"]

_POSITIVE = ("epochs", "accumulate", "epsilon")
_OPTIONAL = ("steps", "learning_rate", "clip_norm", "patience")
_SHARES = ("warmup", "momentum", "beta1", "beta2")
_LENGTH = ("epochs", "steps", "patience")


@dataclass(frozen=True)
class TrainSettings:
    """``steps`` limits the updates of all epochs together. A ``learning_rate`` of None is found by trials (``rates``).
    ``warmup`` is the share of all steps in which it rises from 0. ``momentum`` belongs to sgd; ``beta1``, ``beta2`` and
    ``epsilon`` to adam and adamw.

    ``weight_decay`` (lambda) and ``l1`` concern weights of two dimensions and more, never biases and scales: sgd and
    adam add lambda w to the gradient, adamw takes lr lambda w from w; l1 adds l1 sign(w). ``clip_norm`` limits the
    norm of the whole gradient. ``accumulate`` batches make one step. ``patience``: epochs without a better score of
    the evaluation after which training ends.
    """

    epochs: int = 1
    steps: int | None = None
    learning_rate: float | None = None
    optimizer: OptimizerName = "adamw"
    schedule: ScheduleName = "cosine"
    warmup: float = 0.0
    weight_decay: float = 0.0
    momentum: float = 0.9
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    clip_norm: float | None = None
    l1: float = 0.0
    accumulate: int = 1
    patience: int | None = None

    def __post_init__(self) -> None:
        raise_all(self._faults())

    def _faults(self) -> Iterator[PassError]:
        given = asdict(self)
        for name, value in given.items():
            if isinstance(value, float) and not isfinite(value):
                yield _fault(name, value, "a finite number")
        for name in (*_POSITIVE, *(name for name in _OPTIONAL if given[name] is not None)):
            if given[name] <= 0:
                yield _fault(name, given[name], "above 0")
        for name in _SHARES:
            if not 0 <= given[name] < 1:
                yield _fault(name, given[name], "at least 0 and below 1")
        for name in ("weight_decay", "l1"):
            if given[name] < 0:
                yield _fault(name, given[name], "at least 0")
        for name, known in (("optimizer", get_args(OptimizerName)), ("schedule", get_args(ScheduleName))):
            if given[name] not in known:
                yield _fault(name, given[name], f"one of {', '.join(known)}")

    def lasting(self) -> dict[str, Any]:
        """What must not change when a training is taken up again: all but how long it lasts."""
        return {name: value for name, value in asdict(self).items() if name not in _LENGTH}


def _fault(name: str, value: Any, wanted: str) -> PassError:
    return PassError(f"{name} is {value}: it must be {wanted}")
