"""Models that the forms of layers are chosen on: the model as it is, and narrower ones that learned to do the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ...errors import OnnxpressError
from ...measure.budget import Verdict, judge
from ...measure.comparison import Comparison, compare_models
from ...measure.metrics.scores import Drop
from ...pipeline.job import Prepared, with_passes
from ...pipeline.steps import apply_steps
from ...recipe import Auto
from ..precisions import Passes
from ..preparing import steps_of
from .wishes import Wishes

_SECONDS = 2.0  # of timing
_RATIOS = (0.25, 0.45, 0.6, 0.75, 0.85)  # of channels that go
_EPOCHS = (8, 40)  # of training: at first, and at most once it is known what one takes
_TRAINING = 0.1  # of the time that is given


@dataclass(frozen=True)
class Base:
    """A model with the first steps behind it, and how it compares with the original. ``name`` is empty for no cut."""

    name: str
    prepared: Prepared
    found: Comparison

    @property
    def loss(self) -> float:
        """Noise over signal that it comes with: twice the distance of its worst output."""
        closeness, _ = self.closeness
        return 0.0 if closeness is None else 2 * (1 - closeness)

    def seconds(self, of: str) -> float:
        """What an inference takes, of the ``original`` or as ``prepared``."""
        return 1.0 if isinstance(self.found.latency, str) else self.found.latency.models[of].median_seconds

    def size(self, of: str) -> int:
        """Counted bytes, of the ``original`` or as ``prepared``."""
        assert not isinstance(self.found.size, str)
        return self.found.size[of].counted

    @property
    def closeness(self) -> tuple[float | None, str]:
        """Of its worst output, and what decided it."""
        assert not isinstance(self.found.fidelity, str)
        return self.found.fidelity.closeness("prepared")

    @property
    def drop(self) -> Drop | None:
        """Of the first metric, where that was scored."""
        if isinstance(self.found.accuracy, str):
            return None
        return next(iter(self.found.accuracy.metrics.values())).models["prepared"].drop

    def verdicts(self, wishes: Wishes) -> list[Verdict]:
        """On what limits loss."""
        return judge(wishes.of_loss(), original_size=1, size=1, drop=self.drop, closeness=self.closeness)

    def may_keep(self, wishes: Wishes) -> bool:
        """Whether what limits loss is not missed for sure."""
        return all(verdict.verdict != "missed" for verdict in self.verdicts(wishes))


def base_of(name: str, prepared: Prepared, wishes: Wishes) -> Base:
    """The model as it stands, measured beside the original."""
    recipe = prepared.job.recipe
    evaluation = recipe.data.evaluation
    scored = wishes.budget.max_drop is not None and evaluation is not None
    with prepared.model.exported() as path:
        found = compare_models(
            {"original": prepared.job.model, "prepared": path},
            providers=recipe.provider,
            threads=recipe.threads,
            settings=recipe.measure.but(seconds=_SECONDS),
            evaluation=prepared.data.get("evaluation") if scored else None,
            metrics=evaluation.metrics[:1] if scored and evaluation is not None else [],
            fidelity_data=prepared.data["calibration"],
            seed=recipe.seed,
            parts={"latency", "size", "fidelity", "accuracy"},
        )
    return Base(name, prepared, found)


def narrower(prepared: Prepared, wishes: Wishes, auto: Auto) -> Iterator[Base]:
    """Models of fewer and fewer channels, as long as what limits loss is not missed for sure."""
    epochs = _EPOCHS[0] if auto.retrain else 0
    for ratio in _RATIOS:
        try:
            steps = cutting({"ratio": ratio, "score": "activation_weight", "scope": "least_error"}, epochs)
            cut = base_of(f"{ratio:.0%} of channels cut", further(prepared, steps), wishes)
        except OnnxpressError:  # nothing that can be cut, or trained
            return
        if not cut.may_keep(wishes):
            return
        yield cut
        if epochs and auto.trials is None:
            epochs = affordable(auto, cut.prepared.behind[-1].seconds / epochs, _EPOCHS[1])


def affordable(auto: Auto, epoch: float, most: int) -> int:
    """As many epochs as fit into a share of the time, where one takes ``epoch`` seconds; one at least."""
    return int(min(max(_TRAINING * auto.minutes * 60 / epoch, 1), most))


def cutting(cut: Mapping[str, Any], epochs: int) -> Passes:
    """The steps that cut channels, with the options of prune_channels, and mend what is left."""
    trained: Passes = [{"distill": {"epochs": epochs}}] if epochs else []
    return [{"prune_channels": dict(cut)}, {"refit": {"allow_unchanged": True}}, *trained]


def further(prepared: Prepared, passes: Passes) -> Prepared:
    """The job with more steps, on a copy of the model that has them behind it."""
    job = with_passes(prepared.job, [*prepared.job.recipe.passes, *steps_of(passes)])
    longer = replace(prepared, job=job, model=prepared.model.copy())
    return replace(longer, behind=[*apply_steps(longer)])
