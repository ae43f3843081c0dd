"""How to train: all numbers of a training in one place; those that passes take have their sentences here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from ...settings import Settings

OptimizerName = Literal["sgd", "adam", "adamw"]
ScheduleName = Literal["constant", "cosine", "step"]
Epochs = Annotated[int, Field(ge=1, description="How often all training data goes by.")]
LearningRate = Annotated[
    float | None,
    Field(gt=0, description="Size of the steps, which falls as the schedule says; null: found in short trials."),
]
Penalty = Annotated[float, Field(ge=0, description="Factor of the sum of magnitudes, beside the loss.")]
_LENGTH = {"epochs", "steps", "patience"}


class Descent(Settings):
    """How gradients move weights, for passes that let their user say so."""

    optimizer: OptimizerName = Field("adamw", description="Rule by which gradients move weights.")
    schedule: ScheduleName = Field("cosine", description="How the learning rate falls.")
    warmup: float = Field(0.0, ge=0, lt=1, description="Share of all steps in which the learning rate rises.")
    weight_decay: float = Field(0.0, ge=0, description="Pull of weights to zero; biases and scales are left out.")
    clip_norm: float | None = Field(None, gt=0, description="Longest gradient of a step; null: any.")
    accumulate: int = Field(1, ge=1, description="Batches whose gradients make one step.")
    patience: int | None = Field(
        None, ge=1, description="Epochs without gain on held-out data before it ends early; null: never."
    )


class TrainSettings(Descent):
    """``steps`` limits the updates of all epochs together. A ``learning_rate`` of None is found by trials (``rates``).
    ``momentum`` belongs to sgd; ``beta1``, ``beta2`` and ``epsilon`` to adam and adamw.

    ``weight_decay`` (lambda) and ``l1`` concern weights of two dimensions and more, never biases and scales: sgd and
    adam add lambda w to the gradient, adamw takes lr lambda w from w; l1 adds l1 sign(w). ``clip_norm`` limits the
    norm of the whole gradient.
    """

    epochs: Epochs = 1
    steps: int | None = Field(None, ge=1)
    learning_rate: LearningRate = None
    momentum: float = Field(0.9, ge=0, lt=1)
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.999, ge=0, lt=1)
    epsilon: float = Field(1e-8, gt=0)
    l1: Penalty = 0.0

    @classmethod
    def of(cls, options: Settings) -> TrainSettings:
        """What a pass's options say of its training."""
        return cls(**{name: value for name, value in options if name in cls.model_fields})

    def lasting(self) -> dict[str, Any]:
        """What must not change when a training is taken up again: all but how long it lasts."""
        return self.model_dump(exclude=_LENGTH)
