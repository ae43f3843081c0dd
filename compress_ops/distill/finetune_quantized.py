"""finetune_quantized: integer weights learn to give what the float model gives (quantization-aware fine-tuning).

Forward the weights are rounded, backward the rounding counts as the identity (straight-through estimator, Bengio et
al. 2013, arXiv:1308.3432; Jacob et al. 2018, arXiv:1712.05877), the teacher is the model before quantization (Mishra
and Marr 2018, Apprentice, arXiv:1711.05852). ``fake_quantization`` writes the graph that is trained, ``task`` trains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Annotated, Any

from pydantic import Field

from ..errors import PassError
from ..model import Model
from ..passes import ALL, Change, Context, Need, Promise, register
from . import options as o
from .autodiff import trainable
from .fake_quantization import (
    PORTABLE,
    Codes,
    find_codes,
    has_integer_bias,
    other_forms,
    refuse_contributed,
    with_factors,
    with_floats,
)
from .held_out import weights_of
from .losses import chosen_weights
from .task import Task, lesson_of
from .train import write_weights
from .training.settings import TrainSettings


@register("finetune_quantized", promises=Promise.IMPROVES, needs={Need.TRAINING, Need.UNQUANTIZED})
def finetune_quantized(
    model: Model,
    ctx: Context,
    *,
    teacher: Annotated[
        o.Teacher,
        Field(description="ONNX file that teaches, relative to the recipe; null: the model before quantization."),
    ] = None,
    learn_scales: Annotated[
        bool,
        Field(description="Train the step sizes of weights too (LSQ); those that an int32 bias depends on stay."),
    ] = False,
    epochs: o.Epochs = 10,
    batch: o.BatchRows = None,
    learning_rate: o.LearningRate = 1e-3,
    loss: o.LossOption = None,
    blend: o.Blend = 0.9,
    temperature: o.Temperature = 2.0,
    match: o.Match = {},  # noqa: B006
    train: o.Train = ALL,
    hold_out: o.HoldOut = 0.1,
    optimizer: o.Optimizer = "adamw",
    schedule: o.Schedule = "cosine",
    warmup: o.WarmUp = 0.0,
    weight_decay: o.WeightDecay = 0.0,
    clip_norm: o.ClipNorm = None,
    accumulate: o.Accumulate = 1,
    patience: o.Patience = None,
) -> Change:
    """Train the weights of a quantized model, integers included, to give what the float model gives.

    For weights that DequantizeLinear reads: quantize_static, or quantize_weights with storage qdq. No labels are
    needed. Losses are those of distill. The weights of the epoch that does best on held-out data stay, and where none
    does better than before, nothing is changed. Nodes, names, shapes and types stay; float weights and biases are
    trained too, int32 biases stay. Other forms of quantized layers have no gradients and are declined.
    """
    settings = TrainSettings(
        epochs=epochs,
        learning_rate=learning_rate,
        optimizer=optimizer,
        schedule=schedule,
        warmup=warmup,
        weight_decay=weight_decay,
        clip_norm=clip_norm,
        accumulate=accumulate,
        patience=patience,
    )
    declined = Change()
    found = _codes(model, declined)
    chosen = _chosen([*(weight.name for weight in found), *trainable(model)], train)
    codes, floats = [weight for weight in found if weight.name in chosen], [n for n in trainable(model) if n in chosen]
    copy = with_floats(model, codes)
    factors = with_factors(copy, _free(codes, declined)) if learn_scales else {}
    lesson = lesson_of(copy, replace(ctx, original=ctx.unquantized), teacher, match, {})
    weights = chosen_weights(loss, blend, lesson.targets.natures)
    names = [*(weight.name for weight in codes), *floats, *factors.values()]
    task = Task(copy, ctx, lesson, weights, names, temperature, settings, hold_out=hold_out, batch=batch)
    change = task.tried() if ctx.dry_run else task.done()
    change.declined += declined.declined
    if not ctx.dry_run and change.touched:
        change.touched = _written(model, copy, codes, floats, factors, change)
    change.chosen |= {"loss": dict(weights)}
    return change


def _codes(model: Model, change: Change) -> list[Codes]:
    """What can be trained; what cannot is declined, and that there is nothing at all is an error."""
    refuse_contributed(model)
    others = dict(other_forms(model))
    found = find_codes(model, change)
    faults = [*others.values(), *(f"{held.name}: {held.reason}" for held in change.declined)]
    for name, reason in others.items():
        change.decline(name, reason)
    if not found:
        hint = faults[0] if faults else "put the step behind quantize_static, or quantize_weights: {storage: qdq}"
        raise PassError("the model has no integer weight behind a DequantizeLinear that can be trained", hint=hint)
    return found


def _chosen(names: Sequence[str], patterns: Sequence[str]) -> set[str]:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            some = ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
            raise PassError(f"train: '{pattern}' matches no weight that can be trained", hint=f"there are: {some}")
    return {name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)}


def _free(codes: list[Codes], change: Change) -> list[Codes]:
    """Those whose scales may move: runtimes take an int32 bias to have the scale of input times weight."""
    bound = {weight.scale for weight in codes if has_integer_bias(weight.node)}
    for name in sorted(bound):
        change.decline(name, "the int32 bias of the layer has the scale of input times weight: both stay")
    return [weight for weight in codes if weight.scale not in bound]


def _written(
    model: Model, copy: Model, codes: list[Codes], floats: list[str], factors: dict[str, str], change: Change
) -> dict[str, str]:
    """Put what was trained into the model; what became of each weight that changed."""
    import numpy as np

    learned = {name: weights_of(copy, [factor])[factor] for name, factor in factors.items()}
    scales, old = weights_of(model, list(factors)), weights_of(model, floats)
    trained, one = weights_of(copy, [weight.name for weight in codes]), np.ones(1, np.float32)
    rounded = {weight: weight.rounded(trained[weight.name], learned.get(weight.scale, one)) for weight in codes}
    moved = {weight: float((after != weight.tensor.numpy()).mean()) for weight, after in rounded.items()}
    told = {weight.name: f"{share:.1%} of the codes" for weight, share in moved.items() if share}
    _keep_word(model, rounded, change)
    for name in factors:
        told[name] = f"steps changed by up to {np.abs(learned[name] - 1).max():.1%}"
    new = weights_of(copy, floats)
    told |= {name: "trained" for name in floats if not np.array_equal(new[name], old[name])}
    _store(model, {weight: after for weight, after in rounded.items() if moved[weight]})
    write_weights(model, {**new, **{name: scales[name] * learned[name] for name in factors}})
    return told


def _store(model: Model, rounded: Mapping[Codes, Any]) -> None:
    import onnx_ir as ir

    for weight, after in rounded.items():
        tensor = ir.Tensor(after, weight.tensor.dtype, name=weight.name)
        model.graph.initializers[weight.name].const_value = tensor


def _keep_word(model: Model, rounded: Mapping[Codes, Any], change: Change) -> None:
    """Take back what the model says of other processors where it no longer holds."""
    grown = [weight.name for weight, after in rounded.items() if weight.grew(after)]
    if grown and model.ir.metadata_props.get(PORTABLE) == "true":
        model.ir.metadata_props[PORTABLE] = "false"
        change.notes["portable"] = f"no longer: the codes of {', '.join(grown)} grew; outputs may differ without VNNI"
