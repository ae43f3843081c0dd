"""A form given to every layer that takes it, in the model of layers apart: bytes, errors and seconds of each layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...arrays import Array
from ...files.stored_half import stored_bytes
from ...lazy import ir
from ...model import Model, node_bytes
from ...runtime import Arrays, Session
from .layers import Apart
from .observed import Observed


def bytes_of_layers(model: Model, of: Sequence[Sequence[str]]) -> Array:
    """Of each layer of a model of layers apart what is stored for it, [layers]; what several share counts for each.

    That is its weights, and about what its nodes take in the file.
    """
    made = {value.name: value for node in model.graph for value in node.outputs}
    return np.array([_bytes_behind([made[name] for name in names]) for names in of], np.int64)


def _bytes_behind(values: Sequence[ir.Value]) -> int:
    seen: set[ir.Value] = set()
    todo = list(values)
    while todo:
        value = todo.pop()
        if value not in seen:
            seen.add(value)
            made = value.producer()
            todo.extend(one for one in (made.inputs if made is not None else ()) if one is not None)
    nodes = {made for value in seen if (made := value.producer()) is not None}
    return sum(stored_bytes(value) for value in seen if value.is_initializer()) + sum(map(node_bytes, nodes))


def losses_of_layers(session: Session, observed: Observed, apart: Apart) -> Array:
    """The noise over signal at the model's outputs that each layer causes when it gives what the session gives.

    [layers]; without slopes, the noise over signal at the layer itself.
    """
    total = np.zeros(len(apart.of))
    for seen in observed.seen:
        given = session.run(session.taken(seen.read))
        errors = {name: given[name].astype(np.float32) - seen.give[name] for name in apart.outputs}
        total += [_loss(names, errors, seen.give, seen.slopes) for names in apart.of]
    return total / len(observed.seen)


def _loss(names: Sequence[str], errors: Arrays, exact: Arrays, slopes: Sequence[Arrays]) -> float:
    if not slopes:
        energy = sum(float(np.vdot(exact[name], exact[name])) for name in names)
        return sum(float(np.vdot(errors[name], errors[name])) for name in names) / (energy or 1.0)
    moved = [sum(float(np.vdot(slope[name], errors[name])) for name in names if name in slope) for slope in slopes]
    return float(np.mean(np.square(moved)))
