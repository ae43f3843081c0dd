"""finetune_quantized: integer weights learn to give what the float model gives (quantization-aware fine-tuning).

Forward the weights are rounded, backward the rounding counts as the identity (straight-through estimator, Bengio et
al. 2013, arXiv:1308.3432; Jacob et al. 2018, arXiv:1712.05877), the teacher is the model before quantization (Mishra
and Marr 2018, Apprentice, arXiv:1711.05852). ``unrounded`` makes the graph that is trained, ``task`` trains it.
"""

from __future__ import annotations

from pydantic import Field

from ...errors import NoGradient, PassError
from ...model import Model
from ...passes import Change, Context, Need, Promise, register
from ..lesson.task import Task, lesson_of, training_data
from ..lesson.teacher import load_teacher
from ..options import Taught, Teacher, Temperature
from ..training.train_settings import Descent, Epochs, TrainSettings
from .blockwise import Blockwise
from .fake_quantization import other_forms
from .trained_blocks import BlockName
from .unrounded import Steps, Unrounded, stored_weights, unrounded, write_rounded


class FinetuneOptions(Taught, Descent):
    """What finetune_quantized takes."""

    teacher: Teacher = Field(
        None, description="ONNX file that teaches, relative to the recipe; null: the model before quantization."
    )
    learn_scales: bool = Field(False, description="Train the step sizes of weights too (LSQ).")
    learn_activation_scales: bool = Field(
        False, description="Train the step sizes of activations too (LSQ), where quantize_static has fixed them."
    )
    blocks: BlockName | None = Field(
        None,
        description="Train block after block, for models too large to be trained as one: each layer, or what lies "
        "between two residual sums; null: the whole model.",
    )
    epochs: Epochs = 10
    temperature: Temperature = 1.0


@register("finetune_quantized", promises=Promise.IMPROVES, needs={Need.TRAINING, Need.UNQUANTIZED})
def finetune_quantized(model: Model, ctx: Context, options: FinetuneOptions) -> Change:
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
    declined = Change()
    stored_weights(model, Change())  # without any it is not the teacher that is missing
    exact = load_teacher(options.teacher, ctx) if ctx.earlier is None else ctx.earlier
    steps = Steps(options.learn_scales, options.learn_activation_scales)
    student = unrounded(model, options.train, steps, declined, exact)
    change = _by_blocks(student, ctx, options) if options.blocks else _whole(student, ctx, options)
    change.declined += declined.declined
    if not ctx.dry_run and change.touched:
        write_rounded(student, model, change)
    return change


def _by_blocks(student: Unrounded, ctx: Context, options: FinetuneOptions) -> Change:
    _refuse(loss=options.loss, batch=options.batch, match=options.match or None)
    teacher, data = load_teacher(options.teacher, ctx), training_data(ctx)
    assert options.blocks is not None
    return Blockwise(student, teacher, data, ctx, TrainSettings.of(options), options.hold_out).run(options.blocks)


def _whole(student: Unrounded, ctx: Context, options: FinetuneOptions) -> Change:
    lesson = lesson_of(student.model, ctx, options)
    task = Task.of(options, student.model, ctx, lesson, student.names, mask=student.mask)
    change = _trained(task)
    change.chosen |= {"loss": dict(task.weights)}
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
