"""finetune_quantized: integer weights learn to give what the float model gives (quantization-aware fine-tuning).

Forward the weights are rounded, backward the rounding counts as the identity (straight-through estimator, Bengio et
al. 2013, arXiv:1308.3432; Jacob et al. 2018, arXiv:1712.05877), the teacher is the model before quantization (Mishra
and Marr 2018, Apprentice, arXiv:1711.05852). ``unrounded`` makes the graph that is trained, ``task`` trains it.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ...errors import NoGradient, PassError
from ...model import Model
from ...passes import ALL, Change, Context, Need, Promise, register
from .. import options as o
from ..lesson.task import Task, lesson_of, training_data
from ..lesson.teacher import load_teacher
from ..losses import chosen_weights
from ..training.settings import TrainSettings
from .blocks import BlockName
from .blockwise import Blockwise
from .fake_quantization import other_forms
from .unrounded import Steps, stored_weights, unrounded, write_rounded


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
        Field(description="Train the step sizes of weights too (LSQ)."),
    ] = False,
    learn_activation_scales: Annotated[
        bool,
        Field(description="Train the step sizes of activations too (LSQ), where quantize_static has fixed them."),
    ] = False,
    blocks: Annotated[
        BlockName | None,
        Field(
            description="Train block after block, for models too large to be trained as one: each layer, or what lies "
            "between two residual sums; null: the whole model."
        ),
    ] = None,
    epochs: o.Epochs = 10,
    batch: o.BatchRows = None,
    learning_rate: o.LearningRate = None,
    loss: o.LossOption = None,
    blend: o.Blend = 0.9,
    temperature: o.Temperature = 1.0,
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

    For weights that DequantizeLinear reads (quantize_static, or quantize_weights with storage qdq), for the values of
    codebooks (cluster_weights), and for packed codes with their scales (ternarize_weights, binarize_weights, or
    quantize_weights with storage decoded; tables that are looked up row by row stay). No labels are needed. Losses are
    those of distill. The weights of the epoch that does best on held-out data stay, and where none does better than
    before, nothing is changed. Nodes, names, shapes and types stay, so do zeros that pruning made, and which value of a
    codebook a weight has; other weights and biases are trained too, those of 32 bits included. Other forms of quantized
    layers have no gradients and are declined. With ``blocks`` each block learns to give what the float model gives at
    its place, from what the blocks before it give (BRECQ, Li et al. 2021, arXiv:2102.05426): only one is held for
    training at a time, and operators between layers need no gradient.
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
    stored_weights(model, Change())  # without any it is not the teacher that is missing
    exact = load_teacher(teacher, ctx) if ctx.earlier is None else ctx.earlier
    student = unrounded(model, train, Steps(learn_scales, learn_activation_scales), declined, exact)
    if blocks is not None:
        _refuse(loss=loss, batch=batch, match=match or None)
        run = Blockwise(student, load_teacher(teacher, ctx), training_data(ctx), ctx, settings, hold_out)
        change = run.run(blocks)
    else:
        lesson = lesson_of(student.model, ctx, teacher, match, {}, loss)
        weights = chosen_weights(loss, blend, lesson.targets.natures)
        change = _trained(
            Task(
                student.model,
                ctx,
                lesson,
                weights,
                student.names,
                temperature,
                settings,
                hold_out=hold_out,
                batch=batch,
                mask=student.mask,
            )
        )
        change.chosen |= {"loss": dict(weights)}
    change.declined += declined.declined
    if not ctx.dry_run and change.touched:
        write_rounded(student, model, change)
    return change


def _refuse(**given: object) -> None:
    """Blocks are compared by their own tensors, in the batches that the data has."""
    if told := [name for name, value in given.items() if value is not None]:
        raise PassError(f"blocks are trained by mse, in the data's own batches: leave out {' and '.join(told)}")


def _trained(task: Task) -> Change:
    """As one; where an operator stands in the way, there is another."""
    try:
        return task.tried() if task.ctx.dry_run else task.done()
    except NoGradient as error:
        others = [reason for _, reason in other_forms(task.model)]
        layers = f"{error.hint}; or train layer by layer, which needs no gradient between layers: blocks: layer"
        hint = f"{others[0]}; {layers}" if others else layers
        raise PassError(error.message, hint=hint) from error
