"""equalize: consecutive layers share out their ranges channel by channel, without changing the function.

For f with f(s x) = s f(x), s > 0 (Relu, LeakyRelu, PRelu, nothing), and any positive s, one factor per channel between:
    W2 f(W1 x + b1) + b2  =  (W2 diag(s)) f(diag(1/s) W1 x + b1 / s) + b2
Cross-layer equalization (Nagel et al. 2019, arXiv:1906.04721) takes s_i = sqrt(r1_i / r2_i), with r1_i = max|W1| over
what gives channel i and r2_i = max|W2| over what reads it: both ranges become sqrt(r1_i r2_i). In chains of layers one
pair disturbs the next, so all pairs are gone through again until the factors are nearly 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from ...arrays import Array
from ...graph.edit import constant_of
from ...graph.layers.scaling import scale_weight
from ...graph.layers.view import view_of_weight
from ...lazy import ir
from ...model import Model
from ...passes import Change, Context, Promise, Selection, register, selected
from .equalize_links import Link, find_links

_SETTLED = 1e-3  # largest |log s| of a round that needs no other round
_EQUAL = 0.05  # largest |log s| of a chain that is left alone whatever the gain: ranges differ by less than 10 %
_DEAD = 1e-5  # of the largest channel: smaller ranges are rounding errors of zero, whose bias must not be blown up


class EqualizeOptions(Selection):
    """What equalize takes."""

    rounds: Annotated[
        int, Field(ge=1, description="Rounds over a chain at most; 50 settle chains of dozens of layers.")
    ] = 50
    limit: Annotated[
        float,
        Field(
            gt=1,
            description="Largest factor of a channel, up or down. 32 is five bits: its bias and activations change by"
            " it too, and must not leave their range.",
        ),
    ] = 32.0
    least_gain: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="Share of the weights' predicted noise that must go. A fifth by default: less is lost again "
            "in the activations.",
        ),
    ] = 0.2


@register("equalize", promises=Promise.IMPROVES)
def equalize(model: Model, ctx: Context, options: EqualizeOptions) -> Change:
    """Even out weight ranges across the channels of consecutive layers, before int8 quantization.

    Cross-layer equalization (Nagel et al. 2019, arXiv:1906.04721) of Conv, ConvTranspose, Gemm and MatMul, depthwise
    ones included, that follow one another directly or through Relu, LeakyRelu, PRelu, pooling and Flatten. The function
    stays the same to float rounding; needs no data. It helps where a whole weight has one scale (``per_channel: false``
    of quantize_static) and channels differ much; with a scale per output channel little is left to gain. Activations
    change too, and get wider ranges where they were even, which is why chains with little to gain are left alone
    (digits-cnn: 15 % less weight noise, and all in all 2 dB lost). Channels without weights stay as they are. Run
    simplify first, which folds BatchNormalization.
    The report gives the mean precision of each pair, (r1_i / max r1) (r2_i / max r2), before and after.
    """
    change = Change()
    links = [*find_links(model, lambda node: selected(node, options.only, options.skip), change.decline)]
    for chain in ctx.progress([*_chains(links)], "equalize"):
        _equalize_chain(model, chain, options, change)
    model.drop_unused()
    return change


def _chains(links: Sequence[Link]) -> Iterator[list[Link]]:
    """Links in runs in which each begins where the one before ends."""
    following = {link.first: link for link in links}
    inner = {link.second for link in links}
    for link in links:
        if link.first not in inner:
            chain = [link]
            while chain[-1].second in following:
                chain.append(following[chain[-1].second])
            yield chain


@dataclass
class _State:
    """``sizes``: |W| of each layer as [groups, outputs, inputs], scaled so far; ``factors``: s of each link so far."""

    sizes: list[Array]
    factors: list[Array]


def _equalize_chain(model: Model, chain: list[Link], options: EqualizeOptions, change: Change) -> None:
    nodes = [chain[0].first, *(link.second for link in chain)]
    state = _State([_sizes_of(node) for node in nodes], [np.ones(link.channels) for link in chain])
    reason, before = "its chain has NaN or infinite weights", [*_precisions(state, chain)]
    if all(np.isfinite(size).all() for size in state.sizes):
        reason = _settle(state, chain, options)
    if reason:
        for node in nodes:
            change.decline(node.name, f"{node.op_type}: {reason}")
        return
    _write(model, chain, state.factors)
    told = change.notes.setdefault("precision", {})
    for link, was, now in zip(chain, before, _precisions(state, chain), strict=True):
        told[f"{link.first.name} -> {link.second.name}"] = f"{was:.0%} -> {now:.0%}"
        change.touch(link.first.name, f"evened out with {link.second.name}")
        change.touch(link.second.name, f"evened out with {link.first.name}")


def _sizes_of(node: ir.Node) -> Array:
    """float64 [groups, outputs of a group, inputs of a group]: the largest |w| over the kernel."""
    tensor = constant_of(node.inputs[1])
    assert tensor is not None
    return np.abs(view_of_weight(node).of(tensor.numpy())).max(axis=3).astype(np.float64)


def _settle(state: _State, chain: Sequence[Link], options: EqualizeOptions) -> str:
    """Go through the links until the factors are settled; returns why they are not worth it, empty where they are."""
    before = np.array([*_noises(state, chain)])
    for _ in range(options.rounds):
        if max(_equalize_link(state, i, link, options.limit) for i, link in enumerate(chain)) < _SETTLED:
            break
    gain = max(float(np.max(1 - np.array([*_noises(state, chain)]) / before)), 0.0)
    largest = max(float(np.abs(np.log(factor)).max()) for factor in state.factors)
    if gain >= options.least_gain and largest >= _EQUAL:
        return ""
    return f"ranges of channels are even already; {gain:.0%} of noise to gain"


def _equalize_link(state: _State, index: int, link: Link, limit: float) -> float:
    """One step of the rule for one link; returns the largest |log s|."""
    first, second = state.sizes[index : index + 2]
    gives, reads = _ranges_of(link, first, second)
    alive = (gives > _DEAD * gives.max()) & (reads > _DEAD * reads.max())
    wanted = np.sqrt(np.where(alive, gives, 1) / np.where(alive, reads, 1)) * state.factors[index]
    factor = np.clip(wanted, 1 / limit, limit) / state.factors[index]
    state.factors[index] = state.factors[index] * factor
    state.sizes[index] = first / factor.reshape(*first.shape[:2], 1)
    state.sizes[index + 1] = second * np.repeat(factor, link.repeats).reshape(second.shape[0], 1, -1)
    return float(np.abs(np.log(factor)).max())


def _precisions(state: _State, chain: Sequence[Link]) -> Iterator[float]:
    """For each link, the mean over channels of (r1_i / max r1) (r2_i / max r2): 1 where both are perfectly even."""
    for gives, reads in _ranges(state, chain):
        largest = float(gives.max() * reads.max())
        yield float(np.mean(gives * reads)) / largest if largest > 0 else 1.0


def _noises(state: _State, chain: Sequence[Link]) -> Iterator[float]:
    """For each link, noise of outputs when both weights are rounded with one scale each, to a common factor.

    Steps are R1 = max r1 and R2 = max r2, what they are multiplied with is r2 and (for the activations) r1:
    R1^2 sum r2_i^2 + R2^2 sum r1_i^2.
    """
    for gives, reads in _ranges(state, chain):
        noise = gives.max() ** 2 * np.square(reads).sum() + reads.max() ** 2 * np.square(gives).sum()
        yield float(noise) or 1.0


def _ranges(state: _State, chain: Sequence[Link]) -> Iterator[tuple[Array, Array]]:
    """r1 and r2 of each link as they are by now."""
    for link, first, second in zip(chain, state.sizes, state.sizes[1:], strict=False):
        yield _ranges_of(link, first, second)


def _ranges_of(link: Link, first: Array, second: Array) -> tuple[Array, Array]:
    return first.max(axis=2).reshape(-1), second.max(axis=1).reshape(-1, link.repeats).max(axis=1)


def _write(model: Model, chain: list[Link], factors: list[Array]) -> None:
    """Each layer once: its outputs divided by the factors of the link behind it, its inputs times those before it.

    Constants that are added behind a MatMul are its bias.
    """
    inputs: Array | float = 1.0
    for link, factor in zip(chain, factors, strict=True):
        if len(link.first.inputs) > 2:
            _divide(model, link.first, 2, factor, f"{link.first.name}_bias")
        scale_weight(link.first, 1 / factor, inputs)
        for node, index in link.additions:
            _divide(model, node, index, factor, "bias")
        inputs = np.repeat(factor, link.repeats)
    scale_weight(chain[-1].second, inputs=inputs)


def _divide(model: Model, node: ir.Node, index: int, factor: Array, wish: str) -> None:
    """A new bias, since others may read the old one. Every form of Gemm's broadcasts along its last axis."""
    old = constant_of(node.inputs[index])
    if old is not None:
        assert isinstance(node.graph, ir.Graph)
        tensor = ir.Tensor((old.numpy() / factor).astype(old.dtype.numpy()))
        node.replace_input_with(index, model.add_weight(old.name or wish, tensor, node.graph))
