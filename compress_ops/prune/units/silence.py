"""Silence channels instead of cutting them, so that a later step can give them back.

Soft filter pruning (He et al. 2018, arXiv:1808.06866) zeroes filters and lets training revive them. Here what reads a
channel becomes zero, and what makes it stays: the model computes what it would without the channel (operators that see
channels together aside), ``refit`` and training see it that way, and the channel's filter and activations can be scored
again. What was zeroed is kept in ``Model.silenced`` until ``give_back``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...arrays import Array
from ...graph.layers.weights import RECURRENT
from ...lazy import ir
from ...model import Model
from ..channels import Group, Member


def why_loud(group: Group) -> str:
    """Why a group's channels cannot be silenced; empty where they can."""
    readers = _readers(group)
    if any(node.op_type in RECURRENT for node in group.nodes):
        return "its units are fed back: they can be cut, not silenced"
    if not readers:
        return "no weight reads these channels: they can be cut, not silenced"
    floats = all(reader.weight.dtype is not None and reader.weight.dtype.is_floating_point() for reader in readers)
    return "" if floats else "a quantized weight reads these channels: they can be cut, not silenced"


def silence(model: Model, groups: Sequence[Group], units: Array, kind: str) -> dict[str, str]:
    """Make zero what reads these units; tells for each weight how much of it."""
    model.keep_reference()
    masks: dict[ir.Value, Array] = {}
    for group in groups:
        rows = np.isin(group.units, units)
        for reader in _readers(group) if rows.any() else ():
            mask = masks.setdefault(reader.weight, np.zeros(_shape(reader.weight), bool))
            _mark(mask, reader, reader.indices[rows].reshape(-1))
    return {
        weight.name or "?": _zero(model.silenced.setdefault(kind, {}), weight, mask) for weight, mask in masks.items()
    }


def give_back(model: Model, kind: str) -> None:
    """Undo the silencing of channels, or of heads; a weight that was cut meanwhile stays as it is."""
    weights = {weight.name: weight for weight in model.weights()}
    for name, kept in model.silenced.pop(kind, {}).items():
        weight = weights.get(name)
        if weight is not None and weight.const_value is not None and weight.const_value.shape == kept.shape:
            array = np.where(kept.numpy() != 0, kept.numpy(), weight.const_value.numpy())
            weight.const_value = ir.Tensor(array, name=name)


def _readers(group: Group) -> list[Member]:
    return [member for member in group.members if member.role == "reads"]


def _shape(weight: ir.Value) -> tuple[int, ...]:
    assert weight.const_value is not None
    return tuple(int(size) for size in weight.const_value.shape.numpy())


def _mark(mask: Array, reader: Member, indices: Array) -> None:
    """Indices of a grouped convolution's weight count along (group, channel of the group)."""
    if reader.groups == 1:
        np.moveaxis(mask, reader.axis, 0)[indices] = True
        return
    by_group = mask.reshape(reader.groups, -1, *mask.shape[1:])
    by_group[indices // mask.shape[1], :, indices % mask.shape[1]] = True


def _zero(silenced: dict[str, ir.TensorProtocol], weight: ir.Value, mask: Array) -> str:
    assert weight.const_value is not None and weight.name is not None
    array = weight.const_value.numpy()
    zero = array.dtype.type(0)
    silenced[weight.name] = ir.Tensor(np.where(mask, array, zero), name=weight.name)
    weight.const_value = ir.Tensor(np.where(mask, zero, array), name=weight.name)
    return f"silences {mask.mean():.0%} of what it reads"
