"""The outer choices: how much is cut and how, how long is trained, and with which options layers are given forms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from ..costs.forms import Form
from ..precisions import Passes
from .bases import cutting

if TYPE_CHECKING:
    import optuna

CALIBRATORS = ("minmax", "percentile", "mse")
BLOCK_SIZES = (32, 64, 128)
SCORES = ("activation_weight", "l2", "hessian")
SCOPES = ("least_error", "uniform", "global")
MOST_CUT, STEP = 0.85, 0.05
EPOCHS = (2, 40)
_OF_CUTS = ("score", "scope", "epochs")  # chosen where something is cut


@dataclass(frozen=True)
class Choices:
    """``cut`` is the share of channels that go, by ``score`` and ``scope``; ``epochs`` of distillation follow."""

    cut: float = 0.0
    calibrator: str = CALIBRATORS[0]
    block_size: int = BLOCK_SIZES[0]
    score: str = SCORES[0]
    scope: str = SCOPES[0]
    epochs: int = 0

    @classmethod
    def suggested(cls, trial: optuna.Trial, *, retrain: bool) -> Choices:
        """What a trial suggests."""
        found = cls(
            cut=round(trial.suggest_float("cut", 0.0, MOST_CUT, step=STEP), 2),
            calibrator=trial.suggest_categorical("calibrator", CALIBRATORS),
            block_size=trial.suggest_categorical("block_size", BLOCK_SIZES),
        )
        if not found.cut:
            return found
        return replace(
            found,
            score=trial.suggest_categorical("score", SCORES),
            scope=trial.suggest_categorical("scope", SCOPES),
            epochs=trial.suggest_int("epochs", *EPOCHS, log=True) if retrain else 0,
        )

    def told(self) -> Mapping[str, Any]:
        """As a study is told to try them."""
        return {name: value for name, value in asdict(self).items() if self.cut or name not in _OF_CUTS}

    def passes(self) -> Passes:
        """The steps before layers are given forms."""
        if not self.cut:
            return []
        return cutting({"ratio": self.cut, "score": self.score, "scope": self.scope}, self.epochs)

    def form(self, form: Form) -> Form:
        """The form with the options that are chosen."""
        options: Mapping[str, Mapping[str, Any]] = {
            "quantize_static": {"calibrator": self.calibrator},
            "quantize_weights": {"block_size": self.block_size},
        }
        return replace(form, options={**form.options, **options.get(form.operation, {})})


def first_choices(*, retrain: bool) -> list[Choices]:
    """What is tried before anything is known: the model as it is, and less than half of its channels cut."""
    return [Choices(), Choices(cut=0.45, epochs=8 if retrain else 0)]
