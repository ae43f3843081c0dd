"""A form given to every layer that takes it, in the model of layers apart: bytes, errors and seconds of each layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ...arrays import Array
from ...files.stored_half import stored_bytes
from ...lazy import ir
from ...model import Model, node_bytes
from ...runtime import Arrays, Session
from .apart import Apart
from .observed import Observed, Seen


def bytes_of_layers(model: Model, of: Sequence[Sequence[str]]) -> Array:
    """Of each layer of a model of layers apart what is stored for it, [layers]; what several share counts for each.

    That is its weights, and about what its nodes take in the file.
    """
    found = []
    for values in _behind(model, of):
        nodes = {made for value in values if (made := value.producer()) is not None}
        found.append(sum(map(stored_bytes, _stored(values))) + sum(map(node_bytes, nodes)))
    return np.array(found, np.int64)


def shared_bytes(model: Model, of: Sequence[Sequence[str]]) -> Array:
    """How much less that is where weights that several share are divided among them, [layers]."""
    stored = [_stored(values) for values in _behind(model, of)]
    readers = Counter(value for each in stored for value in each)
    return np.array([sum(stored_bytes(value) * (1 - 1 / readers[value]) for value in each) for each in stored])


def _stored(values: set[ir.Value]) -> list[ir.Value]:
    return [value for value in values if value.is_initializer()]


def _behind(model: Model, of: Sequence[Sequence[str]]) -> list[set[ir.Value]]:
    """Of each layer all values that lead to what it gives."""
    made = {value.name: value for node in model.graph for value in node.outputs}
    return [_leading_to([made[name] for name in names]) for names in of]


def _leading_to(values: Sequence[ir.Value]) -> set[ir.Value]:
    seen: set[ir.Value] = set()
    todo = list(values)
    while todo:
        value = todo.pop()
        if value not in seen:
            seen.add(value)
            made = value.producer()
            todo.extend(one for one in (made.inputs if made is not None else ()) if one is not None)
    return seen


def losses_of_layers(session: Session, observed: Observed, apart: Apart) -> Array:
    """The noise over signal at the model's outputs that each layer causes when it gives what the session gives.

    [layers]; without slopes, the noise over signal at the layer itself.
    """
    told = [seen for seen in observed.seen if seen.slopes] or observed.seen
    total = np.zeros(len(apart.of))
    for seen, weight in zip(told, _weights(told), strict=True):
        given = session.run(session.taken(seen.read))
        errors = {name: given[name].astype(np.float32) - seen.give[name] for name in apart.outputs}
        total += weight * np.array([_loss(names, errors, seen.give, seen.slopes) for names in apart.of])
    return total


def _weights(seen: Sequence[Seen]) -> Array:
    """The share of each run in the energy of the outputs, so that faint ones do not decide."""
    energies = np.array([one.energies if one.slopes and one.energies else (1.0,) for one in seen])
    of_outputs = energies.sum(axis=0)
    told = np.isfinite(of_outputs) & (of_outputs > 0)
    shares = energies[:, told] / of_outputs[told]
    return np.asarray(shares.mean(axis=1)) if shares.size else np.full(len(seen), 1 / len(seen))


def _loss(names: Sequence[str], errors: Arrays, exact: Arrays, slopes: Sequence[Arrays]) -> float:
    if not slopes:
        energy = sum(float(np.vdot(exact[name], exact[name])) for name in names)
        return sum(float(np.vdot(errors[name], errors[name])) for name in names) / (energy or 1.0)
    moved = [sum(float(np.vdot(slope[name], errors[name])) for name in names if name in slope) for slope in slopes]
    return float(np.mean(np.square(moved)))
