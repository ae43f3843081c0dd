"""A share of the measured time: the search, on curves that are known, and once on a real clock."""

from __future__ import annotations

import pytest

from compress_ops.errors import PassError
from compress_ops.model import load
from compress_ops.passes import StepOptions
from compress_ops.prune.prune_channels import prune_channels
from compress_ops.prune.units.time import Setting, search
from tests.helpers import SAMPLES, context, proto
from tests.prune.mlp_case import mlp

CURVES = {
    "the square of what is left": lambda knob: 1 - (1 - knob) ** 2,
    "in proportion": lambda knob: 0.9 * knob,
    "half of it fixed": lambda knob: 0.5 * (1 - (1 - knob) ** 2),
    "in steps": lambda knob: 0.8 * round(knob * 8) / 8,
}


def found(curve, ratio: float, width: int = 1000) -> tuple[Setting, list[float]]:
    """What a search on a curve finds for one group of this width, and the settings that it tried."""
    tried: list[float] = []

    def gone(knob: float) -> float:
        tried.append(knob)
        return curve(knob)

    return search(gone, lambda knob: round(knob * width), ratio, context()), tried


@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.45])
@pytest.mark.parametrize("name", CURVES)
def test_the_share_is_reached_in_few_trials(name: str, ratio: float) -> None:
    setting, tried = found(CURVES[name], ratio)
    assert setting.gone == CURVES[name](setting.knob) >= ratio
    assert len(tried) <= 8
    step = 0.1 if name == "in steps" else 0.02
    assert setting.gone <= ratio + step + 1e-9


def test_what_was_tried_is_taken_though_the_clock_is_noisy() -> None:
    """A setting counts by what was measured there, even where a smaller one measured more."""
    noisy = iter([0.9, 0.2, 0.6, 0.1, 0.55, 0.3, 0.5, 0.52])
    setting, _ = found(lambda knob: next(noisy), 0.5)
    assert setting.gone >= 0.5


def test_it_ends_where_no_width_lies_between() -> None:
    _, tried = found(CURVES["in proportion"], 0.45, width=4)
    assert len(tried) < 5


def test_time_that_cannot_go_is_refused() -> None:
    with pytest.raises(
        PassError, match=r"60% of the time cannot go: at most 50\.0% belong to channels that may be cut"
    ):
        found(CURVES["half of it fixed"], 0.6)


@pytest.mark.parametrize("scope", ["uniform", "global"])
def test_a_replay_cuts_the_same_without_a_clock(scope: str, monkeypatch: pytest.MonkeyPatch) -> None:
    measured, replayed = (load(SAMPLES / "digits-cnn.onnx") for _ in range(2))
    change = prune_channels(measured, context(), ratio=0.3, by="latency", scope=scope)
    assert float(change.notes["time gone"].partition("%")[0]) >= 30
    assert change.chosen["by"] == "channels"
    monkeypatch.setattr("compress_ops.prune.shrink.setting_for_time", None)
    options = prune_channels.options.model_validate({"scope": scope, **change.chosen})
    prune_channels(replayed, context(), **options.model_dump(exclude={*StepOptions.model_fields}))
    assert proto(replayed).SerializeToString() == proto(measured).SerializeToString()


def test_trials_leave_the_model_alone() -> None:
    model = mlp()
    before = {weight.name: weight.const_value for weight in model.weights()}
    with pytest.raises(PassError, match="of the time cannot go"):
        prune_channels(model, context(), ratio=0.999, by="latency")
    assert {weight.name: weight.const_value for weight in model.weights()} == before
