"""The options that passes of this family share, each with its limits and its sentence."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ..passes import IsFile, Patterns
from .lesson.evaluation import MOST_SEEDS
from .losses import LossName, Preset
from .training.settings import OptimizerName, ScheduleName

LossWeights = Annotated[dict[LossName, Annotated[float, Field(ge=0)]], Field(min_length=1)]

Teacher = Annotated[
    str | None,
    IsFile(),
    Field(description="ONNX file that teaches, relative to the recipe; null: the model as it was given to this run."),
]
Epochs = Annotated[int, Field(ge=1, description="How often all training data goes by.")]
BatchRows = Annotated[
    int | None, Field(ge=1, description="Samples in each step; null: as many as data.batch_size feeds at once.")
]
LearningRate = Annotated[
    float | None,
    Field(gt=0, description="Size of the steps, which falls as the schedule says; null: found in short trials."),
]
LossOption = Annotated[
    LossWeights | Preset | None,
    Field(description="Weights of losses by name, or a preset; null: what suits the outputs."),
]
Blend = Annotated[
    float, Field(ge=0, le=1, description="Share of kl in a preset; the rest goes to labels, or to squares of logits.")
]
Temperature = Annotated[
    float, Field(gt=0, description="What logits are divided by before kl: above 1 small probabilities count more.")
]
Pairs = Annotated[
    dict[str, str],
    Field(description="Inner tensors of student: teacher, names or globs, for hidden, attention and similarity."),
]
Match = Annotated[dict[str, str], Field(description="Outputs of student: teacher, where their names differ.")]
Train = Annotated[Patterns, Field(description="Glob patterns of weight names: no other weights are trained.")]
Adapters = Annotated[
    int | None,
    Field(ge=1, description="Rank of a product that is trained beside each weight and then added; null: weights."),
]
Adaptive = Annotated[
    bool,
    Field(description="Believe the teacher as far as labels say that it is right, sample by sample; needs labels."),
]
HoldOut = Annotated[float, Field(gt=0, lt=1, description="Share of the training data that only measures.")]
Baseline = Annotated[
    Literal["scratch"] | None,
    Field(description="Train the same model from fresh weights with labels alone too, and say what the teacher adds."),
]
Seeds = Annotated[int, Field(ge=2, le=MOST_SEEDS, description="Trainings of each kind that a baseline compares.")]
Optimizer = Annotated[OptimizerName, Field(description="Rule by which gradients move weights.")]
Schedule = Annotated[ScheduleName, Field(description="How the learning rate falls.")]
WarmUp = Annotated[float, Field(ge=0, lt=1, description="Share of all steps in which the learning rate rises.")]
WeightDecay = Annotated[float, Field(ge=0, description="Pull of weights to zero; biases and scales are left out.")]
ClipNorm = Annotated[float | None, Field(gt=0, description="Longest gradient of a step; null: any.")]
Accumulate = Annotated[int, Field(ge=1, description="Batches whose gradients make one step.")]
Patience = Annotated[
    int | None, Field(ge=1, description="Epochs without gain on held-out data before it ends early; null: never.")
]
