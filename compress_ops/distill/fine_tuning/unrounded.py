"""A quantized model while it is trained: a copy whose integers and codebooks are float weights, and the way back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

from ...arrays import Array
from ...autodiff import trainable
from ...errors import PassError
from ...graph.codebooks import Codebook, find_codebooks
from ...lazy import ir
from ...model import Model
from ...passes import Change
from ..lesson.held_out import weights_of
from ..lesson.masks import Mask, zeros_of
from ..training.train import write_weights
from .fake_quantization import (
    PORTABLE,
    Codes,
    filled_mask,
    find_codes,
    has_integer_bias,
    other_forms,
    refuse_contributed,
    with_floats,
)
from .float_weights import float_weights, pruned
from .integer_biases import Bias, find_biases, stored, with_float_biases
from .learned_codebooks import units_of, with_units
from .learned_steps import activation_scales, with_factors, with_weight_factors
from .packed_codes import Packed, find_packed, with_packed


@dataclass(frozen=True)
class Steps:
    """Whose step sizes are trained too."""

    of_weights: bool = False
    of_activations: bool = False


@dataclass(frozen=True)
class Unrounded:
    """``model`` holds what is trained, by the names of the quantized model. ``factors`` belong to scales, by these.

    ``biases`` are all that can be rounded anew, for they go by the scales; ``floats`` names those that are trained.
    ``packed`` are looked up from bytes, and their scales are always trained. ``mask`` holds pruned weights at zero.
    """

    model: Model
    codes: list[Codes]
    packed: list[Packed]
    books: list[Codebook]
    biases: list[Bias]
    floats: list[str]
    factors: Mapping[str, str]
    mask: Mask

    @property
    def names(self) -> list[str]:
        """All that is trained."""
        return [*self.stored, *self.floats, *self.factors.values()]

    @property
    def stored(self) -> list[str]:
        """What is stored as codes or codebooks."""
        codes = [*(weight.name for weight in self.codes), *(weight.name for weight in self.packed)]
        return [*codes, *(book.name for book in self.books)]


def unrounded(
    model: Model, train: Sequence[str], steps: Steps, change: Change, before: Model | None = None
) -> Unrounded:
    """What patterns ask for; what cannot be trained is declined, and that there is nothing at all is an error."""
    codes, packed, books = stored_weights(model, change)
    biases, scales = find_biases(model), activation_scales(model) if steps.of_activations else []
    own = {*(book.name for book in books), *(weight.name for weight in packed)}
    own_scales = {weight.scale for weight in packed}
    floats = [*(name for name in trainable(model) if name not in own | own_scales), *(bias.name for bias in biases)]
    chosen = _chosen([*(weight.name for weight in codes), *own, *floats, *scales], train)
    codes, books = [each for each in codes if each.name in chosen], [each for each in books if each.name in chosen]
    packed = [each for each in packed if each.name in chosen]
    copy = with_floats(model, codes, float_weights(codes, before))
    with_packed(copy, packed, before)
    with_units(copy, books)
    with_float_biases(copy, biases)
    mask = _mask(copy, codes, packed, floats, before)
    factors = with_weight_factors(copy, _free(codes, biases, change)) if steps.of_weights else {}
    factors |= with_factors(copy, [name for name in scales if name in chosen])
    factors |= with_factors(copy, list(dict.fromkeys(weight.scale for weight in packed if weight.scale)))
    return Unrounded(copy, codes, packed, books, biases, [name for name in floats if name in chosen], factors, mask)


def _mask(
    copy: Model, codes: Sequence[Codes], packed: Sequence[Packed], floats: Sequence[str], before: Model | None
) -> Mask:
    """Not every code of zero was a pruned weight; codebooks hold their zeros by themselves."""
    kept = pruned(codes, before)
    held = {weight.name: filled_mask(weight, kept[weight.name]) for weight in codes if weight.name in kept}
    for weight in packed:
        if (keep := weight.kept(before)) is not None:
            held[weight.name] = keep
    return Mask({**zeros_of(copy, floats).kept, **held})


def stored_weights(model: Model, change: Change) -> tuple[list[Codes], list[Packed], list[Codebook]]:
    """The quantized weights that can be trained; other forms are declined, and that there is none is an error."""
    refuse_contributed(model)
    others, declined = dict(other_forms(model)), Change()
    codes, packed, books = find_codes(model, declined), find_packed(model), find_codebooks(model)
    faults = [*others.values(), *(f"{held.name}: {held.reason}" for held in declined.declined)]
    change.declined += declined.declined
    for name, reason in others.items():
        change.decline(name, reason)
    if not codes and not packed and not books:
        raise PassError(
            "the model has no quantized weights: no integers behind DequantizeLinear, no packed codes, no codebooks",
            hint=_hint(faults),
        )
    return codes, packed, books


def _hint(faults: Sequence[str]) -> str:
    behind = (
        "put a step that quantizes in front of it, such as - quantize_weights: {storage: qdq}, - quantize_static, "
        "- cluster_weights, - ternarize_weights or - binarize_weights; a model of floats is trained by - distill"
    )
    return faults[0] if faults else behind


def _chosen(names: Sequence[str], patterns: Sequence[str]) -> set[str]:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            some = ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
            raise PassError(f"train: '{pattern}' matches no weight that can be trained", hint=f"there are: {some}")
    return {name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)}


def _free(codes: list[Codes], biases: list[Bias], change: Change) -> list[Codes]:
    """Those whose scales may move: an integer bias that cannot be rounded anew holds the scale of its weight."""
    movable = {bias.factors[1] for bias in biases}
    bound = {weight.scale for weight in codes if weight.scale not in movable and has_integer_bias(weight.node)}
    for name in sorted(bound):
        change.decline(name, "an int32 bias has the scale of input times weight and is read otherwise too: both stay")
    return [weight for weight in codes if weight.scale not in bound]


def write_rounded(trained: Unrounded, model: Model, change: Change) -> None:
    """Put what was trained into the quantized model, and say what became of each weight that changed."""
    change.touched = {}
    found = weights_of(trained.model, list(trained.factors.values()))
    learned = {scale: found[factor] for scale, factor in trained.factors.items()}
    _write_codes(trained, learned, model, change)
    _write_packed(trained, model, change)
    _write_floats(trained, learned, model, change)
    _write_biases(trained, model, change)


def _write_codes(trained: Unrounded, learned: Mapping[str, Array], model: Model, change: Change) -> None:
    numbers, one = weights_of(trained.model, [weight.name for weight in trained.codes]), np.ones(1, np.float32)
    rounded = {weight: weight.rounded(numbers[weight.name], learned.get(weight.scale, one)) for weight in trained.codes}
    _keep_word(model, rounded, change)
    for weight, after in rounded.items():
        if _differ(weight.name, weight.tensor.numpy(), after, change):
            model.graph.initializers[weight.name].const_value = ir.Tensor(after, weight.tensor.dtype, name=weight.name)


def _write_packed(trained: Unrounded, model: Model, change: Change) -> None:
    for weight in trained.packed:
        codes = weight.rounded(weights_of(trained.model, [weight.name])[weight.name])
        if _differ(weight.name, weight.numbers, codes, change):
            write_weights(model, weight.stored(codes))


def _differ(name: str, before: Array, after: Array, change: Change) -> bool:
    if share := float((after != before).mean()):
        change.touch(name, f"{share:.1%} of the codes")
    return share > 0


def _write_floats(trained: Unrounded, learned: Mapping[str, Array], model: Model, change: Change) -> None:
    """Scales, codebooks and what was float all along."""
    scales, books = weights_of(model, list(learned)), {book.name: book for book in trained.books}
    integers = {bias.name for bias in trained.biases}
    new = weights_of(trained.model, [name for name in trained.floats if name not in integers])
    for name, numbers in weights_of(trained.model, list(books)).items():
        new[name] = numbers * units_of(books[name].values)
    old = weights_of(model, list(new))
    for name, numbers in new.items():
        if not np.array_equal(numbers, old[name]):
            change.touch(name, _told(old[name], numbers) if name in books else "trained")
    for name, factor in learned.items():
        if (factor != 1).any():
            change.touch(name, f"steps changed by up to {np.abs(factor - 1).max():.1%}")
    write_weights(model, {**new, **{name: scales[name] * factor for name, factor in learned.items()}})


def _write_biases(trained: Unrounded, model: Model, change: Change) -> None:
    """After the scales, for which they are rounded."""
    numbers = weights_of(trained.model, [bias.name for bias in trained.biases])
    for bias in trained.biases:
        new = stored(bias, numbers[bias.name], model)
        old = weights_of(model, list(new))
        if any(not np.array_equal(array, old[name]) for name, array in new.items()):
            write_weights(model, new)
            change.touch(bias.name, "trained" if bias.name in trained.floats else "rounded for the new scales")


def _told(old: Array, new: Array) -> str:
    return f"values moved by {np.linalg.norm(new - old) / np.linalg.norm(old):.1%} of their length"


def _keep_word(model: Model, rounded: Mapping[Codes, Array], change: Change) -> None:
    """Take back what the model says of other processors where it no longer holds."""
    grown = [weight.name for weight, after in rounded.items() if weight.grew(after)]
    if grown and model.ir.metadata_props.get(PORTABLE) == "true":
        model.ir.metadata_props[PORTABLE] = "false"
        change.notes["portable"] = f"no longer: the codes of {', '.join(grown)} grew; outputs may differ without VNNI"
