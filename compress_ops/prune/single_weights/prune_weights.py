"""prune_weights: the weights that matter least become zero.

With a score s >= 0 for each weight and a limit t, w' = w where s > t, else 0. For a ratio r, t is the r-quantile of s:
in each tensor, in each output, or in all tensors together. With N:M there is no limit: the N highest of every M stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from pydantic import BeforeValidator, Field

from ...arrays import Array
from ...errors import PassError
from ...lazy import ir
from ...model import Model
from ...passes import Change, Context, Fraction, Gain, Need, Promise, Selection, ShareOf, register
from ..scores.evidence import require_data
from .inputs import with_norms
from .layout import Weight, find_weights
from .pattern import SYNTAX, Pattern, readable
from .rules import Scope, Settings, rules_for
from .sparsegpt import compensated, with_hessians

ScoreName = Literal["magnitude", "activation", "hessian"]
New: TypeAlias = "Callable[[], Array]"  # makes a weight anew, in its own shape and type


def _needs(options: Any) -> set[Need]:
    return {Need.CALIBRATION} if _SCORES[options.score].needs_data else set()


class WeightsOptions(Selection):
    """What prune_weights takes."""

    ratio: Annotated[Fraction | None, Field(description="Share of weights that become zero; N:M implies it.")] = None
    threshold: Annotated[
        float | None, Field(gt=0, description="Weights up to this magnitude become zero (blocks: root mean square).")
    ] = None
    pattern: Annotated[
        str,
        BeforeValidator(readable, json_schema_input_type=str),
        Field(
            pattern=SYNTAX,
            description="unstructured; N:M, such as 2:4, keeps N of every M neighbours along a layer's inputs; RxC, "
            "such as 4x4, takes blocks of R outputs and C inputs.",
        ),
    ] = "unstructured"
    score: Annotated[
        ScoreName,
        Field(
            description="magnitude: |w|. activation: |w| times the norm of the input that it is multiplied with "
            "(Wanda). hessian: the output error left once the weights that stay have made up for it (SparseGPT)."
        ),
    ] = "magnitude"
    scope: Annotated[
        Scope,
        Field(
            description="Where the ratio holds: in each tensor, in each output of a layer (as in the Wanda paper), or "
            "over all tensors together (global)."
        ),
    ] = "tensor"
    normalize: Annotated[
        bool,
        Field(
            description="With scope global: divide each tensor's scores by their Euclidean norm, so that relative "
            "errors compare (half of all weights gone: a language model's perplexity is 3.9, without it 5.4)."
        ),
    ] = True


@register("prune_weights", promises=Promise.SHRINKS, asks=_needs, share_of=ShareOf.WHOLE, gives=Gain.ZEROS)
def prune_weights(model: Model, ctx: Context, options: WeightsOptions) -> Change:
    """Set single weights to zero, by ratio, threshold or N:M, anywhere or in blocks.

    By magnitude (Han et al. 2015, arXiv:1506.02626), by |w| |x| on calibration data (Wanda, Sun et al. 2023,
    arXiv:2306.11695), or with the weights that stay changed to make up for those that go (SparseGPT, Frantar & Alistarh
    2023, arXiv:2301.00774). Shapes stay: onnxruntime computes with zeros as with other numbers, so the model is no
    faster and the plain file no smaller. What shrinks is the compressed (zstd) size, and the file itself once
    pack_sparse stores the zeros as bits. Give one of ratio, threshold and a pattern N:M. Weights of Conv,
    ConvTranspose, Gemm, MatMul, Gather, LSTM, GRU and RNN are pruned; biases and normalization are not. The scores
    activation and hessian need data, and leave ConvTranspose, Gather and recurrent layers alone, hessian grouped
    convolutions too. Weights that are zero already count towards the ratio and stay zero, so that steps with a growing
    ratio can follow one another.
    """
    settings = Settings(
        Pattern.parse(options.pattern), options.scope, options.ratio, options.threshold, options.normalize
    )
    _check(settings, options.score, ctx)
    change = Change()
    model.keep_reference()
    found = find_weights(model, options.only, options.skip, change)
    weights = [weight for weight in found if _suits(weight, settings, change)]
    zeros = elements = 0
    pruned = [*_pruned(model, ctx, weights, _SCORES[options.score], settings, change)]
    for weight, new in ctx.progress(pruned, "prune_weights"):
        zeros += _write(weight, new, settings, change)
        elements += weight.tensor.size
    change.notes = {"sparsity": round(zeros / elements, 4) if elements else 0.0, "weights": elements}
    return change


def _suits(weight: Weight, settings: Settings, change: Change) -> bool:
    reason = settings.pattern.why_not(weight.layout)
    if not reason and (settings.pattern.is_structured or settings.scope == "output") and not weight.agreed():
        reason = "it is read by rows and by columns"
    if reason:
        change.decline(weight.value.name, reason)
    return not reason


def _pruned(
    model: Model, ctx: Context, weights: Sequence[Weight], by: _Score, settings: Settings, change: Change
) -> Iterator[tuple[Weight, New]]:
    """Weights with what makes them anew; the model stays as it came meanwhile, so that data sees that."""
    looked_at = by.looks_at(model, ctx, weights, change)
    if by.by_layer:
        for weight, hessian in looked_at:
            array = compensated(weight.tensor.numpy(), weight.layout, hessian, settings.pattern, settings.choose)
            yield weight, partial(np.asarray, array)  # it depends on data, so it is kept
    else:
        for rule in rules_for(looked_at, settings):
            yield rule.weight, rule.pruned


@dataclass(frozen=True)
class _Score:
    """What a score looks at beside each weight: factors of its magnitudes, or, where it goes ``by_layer``, Hessians."""

    looks_at: Callable[[Model, Context, Sequence[Weight], Change], Iterable[tuple[Weight, Any]]]
    needs_data: bool = True
    by_layer: bool = False


_SCORES: dict[ScoreName, _Score] = {
    "magnitude": _Score(lambda model, ctx, weights, change: [(weight, None) for weight in weights], needs_data=False),
    "activation": _Score(with_norms),
    "hessian": _Score(with_hessians, by_layer=True),
}


def _check(settings: Settings, score: ScoreName, ctx: Context) -> None:
    """Raise PassError where options do not go together, or data is missing."""
    given = [settings.ratio is not None, settings.threshold is not None, settings.pattern.kept > 0]
    if settings.pattern.kept and sum(given) > 1:
        raise PassError("a pattern N:M implies the ratio", hint="leave out ratio and threshold")
    if sum(given) != 1:
        raise PassError("give one of ratio and threshold", hint="for example prune_weights: {ratio: 0.5}")
    if settings.threshold is not None and _SCORES[score].needs_data:
        raise PassError(f"a threshold is a magnitude, and score is {score}", hint="give a ratio")
    if _SCORES[score].by_layer and settings.scope == "global":
        raise PassError(
            f"score {score} chooses layer by layer: the weights that stay change as others go",
            hint="take scope tensor, or score activation or magnitude",
        )
    if _SCORES[score].needs_data:
        require_data(ctx, score)


def _write(weight: Weight, new: New, settings: Settings, change: Change) -> int:
    """Let the weight be what ``new`` gives, when it is needed; returns how many elements of it are zero then."""
    source = weight.tensor
    before, after = np.count_nonzero(source.numpy()), np.count_nonzero(new())
    zeros = source.size - int(after)
    if before == after:
        change.decline(weight.value.name, "its lowest weights are zero already")
    elif after == 0 and settings.by_rank:
        change.decline(weight.value.name, "its largest magnitude is so frequent that nothing would be left")
        return source.size - int(before)
    else:
        change.touch(weight.value.name, f"{zeros} of {source.size} are zero")
        weight.value.const_value = ir.LazyTensor(
            lambda: ir.Tensor(new(), name=source.name),
            dtype=source.dtype,
            shape=ir.Shape(source.shape.numpy()),
            name=source.name,
        )
    return zeros
